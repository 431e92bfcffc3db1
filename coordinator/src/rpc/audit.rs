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
use crate::fleet::{Act, audit_records};
use crate::store::StateStore;

/// Records read at a time.
const PAGE: usize = 200;

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
    /// All records after a number, as a stream.
    pub fn read(&self, mut after: u64) -> ReceiverStream<Result<AuditRecord, Status>> {
        let (sender, receiver) = mpsc::channel(16);
        let store = Arc::clone(&self.0);
        tokio::spawn(async move {
            loop {
                let page = match audit_records(&*store, after, PAGE).await {
                    Ok(page) => page,
                    Err(error) => {
                        tracing::error!(error = %crate::log::chain(&error), "the audit log cannot be read");
                        let words = "the audit log cannot be read; see the coordinator's log";
                        // A reader that is gone needs no farewell.
                        let _ = send(&sender, Err(ErrorKind::Internal.status(words))).await;
                        return;
                    }
                };
                let is_last = page.len() < PAGE;
                after = page.last().map_or(after, |record| record.seq);
                for record in page {
                    if send(&sender, Ok(record)).await.is_err() {
                        return;
                    }
                }
                if is_last {
                    return;
                }
            }
        });
        ReceiverStream::new(receiver)
    }
}

/// After which number the wanted records begin, given how many there are.
pub fn begin(request: rpc::AuditRequest, newest: u64) -> u64 {
    match request.last {
        0 => request.after,
        last => request.after.max(newest.saturating_sub(u64::from(last))),
    }
}
