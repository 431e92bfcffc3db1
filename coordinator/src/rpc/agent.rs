//! What agents call.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use windlass_proto::digest::Digest;
use windlass_proto::id::{HostId, HostName};
use windlass_proto::limits::BATCH_BYTES;
use windlass_proto::rpc::agent_service_server::AgentService;
use windlass_proto::rpc::{self, ErrorKind};
use windlass_proto::tls::{self, JoinToken, Peer};

use super::audit::act;
use super::{Shared, caller, pieces, send};
use crate::fleet::{Enrolled, Enrolment};
use crate::pki::Pki;
use crate::session::{Downstream, Sessions};

/// Lifetime of an agent's certificate.
const CERTIFICATE_HOURS: u32 = 24;
/// Chunks in one request.
const CHUNKS: usize = 65_536;
/// Batches read ahead of the network.
const READ_AHEAD: usize = 3;
/// Signing is quick; a request that takes longer waits for a stuck driver.
const ENROL: Duration = Duration::from_secs(20);

/// The service.
#[derive(Debug, Clone)]
pub struct Agents {
    /// Fleet and objects.
    pub shared: Shared,
    /// Signs certificates.
    pub pki: Pki,
    /// Runs sessions.
    pub sessions: Sessions,
}

fn host_of<T>(request: &Request<T>) -> Result<HostId, Status> {
    match caller(request)?.peer {
        Peer::Agent(id) => Ok(id),
        _ => Err(ErrorKind::NotSignedIn.status("this call needs an agent's certificate")),
    }
}

fn bad_request(error: impl std::fmt::Display) -> Status {
    ErrorKind::Invalid.status(error.to_string())
}

impl Agents {
    fn certificate(
        &self,
        csr_pem: &str,
        id: &HostId,
        ignored_labels: Vec<String>,
    ) -> Result<Response<rpc::EnrollResponse>, Status> {
        let certificate_pem = self
            .pki
            .agents()
            .sign_agent_csr(csr_pem, id, CERTIFICATE_HOURS, self.sessions.time.now())
            .map_err(bad_request)?;
        Ok(Response::new(rpc::EnrollResponse {
            host_id: id.to_string(),
            certificate_pem,
            ca_pem: self.pki.agents().certificate_pem().to_owned(),
            fleet: self.pki.agents().fleet().to_string(),
            ignored_labels,
        }))
    }

    async fn enrol(
        &self,
        request: Request<rpc::EnrollRequest>,
    ) -> Result<Response<rpc::EnrollResponse>, Status> {
        let challenge = caller(&request)?.challenge;
        let (act, request) = act(request, |request| format!("host {}", request.name))?;
        let name = HostName::new(request.name).map_err(bad_request)?;
        let key = Digest::of(&tls::enrolling_public_key(&request.csr_pem, &challenge).map_err(bad_request)?);
        let token = match request.token.as_str() {
            "" => None,
            text => {
                let token: JoinToken =
                    text.parse().map_err(|error| ErrorKind::NotSignedIn.status(format!("{error}")))?;
                Some((token.id().to_owned(), token.secret_digest()))
            }
        };
        let enrolment = Enrolment { name, key, address: request.address, labels: request.labels, token };
        let fresh = HostId::new(uuid::Uuid::new_v4().to_string()).map_err(bad_request)?;
        let enrolled = self.shared.driver.request(move |fleet| {
            let enrolled = fleet.enrol(enrolment, fresh)?;
            // What is refused is not on record, nor is what changes nothing: anybody may knock here, as often as they like.
            if enrolled.is_change {
                fleet.record(act, None);
            }
            Ok(enrolled)
        });
        let Enrolled { id, ignored_labels, .. } = enrolled.await?;
        self.certificate(&request.csr_pem, &id, ignored_labels)
    }
}

#[tonic::async_trait]
impl AgentService for Agents {
    async fn challenge(
        &self,
        request: Request<rpc::ChallengeRequest>,
    ) -> Result<Response<rpc::ChallengeResponse>, Status> {
        let challenge = caller(&request)?.challenge.as_bytes().to_vec();
        Ok(Response::new(rpc::ChallengeResponse { challenge }))
    }

    async fn enroll(
        &self,
        request: Request<rpc::EnrollRequest>,
    ) -> Result<Response<rpc::EnrollResponse>, Status> {
        let enrolled = tokio::time::timeout(ENROL, self.enrol(request)).await;
        enrolled.map_err(|_| ErrorKind::TimedOut.status("the coordinator is busy; try again"))?
    }

    async fn renew(
        &self,
        request: Request<rpc::RenewRequest>,
    ) -> Result<Response<rpc::EnrollResponse>, Status> {
        let id = host_of(&request)?;
        let csr_pem = request.into_inner().csr_pem;
        let key = Digest::of(&tls::csr_public_key(&csr_pem).map_err(bad_request)?);
        let host = id.clone();
        self.shared.driver.request(move |fleet| fleet.may_renew(&host, &key)).await?;
        self.certificate(&csr_pem, &id, Vec::new())
    }

    type SessionStream = Downstream;

    async fn session(
        &self,
        request: Request<Streaming<rpc::AgentMessage>>,
    ) -> Result<Response<Downstream>, Status> {
        let id = host_of(&request)?;
        self.sessions.open(id, request.into_inner()).await.map(Response::new)
    }

    type FetchEnvelopeStream = ReceiverStream<Result<rpc::Piece, Status>>;

    async fn fetch_envelope(
        &self,
        request: Request<rpc::FetchEnvelopeRequest>,
    ) -> Result<Response<Self::FetchEnvelopeStream>, Status> {
        let id = host_of(&request)?;
        let request = request.into_inner();
        let digest: Digest = request.digest.parse().map_err(bad_request)?;
        let base: Option<Digest> = request.base.parse().ok();
        let base = self.shared.driver.request(move |fleet| {
            fleet.may_fetch(&id, &digest)?;
            // An answer builds on nothing that the host could not have asked for itself.
            Ok(base.filter(|base| fleet.may_fetch(&id, base).is_ok()))
        });
        let base = base.await?;
        let objects = &self.shared.objects;
        let envelope = if request.packed {
            self.shared.packed.get(objects, digest, base).await?
        } else {
            objects.envelope(&digest).await?
        };
        Ok(Response::new(pieces(envelope)))
    }

    type FetchChunksStream = ReceiverStream<Result<rpc::ChunkBatch, Status>>;

    async fn fetch_chunks(
        &self,
        request: Request<rpc::FetchChunksRequest>,
    ) -> Result<Response<Self::FetchChunksStream>, Status> {
        let id = host_of(&request)?;
        let request = request.into_inner();
        let digest: Digest = request.digest.parse().map_err(bad_request)?;
        if request.chunks.len() > CHUNKS {
            let count = request.chunks.len();
            return Err(
                ErrorKind::TooMuch.status(format!("{count} chunks in one request; ask for at most {CHUNKS}"))
            );
        }
        let wanted = request.chunks.iter().map(|bytes| Digest::try_from(bytes.as_slice()));
        let wanted: Vec<Digest> = wanted.collect::<Result<_, _>>().map_err(bad_request)?;
        let host = id.clone();
        self.shared.driver.request(move |fleet| fleet.may_fetch(&host, &digest)).await?;
        let index = self.shared.indexes.get(&self.shared.objects, &digest).await?;
        if let Some(foreign) = wanted.iter().find(|chunk| !index.holds(chunk)) {
            let message = format!("chunk {foreign} does not belong to bundle {}", digest.short());
            return Err(ErrorKind::NotAllowed.status(message));
        }
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        tokio::spawn(stream_chunks(self.shared.clone(), wanted, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

async fn stream_chunks(
    shared: Shared,
    wanted: Vec<Digest>,
    sender: mpsc::Sender<Result<rpc::ChunkBatch, Status>>,
) {
    let wanted = std::sync::Arc::new(wanted);
    let mut at = 0;
    while at < wanted.len() {
        let (objects, list) = (shared.objects.clone(), wanted.clone());
        let read = tokio::task::spawn_blocking(move || objects.read_some(&list[at..], BATCH_BYTES)).await;
        let batch = match read {
            Ok(Ok(chunks)) => {
                at += chunks.len();
                let chunks = chunks.into_iter().map(|(digest, frame)| rpc::Chunk {
                    digest: digest.as_bytes().to_vec(),
                    compressed: frame.into(),
                });
                Ok(rpc::ChunkBatch { chunks: chunks.collect() })
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(ErrorKind::Internal.status("reading chunks failed")),
        };
        let failed = batch.is_err();
        if send(&sender, batch).await.is_err() || failed {
            return;
        }
    }
}
