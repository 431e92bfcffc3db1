//! A coordinator that serves bundles over real gRPC on loopback, and misbehaves when told to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use windlass_proto::bundle::Envelope;
use windlass_proto::digest::Digest;
use windlass_proto::limits::{BATCH_BYTES, PIECE_BYTES};
use windlass_proto::rpc::agent_service_server::{AgentService, AgentServiceServer};
use windlass_proto::rpc::{
    AgentMessage, ChallengeRequest, ChallengeResponse, Chunk, ChunkBatch, CoordinatorMessage, EnrollRequest,
    EnrollResponse, FetchChunksRequest, FetchEnvelopeRequest, Piece, RenewRequest,
};

use super::Bundle;

/// What goes wrong with chunk streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mischief {
    None,
    /// Each of the first so many streams breaks after one batch.
    BreakAfterOneBatch(usize),
    /// All streams break at once.
    AlwaysBroken,
    /// The first so many streams never send anything.
    Silent(usize),
    /// Streams end early without an error.
    Truncated,
    /// A bit of each chunk is flipped.
    Flipped,
    /// Another chunk than the one asked for comes, under its own name.
    Unasked,
    /// Chunks come with the content of another chunk.
    Swapped,
    /// Envelopes never end.
    EndlessEnvelope,
}

#[derive(Clone)]
struct Service {
    bundles: Arc<HashMap<Digest, Bundle>>,
    mischief: Arc<Mutex<Mischief>>,
    requests: Arc<AtomicUsize>,
    served: Arc<AtomicUsize>,
}

pub(super) struct Coordinator {
    service: Service,
    channel: Channel,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Coordinator {
    pub(super) async fn start(bundles: &[&Bundle]) -> Self {
        let bundles = bundles.iter().map(|bundle| (bundle.release.digest, (*bundle).clone())).collect();
        let service = Service {
            bundles: Arc::new(bundles),
            mischief: Arc::new(Mutex::new(Mischief::None)),
            requests: Arc::default(),
            served: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = service.clone();
        let task = tokio::spawn(async move {
            let server = Server::builder()
                .initial_stream_window_size(8 << 20)
                .initial_connection_window_size(16 << 20)
                .add_service(AgentServiceServer::new(serving));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .initial_stream_window_size(windlass_proto::limits::STREAM_WINDOW)
            .initial_connection_window_size(windlass_proto::limits::CONNECTION_WINDOW)
            .connect_lazy();
        Self { service, channel, task }
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn does(&self, mischief: Mischief) {
        *self.service.mischief.lock().unwrap() = mischief;
    }

    /// Compressed bytes sent so far.
    pub(super) fn served(&self) -> usize {
        self.service.served.load(Ordering::SeqCst)
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AgentService for Service {
    type SessionStream = ReceiverStream<Result<CoordinatorMessage, Status>>;
    type FetchEnvelopeStream = ReceiverStream<Result<Piece, Status>>;
    type FetchChunksStream = ReceiverStream<Result<ChunkBatch, Status>>;

    async fn challenge(&self, _: Request<ChallengeRequest>) -> Answer<ChallengeResponse> {
        Err(Status::unimplemented("not here"))
    }

    async fn enroll(&self, _: Request<EnrollRequest>) -> Answer<EnrollResponse> {
        Err(Status::unimplemented("not here"))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Answer<EnrollResponse> {
        Err(Status::unimplemented("not here"))
    }

    async fn session(&self, _: Request<Streaming<AgentMessage>>) -> Answer<Self::SessionStream> {
        Err(Status::unimplemented("not here"))
    }

    async fn fetch_envelope(
        &self,
        request: Request<FetchEnvelopeRequest>,
    ) -> Answer<Self::FetchEnvelopeStream> {
        let request = request.into_inner();
        let digest = request.digest.parse().unwrap();
        let bundle = self.bundles.get(&digest).ok_or_else(|| Status::not_found("unknown bundle"))?;
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let mut envelope = bundle.envelope.clone();
        if let Ok(decoded) = Envelope::decode(&envelope)
            && request.packed
        {
            let base = request.base.parse().ok().and_then(|base| self.bundles.get(&base));
            let base = base.map(|base| Envelope::decode(&base.envelope).unwrap());
            envelope = decoded.pack(base.as_ref()).unwrap();
        }
        let endless = *self.mischief.lock().unwrap() == Mischief::EndlessEnvelope;
        tokio::spawn(async move {
            loop {
                for piece in envelope.chunks(PIECE_BYTES) {
                    let data = if endless { vec![b' '; PIECE_BYTES] } else { piece.to_vec() };
                    if sender.send(Ok(Piece { data })).await.is_err() {
                        return;
                    }
                }
                if !endless {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch_chunks(&self, request: Request<FetchChunksRequest>) -> Answer<Self::FetchChunksStream> {
        let request = request.into_inner();
        let bundle = &self.bundles[&request.digest.parse().unwrap()];
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let mischief = *self.mischief.lock().unwrap();
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let mut chunks: Vec<Chunk> = request
            .chunks
            .iter()
            .map(|digest| {
                let key = Digest::try_from(digest.as_slice()).unwrap();
                Chunk { digest: digest.clone(), compressed: bundle.chunks[&key].clone().into() }
            })
            .collect();
        match mischief {
            Mischief::AlwaysBroken => return Err(Status::unavailable("gone away")),
            Mischief::Silent(streams) if number < streams => {
                tokio::spawn(async move { sender.closed().await });
                return Ok(Response::new(ReceiverStream::new(receiver)));
            }
            Mischief::Truncated => chunks.truncate(chunks.len() / 2),
            Mischief::Flipped => chunks.iter_mut().for_each(|chunk| {
                let mut bytes = chunk.compressed.to_vec();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                chunk.compressed = bytes.into();
            }),
            Mischief::Swapped => {
                let other = chunks[0].compressed.clone();
                chunks.iter_mut().skip(1).for_each(|chunk| chunk.compressed = other.clone());
            }
            Mischief::Unasked => chunks[0].digest = vec![9; 32],
            _ => {}
        }
        let served = self.served.clone();
        tokio::spawn(async move {
            let mut batch = ChunkBatch::default();
            let mut size = 0;
            let mut sent = 0;
            for chunk in chunks {
                size += chunk.compressed.len();
                served.fetch_add(chunk.compressed.len(), Ordering::SeqCst);
                batch.chunks.push(chunk);
                if size >= BATCH_BYTES {
                    size = 0;
                    sent += 1;
                    if sender.send(Ok(std::mem::take(&mut batch))).await.is_err() {
                        return;
                    }
                    if matches!(mischief, Mischief::BreakAfterOneBatch(streams) if number < streams && sent == 1)
                    {
                        let _ = sender.send(Err(Status::unavailable("connection reset"))).await;
                        return;
                    }
                }
            }
            let _ = sender.send(Ok(batch)).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
