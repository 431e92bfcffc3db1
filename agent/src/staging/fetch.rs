//! Brings what the host lacks from the coordinator: the envelope, then chunks in order, a few bounded requests at a time.
//!
//! Memory is bounded by the requests in flight and HTTP/2's windows, whatever the size of the release. A broken or stalled
//! connection is dialled again after a pause as long as chunks keep coming; after a stall smaller requests are made, so
//! that a slow link still finishes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::TryStreamExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use windlass_proto::digest::Digest;
use windlass_proto::limits::{ENVELOPE_BYTES, MESSAGE_BYTES};
use windlass_proto::phase::Fault;
use windlass_proto::rpc::agent_service_client::AgentServiceClient;
use windlass_proto::rpc::{ChunkBatch, ErrorKind, FetchChunksRequest, FetchEnvelopeRequest};

use super::pool;
use super::unpack::{UnpackError, Unpacking};

/// How patient fetching is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// Longest wait for the next message of a stream.
    pub stall: Duration,
    /// Attempts in a row without a single new chunk before giving up.
    pub attempts: u32,
    /// First pause between attempts; doubles up to [`Patience::longest_pause`], each with jitter.
    pub first_pause: Duration,
    /// Longest pause between attempts.
    pub longest_pause: Duration,
    /// Longest that fetching may take in all.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(60),
            attempts: 8,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(10),
            total: Duration::from_secs(6 * 3600),
        }
    }
}

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The coordinator does not give it; asking again will not help.
    #[error("the coordinator refused {what}: {}", status.message())]
    Refused {
        /// What was asked for.
        what: String,
        /// Its answer.
        status: Box<Status>,
    },
    /// The connection failed too often without progress.
    #[error("{what} did not arrive in {attempts} attempts; the last one: {last}")]
    Interrupted {
        /// What was asked for.
        what: String,
        /// Attempts without progress.
        attempts: u32,
        /// How the last one ended.
        last: String,
    },
    /// It took too long in all.
    #[error("{what} did not arrive in {} s", limit.as_secs())]
    TooSlow {
        /// What was asked for.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The envelope does not end.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// What came cannot be used.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Told to stop.
    #[error("fetching was cancelled")]
    Cancelled,
    /// The thread that wrote chunks ended by itself.
    #[error("a thread that writes chunks failed")]
    Thread(#[from] tokio::task::JoinError),
}

impl FetchError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused { status, .. } if ErrorKind::of(status) == ErrorKind::Damaged => Fault::Policy,
            Self::Refused { .. } | Self::Interrupted { .. } | Self::TooSlow { .. } => Fault::Transport,
            Self::TooLarge { .. } => Fault::Policy,
            Self::Unpack(error) => error.fault(),
            Self::Cancelled | Self::Thread(_) => Fault::Agent,
        }
    }
}

/// One attempt's end.
enum Attempt {
    /// Try again.
    Broken(String),
    /// The same, and ask for less next time.
    Stalled(String),
    /// No use.
    Final(FetchError),
}

/// Requests under way at once: enough to hide a round trip.
const IN_FLIGHT: usize = 4;
/// Most chunks of one request.
const REQUEST_CHUNKS: usize = 256;
/// Most bytes of one request, uncompressed. All requests in flight together bound what waits in memory; 12 MiB still are
/// 1 Gbit/s at a round trip of 100 ms.
const REQUEST_BYTES: u64 = 3 << 20;

/// Fetches one release.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: AgentServiceClient<Channel>,
    release: Digest,
    patience: Patience,
    started: Instant,
    cancel: CancellationToken,
    received: Arc<AtomicU64>,
    /// One permit for each batch that may be written at once.
    writers: Arc<Semaphore>,
}

impl Fetcher {
    /// Starts the clock for a release.
    pub fn new(channel: Channel, release: Digest, patience: Patience, cancel: CancellationToken) -> Self {
        Self {
            client: AgentServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES),
            release,
            patience,
            started: Instant::now(),
            cancel,
            received: Arc::default(),
            writers: Arc::new(Semaphore::new(pool::width())),
        }
    }

    /// Bytes received so far: envelope and compressed chunks with their names.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The release's envelope, as it travels. It may build on that of `base`, a release that this host has.
    pub async fn envelope(&self, base: Option<Digest>) -> Result<Vec<u8>, FetchError> {
        let what = format!("the envelope of {}", self.release);
        let mut retry = Retry::new(self, what.clone());
        loop {
            let ended = match self.cancel.run_until_cancelled(self.envelope_once(&what, base)).await {
                None => return Err(FetchError::Cancelled),
                Some(Ok(bytes)) => return Ok(bytes),
                Some(Err(ended)) => ended,
            };
            retry.after(ended, false).await?;
        }
    }

    async fn envelope_once(&self, what: &str, base: Option<Digest>) -> Result<Vec<u8>, Attempt> {
        let base = base.map(|base| base.to_string()).unwrap_or_default();
        let request = FetchEnvelopeRequest { digest: self.release.to_string(), packed: true, base };
        let mut client = self.client.clone();
        let stream = self.patiently(what, client.fetch_envelope(request)).await?;
        let mut stream = stream.into_inner();
        let mut bytes = Vec::new();
        while let Some(piece) = self.patiently(what, stream.message()).await? {
            self.received.fetch_add(piece.data.len() as u64, Ordering::Relaxed);
            if bytes.len() + piece.data.len() > ENVELOPE_BYTES {
                let limit = ENVELOPE_BYTES;
                return Err(Attempt::Final(FetchError::TooLarge { what: what.to_owned(), limit }));
            }
            bytes.extend_from_slice(&piece.data);
        }
        Ok(bytes)
    }

    /// All chunks that `unpacking` misses.
    pub async fn chunks(&self, unpacking: &Arc<Unpacking>) -> Result<(), FetchError> {
        let what = format!("chunks of {}", self.release);
        let mut retry = Retry::new(self, what);
        let mut share = 1;
        loop {
            let missing = unpacking.missing();
            if missing.is_empty() {
                return Ok(());
            }
            let ended = self.cancel.run_until_cancelled(self.chunks_once(unpacking, &missing, share)).await;
            if ended.is_none() {
                unpacking.cancel();
            }
            // What was under way when a stream broke is still being written.
            let idle = self.writers.acquire_many(pool::width() as u32).await;
            drop(idle);
            let ended = match ended {
                None => return Err(FetchError::Cancelled),
                Some(Err(Attempt::Final(error))) => return Err(error),
                Some(Ok(())) => Attempt::Broken("the stream ended before the last chunk".into()),
                Some(Err(ended)) => ended,
            };
            let left = unpacking.missing().len();
            if left == 0 {
                return Ok(());
            }
            if matches!(ended, Attempt::Stalled(_)) {
                share = (share * 4).min(REQUEST_CHUNKS);
            }
            retry.after(ended, left < missing.len()).await?;
        }
    }

    /// Asks for everything missing once. `share` divides the size of requests; above one they go one at a time.
    async fn chunks_once(
        &self,
        unpacking: &Arc<Unpacking>,
        missing: &[(Digest, u32)],
        share: usize,
    ) -> Result<(), Attempt> {
        let requests = split(missing, REQUEST_CHUNKS / share, REQUEST_BYTES / share as u64);
        let in_flight = if share == 1 { IN_FLIGHT } else { 1 };
        // Made here and not in the stream: a closure held by it would keep this future from being sent to a thread.
        let requests: Vec<_> = requests.into_iter().map(|request| self.request(unpacking, request)).collect();
        futures::stream::iter(requests).buffer_unordered(in_flight).try_collect::<()>().await
    }

    async fn request(&self, unpacking: &Arc<Unpacking>, chunks: &[(Digest, u32)]) -> Result<(), Attempt> {
        let what = "chunks";
        let chunks = chunks.iter().map(|(digest, _)| digest.as_bytes().to_vec()).collect();
        let request = FetchChunksRequest { digest: self.release.to_string(), chunks };
        let mut client = self.client.clone();
        let stream = self.patiently(what, client.fetch_chunks(request)).await?;
        let mut stream = stream.into_inner();
        while let Some(batch) = self.patiently(what, stream.message()).await? {
            let bytes: usize =
                batch.chunks.iter().map(|chunk| chunk.compressed.len() + chunk.digest.len()).sum();
            self.received.fetch_add(bytes as u64, Ordering::Relaxed);
            let unpacking = unpacking.clone();
            // The semaphore is never closed; without a permit the batch would be written all the same.
            let permit = self.writers.clone().acquire_owned().await.ok();
            let written = tokio::task::spawn_blocking(move || {
                let written = write(&unpacking, &batch);
                drop(permit);
                written
            })
            .await;
            written
                .map_err(|error| Attempt::Final(error.into()))?
                .map_err(|error| Attempt::Final(error.into()))?;
        }
        Ok(())
    }

    /// Waits for one answer, not longer than a stall.
    async fn patiently<T>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Attempt> {
        match timeout(self.patience.stall, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) if is_final(status.code()) => {
                Err(Attempt::Final(FetchError::Refused { what: what.to_owned(), status: Box::new(status) }))
            }
            Ok(Err(status)) => Err(Attempt::Broken(status.message().to_owned())),
            Err(_) => {
                Err(Attempt::Stalled(format!("nothing arrived for {} s", self.patience.stall.as_secs())))
            }
        }
    }
}

/// Attempts without progress, and the pauses between them.
struct Retry<'a> {
    fetcher: &'a Fetcher,
    what: String,
    fruitless: u32,
}

impl<'a> Retry<'a> {
    fn new(fetcher: &'a Fetcher, what: String) -> Self {
        Self { fetcher, what, fruitless: 0 }
    }

    /// Pauses before the next attempt, or says that there is none.
    async fn after(&mut self, ended: Attempt, progress: bool) -> Result<(), FetchError> {
        let patience = &self.fetcher.patience;
        let last = match ended {
            Attempt::Final(error) => return Err(error),
            Attempt::Broken(last) | Attempt::Stalled(last) => last,
        };
        self.fruitless = if progress { 0 } else { self.fruitless + 1 };
        if self.fruitless >= patience.attempts {
            return Err(FetchError::Interrupted { what: self.what.clone(), attempts: self.fruitless, last });
        }
        let pause =
            patience.first_pause.saturating_mul(1 << self.fruitless.min(16)).min(patience.longest_pause);
        let pause = pause.mul_f64(rand::random_range(0.5..1.0));
        if self.fetcher.started.elapsed() + pause > patience.total {
            return Err(FetchError::TooSlow { what: self.what.clone(), limit: patience.total });
        }
        tracing::info!(release = %self.fetcher.release, reason = %last, pause_ms = pause.as_millis() as u64, "fetch interrupted");
        match self.fetcher.cancel.run_until_cancelled(tokio::time::sleep(pause)).await {
            Some(()) => Ok(()),
            None => Err(FetchError::Cancelled),
        }
    }
}

/// Whether asking again cannot help.
const fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::OutOfRange
    )
}

fn write(unpacking: &Unpacking, batch: &ChunkBatch) -> Result<usize, UnpackError> {
    let mut chunks = Vec::with_capacity(batch.chunks.len());
    for chunk in &batch.chunks {
        let digest = Digest::try_from(chunk.digest.as_ref());
        let digest = digest.map_err(|_| UnpackError::Unasked(Digest::from_bytes([0; 32])))?;
        chunks.push((digest, chunk.compressed.as_ref()));
    }
    unpacking.put(chunks.into_iter())
}

/// Cuts a list into requests.
fn split(missing: &[(Digest, u32)], most: usize, bytes: u64) -> Vec<&[(Digest, u32)]> {
    let mut requests = Vec::new();
    let mut rest = missing;
    while !rest.is_empty() {
        let mut sum = 0;
        let fits = rest.iter().take(most.max(1)).take_while(|(_, length)| {
            sum += u64::from(*length);
            sum <= bytes
        });
        let (request, left) = rest.split_at(fits.count().max(1));
        requests.push(request);
        rest = left;
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_and_leave_nothing_out() {
        let missing: Vec<_> =
            (0..1000).map(|n: u16| (Digest::from_bytes([n as u8; 32]), 100 + u32::from(n))).collect();
        for (most, bytes) in [(256, u64::MAX), (256, 3000), (1, 1), (0, 0)] {
            let requests = split(&missing, most, bytes);
            assert_eq!(requests.concat(), missing);
            for request in requests {
                let sum: u64 = request.iter().map(|(_, length)| u64::from(*length)).sum();
                assert!(request.len() == 1 || (request.len() <= most && sum <= bytes));
            }
        }
    }
}
