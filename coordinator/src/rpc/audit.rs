//! The audit log: what a call that changes something leaves in it, and how it is read.

use std::sync::Arc;

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};
use windlass_proto::digest::Digest;
use windlass_proto::rpc::{self, AuditRecord, ErrorKind};

use super::auth::Called;
use super::{caller, send};
use crate::fleet::{Act, AuditPages, audited_then};
use crate::store::{StateStore, StoreError};

/// Takes a call apart: what is put on record of it, and what it asks for.
pub fn act<M: Message>(request: Request<M>, about: impl FnOnce(&M) -> String) -> Result<(Act, M), Status> {
    let act = act_without_message(&request)?;
    let message = request.into_inner();
    let digest = Digest::of(&message.encode_to_vec());
    Ok((Act { about: about(&message), request: Some(digest), ..act }, message))
}

/// What is put on record of a call before its message is read.
pub fn act_without_message<T>(request: &Request<T>) -> Result<Act, Status> {
    let caller = caller(request)?;
    let called = request.extensions().get::<Called>();
    let method = called.map(|called| called.0.trim_start_matches("/windlass.v1.").to_owned());
    Ok(Act {
        who: super::auth::describe(&caller),
        certificate: caller.certificate,
        address: caller.address.to_string(),
        method: method.ok_or_else(|| ErrorKind::Internal.status("the call has no name"))?,
        about: String::new(),
        request: None,
    })
}

/// The log of what was committed; cheap to clone.
#[derive(Debug, Clone)]
pub struct AuditLog(pub Arc<dyn StateStore>);

impl AuditLog {
    /// Records after a number, as a stream; at most `limit`, where that is not 0.
    pub fn read(&self, after: u64, limit: u32) -> ReceiverStream<Result<AuditRecord, Status>> {
        let (sender, receiver) = mpsc::channel(16);
        let store = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut at = after;
            if let Err(error) = pass_on(&*store, &mut at, limit, &sender).await {
                tracing::error!(after = at, error = %crate::log::chain(&error), "the audit log cannot be read");
                let words =
                    format!("the audit log cannot be read after record {at}; see the coordinator's log");
                // A reader that is gone needs no farewell.
                let _ = send(&sender, Err(ErrorKind::Internal.status(words))).await;
            }
        });
        ReceiverStream::new(receiver)
    }

    /// The digest of a record; none where the log does not have it, or cannot be read there.
    pub async fn then(&self, seq: u64) -> Option<Digest> {
        audited_then(&*self.0, seq).await.unwrap_or_else(|error| {
            tracing::error!(seq, error = %crate::log::chain(&error), "the audit log cannot be read");
            None
        })
    }
}

/// Sends records until there are no more, or nobody listens. `at` is the last one that was sent.
async fn pass_on(
    store: &dyn StateStore,
    at: &mut u64,
    limit: u32,
    sender: &mpsc::Sender<Result<AuditRecord, Status>>,
) -> Result<(), StoreError> {
    let mut pages = AuditPages::after(store, *at)?;
    let mut left = if limit == 0 { u64::MAX } else { u64::from(limit) };
    while let Some(page) = pages.next().await? {
        for record in page {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            *at = record.seq;
            if send(sender, Ok(record)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// After which number the wanted records begin, given how many there are.
pub fn begin(request: &rpc::AuditRequest, newest: u64) -> u64 {
    match request.last {
        0 => request.after,
        last => request.after.max(newest.saturating_sub(u64::from(last))),
    }
}
