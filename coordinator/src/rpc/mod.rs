//! The services: each method converts, asks the driver, and answers. Who may call is decided before, in [`auth`].

pub mod agent;
pub mod audit;
pub mod auth;
pub mod bundle;
pub mod difference;
pub mod fleet;
pub mod index;
pub mod logs;
pub mod packed;
pub mod plan;
pub mod rollout;
pub mod rows;
pub mod show;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use windlass_proto::id::AppName;
use windlass_proto::limits::{MESSAGE_BYTES, PIECE_BYTES};
use windlass_proto::rpc::{self, ErrorKind};

use self::audit::AuditLog;
use self::difference::Differences;
use self::index::Indexes;
use self::packed::PackedEnvelopes;
use crate::driver::Driver;
use crate::fleet::Refusal;
use crate::listen::Caller;
use crate::objects::{ObjectError, Objects};
use crate::questions::Questions;

/// Largest message that is decoded.
pub const DECODE: usize = MESSAGE_BYTES;
/// A stream whose reader takes nothing for so long is dropped.
const STALLED: Duration = Duration::from_secs(60);

/// What all services share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The fleet.
    pub driver: Driver,
    /// Chunks, envelopes, evidence.
    pub objects: Objects,
    /// Chunk lists of bundles.
    pub indexes: Indexes,
    /// The same for planning, so that a plan makes no host wait for its chunks.
    pub plan_indexes: Indexes,
    /// What releases change over others.
    pub differences: Differences,
    /// Envelopes as they travel to hosts.
    pub packed: PackedEnvelopes,
    /// What hosts were asked.
    pub questions: Questions,
    /// Who asked for what.
    pub audit: AuditLog,
    /// Ends all streams.
    pub stop: CancellationToken,
}

impl Shared {
    /// What all services share.
    pub fn new(driver: Driver, objects: Objects, audit: AuditLog, stop: CancellationToken) -> Self {
        Self {
            driver,
            objects,
            indexes: Indexes::default(),
            plan_indexes: Indexes::default(),
            differences: Differences::default(),
            packed: PackedEnvelopes::default(),
            questions: Questions::default(),
            audit,
            stop,
        }
    }
}

/// What a stream says when the coordinator stops.
fn stopping() -> Status {
    ErrorKind::Unavailable.status("the coordinator is stopping")
}

/// The caller of a request.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| ErrorKind::NotSignedIn.status("the connection carries no identity"))
}

/// The caller in words: `operator/ana`.
fn who<T>(request: &Request<T>) -> Result<String, Status> {
    caller(request).map(|caller| auth::describe(&caller))
}

/// An optional app filter.
fn app_filter(text: &str) -> Result<Option<AppName>, Refusal> {
    match text {
        "" => Ok(None),
        text => AppName::new(text).map(Some).map_err(|error| Refusal::invalid(error.to_string())),
    }
}

impl From<ObjectError> for Status {
    fn from(error: ObjectError) -> Self {
        let kind = match error {
            ObjectError::BadChunk(_) => ErrorKind::Invalid,
            ObjectError::Missing { .. } => ErrorKind::NotFound,
            ObjectError::Open { .. } | ObjectError::Io { .. } => {
                // Paths are for the coordinator's log; the caller learns what it asked for.
                tracing::error!(error = %crate::log::chain(&error), "object store failed");
                ErrorKind::Internal
            }
        };
        kind.status(error.to_string())
    }
}

/// Sends to a stream; an error ends the sender: the reader went away or stalls.
async fn send<T>(sender: &mpsc::Sender<Result<T, Status>>, item: Result<T, Status>) -> Result<(), ()> {
    match tokio::time::timeout(STALLED, sender.send(item)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(()),
    }
}

/// Bytes as a stream of pieces.
fn pieces(bytes: bytes::Bytes) -> tokio_stream::wrappers::ReceiverStream<Result<rpc::Piece, Status>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            if send(&sender, Ok(rpc::Piece { data: piece.to_vec() })).await.is_err() {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}
