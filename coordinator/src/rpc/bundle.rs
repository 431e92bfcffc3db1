//! Bundles, as operators call them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use windlass_proto::bundle::{Chunk, Envelope, Manifest, Signed};
use windlass_proto::digest::Digest;
use windlass_proto::grant::Grant;
use windlass_proto::limits::MANIFEST_BYTES;
use windlass_proto::release::ReleaseRef;
use windlass_proto::rpc::bundle_service_server::BundleService;
use windlass_proto::rpc::{self, ErrorKind};
use windlass_proto::spec::check;

use super::audit::{act, act_without_message};
use super::{Shared, app_filter, pieces, show};
use crate::fleet::Refusal;
use crate::fleet::record::BundleRecord;
use crate::objects::Stored;

/// An envelope is base64 of the manifest, and signatures.
const ENVELOPE_BYTES: usize = MANIFEST_BYTES / 3 * 4 + (1 << 20);
/// The next message of an upload must come within this time.
const STALLED: Duration = Duration::from_secs(60);

/// Batches of one upload that are being written while the next is read: disks sync many files as fast as one.
const WRITING: usize = 4;

/// The service.
#[derive(Debug, Clone)]
pub struct Bundles(pub Shared);

fn bad_request(error: impl std::fmt::Display) -> Status {
    ErrorKind::Invalid.status(error.to_string())
}

async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    let message = tokio::time::timeout(STALLED, stream.message()).await;
    message.map_err(|_| ErrorKind::TimedOut.status("the upload stalled"))?
}

fn chunks_of(batch: rpc::ChunkBatch) -> Result<Vec<(Digest, Bytes)>, Status> {
    let chunks = batch.chunks.into_iter().map(|chunk| {
        let digest = Digest::try_from(chunk.digest.as_slice()).map_err(bad_request)?;
        Ok((digest, chunk.compressed))
    });
    chunks.collect()
}

/// What an envelope says, checked as far as that needs no trusted key: whose keys count is for hosts to decide.
struct Opened {
    manifest: Manifest,
    release: ReleaseRef,
    /// Of all bytes, signatures too.
    whole: Digest,
    key_ids: Vec<String>,
    /// Each once, sorted.
    chunks: Vec<Chunk>,
}

/// Hosts refuse a spec that breaks rules, so it is not even stored.
pub(super) fn sound(manifest: &Manifest) -> Result<(), Status> {
    let Manifest { app, version, release, .. } = manifest;
    check::sound(app, release)
        .map_err(|error| bad_request(format!("the spec of {app} {version} is not valid: {error}")))
}

fn open(bytes: &[u8]) -> Result<Opened, Status> {
    let envelope =
        Envelope::decode(bytes).map_err(|error| bad_request(format!("not a signed envelope: {error}")))?;
    let manifest = envelope
        .unverified_manifest()
        .map_err(|error| bad_request(format!("not a valid manifest: {}", crate::log::chain(&error))))?;
    sound(&manifest)?;
    let key_ids: Vec<_> = envelope.key_ids().iter().map(ToString::to_string).collect();
    if key_ids.is_empty() {
        return Err(bad_request(format!(
            "{} {} is not signed; sign it with `windlass bundle sign`",
            manifest.app, manifest.version
        )));
    }
    let release = ReleaseRef {
        app: manifest.app.clone(),
        version: manifest.version.clone(),
        digest: envelope.digest(),
        counter: manifest.counter,
    };
    let chunks = manifest.chunks();
    Ok(Opened { manifest, release, whole: Digest::of(bytes), key_ids, chunks })
}

/// What the audit log says of a grant, whether or not it is taken.
fn about_grant(envelope: &[u8]) -> String {
    let grant = Signed::<Grant>::decode(envelope).ok().and_then(|signed| signed.unverified().ok());
    grant.map_or_else(
        || "a grant that cannot be read".to_owned(),
        |grant| format!("grant of {} {}", grant.app, grant.digest.short()),
    )
}

impl Bundles {
    /// Keeps the envelope of a bundle whose chunks are here. Nothing names it yet.
    async fn receive(&self, mut stream: Streaming<rpc::Piece>) -> Result<(BundleRecord, Digest), Status> {
        let mut envelope = BytesMut::new();
        while let Some(piece) = next(&mut stream).await? {
            if envelope.len() + piece.data.len() > ENVELOPE_BYTES {
                return Err(
                    ErrorKind::TooMuch.status(format!("the envelope is larger than {ENVELOPE_BYTES} bytes"))
                );
            }
            envelope.extend_from_slice(&piece.data);
        }
        let envelope = envelope.freeze();
        let bytes = envelope.clone();
        let opened = tokio::task::spawn_blocking(move || open(&bytes)).await;
        let opened = opened.map_err(|_| ErrorKind::Internal.status("reading the envelope failed"))??;
        let digests: Vec<_> = opened.chunks.iter().map(|chunk| chunk.digest).collect();
        let missing = self.0.objects.missing(digests.clone()).await;
        if let Some(first) = missing.first() {
            return Err(ErrorKind::WrongState.status(format!(
                "{} of {} chunks of {} are not stored here, {first} among them; push them first",
                missing.len(),
                opened.chunks.len(),
                opened.release
            )));
        }
        let chunks = opened.chunks.len() as u64;
        if let Some((Chunk { digest, length }, found)) = self.0.objects.contradiction(opened.chunks).await? {
            return Err(bad_request(format!(
                "the manifest of {} contradicts what it names: it gives chunk {digest} {length} bytes, and that chunk has \
                 {found}; build the bundle again",
                opened.release
            )));
        }
        let sizes = self.0.objects.chunk_sizes(digests).await?;
        let record = BundleRecord {
            spec: opened.manifest.release.clone(),
            files: opened.manifest.files().count() as u64,
            bytes: opened.manifest.total_bytes(),
            chunks,
            stored_bytes: sizes.iter().sum(),
            key_ids: opened.key_ids,
            pushed_at: windlass_proto::time::Timestamp(0),
            pushed_by: String::new(),
            release: opened.release,
        };
        let digest = record.release.digest;
        // The index must never name an envelope that is not on disk; one without index entry is harmless.
        self.0.objects.put_envelope(&digest, envelope).await?;
        Ok((record, opened.whole))
    }

    /// A bundle, and whether hosts have accepted it.
    async fn find(&self, request: rpc::GetBundleRequest) -> Result<(BundleRecord, bool), Status> {
        let app = app_filter(&request.app)?;
        let found = self.0.driver.request(move |fleet| {
            let text = match (request.digest.is_empty(), request.version.is_empty()) {
                (false, _) => &request.digest,
                (true, false) if app.is_some() => &request.version,
                _ => return Err(Refusal::invalid("name a bundle by digest, or by app and version")),
            };
            let found = fleet.find_bundle(app.as_ref(), text)?;
            Ok((found.clone(), fleet.is_accepted(&found.release)))
        });
        Ok(found.await?)
    }
}

#[tonic::async_trait]
impl BundleService for Bundles {
    async fn missing_chunks(
        &self,
        request: Request<rpc::MissingChunksRequest>,
    ) -> Result<Response<rpc::MissingChunksResponse>, Status> {
        let digests = request.into_inner().digests;
        let digests = digests.iter().map(|bytes| Digest::try_from(bytes.as_slice()));
        let digests = digests.collect::<Result<Vec<_>, _>>().map_err(bad_request)?;
        let missing = self.0.objects.missing(digests).await;
        let digests = missing.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        Ok(Response::new(rpc::MissingChunksResponse { digests }))
    }

    async fn push_chunks(
        &self,
        request: Request<Streaming<rpc::ChunkBatch>>,
    ) -> Result<Response<rpc::PushChunksResponse>, Status> {
        let mut stream = request.into_inner();
        let mut total = rpc::PushChunksResponse::default();
        let mut writing = FuturesUnordered::new();
        let mut more = true;
        while more || !writing.is_empty() {
            tokio::select! {
                Some(stored) = writing.next() => {
                    let stored: Stored = stored?;
                    total.stored += stored.new;
                    total.already_there += stored.known;
                    total.bytes += stored.bytes;
                }
                batch = next(&mut stream), if more && writing.len() < WRITING => match batch? {
                    Some(batch) => writing.push(self.0.objects.put_chunks(chunks_of(batch)?)),
                    None => more = false,
                },
            }
        }
        Ok(Response::new(total))
    }

    async fn put_bundle(
        &self,
        request: Request<Streaming<rpc::Piece>>,
    ) -> Result<Response<rpc::BundleInfo>, Status> {
        let mut act = act_without_message(&request)?;
        let received = self.receive(request.into_inner()).await.map_err(Refusal::from);
        if let Ok((record, digest)) = &received {
            act.about = record.release.to_string();
            act.request = Some(*digest);
        }
        let added = self.0.driver.act(act, move |fleet, who| {
            let record = received?.0;
            let record = BundleRecord { pushed_at: fleet.now, pushed_by: who.to_owned(), ..record };
            let added = fleet.add_bundle(record)?;
            Ok(show::bundle(&added, fleet.is_accepted(&added.release)))
        });
        Ok(Response::new(added.await?))
    }

    async fn list_bundles(
        &self,
        request: Request<rpc::ListBundlesRequest>,
    ) -> Result<Response<rpc::ListBundlesResponse>, Status> {
        let app = app_filter(&request.into_inner().app)?;
        let bundles = self.0.driver.request(move |fleet| {
            // An app without bundles is no error: this is how a first deploy asks which counter comes next.
            let bundles = fleet.bundles(app.as_ref()).into_iter();
            Ok(bundles.map(|bundle| show::bundle(bundle, fleet.is_accepted(&bundle.release))).collect())
        });
        Ok(Response::new(rpc::ListBundlesResponse { bundles: bundles.await? }))
    }

    async fn get_bundle(
        &self,
        request: Request<rpc::GetBundleRequest>,
    ) -> Result<Response<rpc::BundleInfo>, Status> {
        let (bundle, accepted) = self.find(request.into_inner()).await?;
        Ok(Response::new(show::bundle(&bundle, accepted)))
    }

    type FetchBundleEnvelopeStream = ReceiverStream<Result<rpc::Piece, Status>>;

    async fn fetch_bundle_envelope(
        &self,
        request: Request<rpc::GetBundleRequest>,
    ) -> Result<Response<Self::FetchBundleEnvelopeStream>, Status> {
        let (bundle, _) = self.find(request.into_inner()).await?;
        let envelope = self.0.objects.envelope(&bundle.release.digest).await?;
        Ok(Response::new(pieces(envelope)))
    }

    async fn get_grant_terms(
        &self,
        request: Request<rpc::GetBundleRequest>,
    ) -> Result<Response<rpc::GrantTerms>, Status> {
        let release = self.find(request.into_inner()).await?.0.release;
        let terms = self.0.driver.ask(move |fleet| fleet.grant_terms(&release, None));
        Ok(Response::new(terms.await?))
    }

    async fn put_grant(
        &self,
        request: Request<rpc::PutGrantRequest>,
    ) -> Result<Response<rpc::GrantInfo>, Status> {
        let (act, request) = act(request, |request: &rpc::PutGrantRequest| about_grant(&request.envelope))?;
        let added = self.0.driver.act(act, move |fleet, who| {
            fleet.add_grant(who, &request.envelope).map(|record| show::grant(&record))
        });
        Ok(Response::new(added.await?))
    }
}
