//! The verb `reset-fence`: a host that has obeyed somebody obeys any coordinator of its fleet again.
//!
//! For whoever is root on the host, when the coordinator that it obeyed is gone for good and the one that leads now does not
//! know it. Nothing that comes from outside can do this.

use std::path::PathBuf;

use windlass_proto::fence::Fence;

use crate::audit_seen;
use crate::control::{self, AgentStatus, ControlError, Question};
use crate::file::FileError;
use crate::journal::{self, Damage, Journal, JournalError};
use crate::layout::Layout;
use crate::recover;

/// Why the fence is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ResetFenceError {
    /// It would go on with what it has in memory.
    #[error(
        "the agent of this host runs as pid {pid}; stop it first (systemctl stop windlass-agent, or kill {pid}), applications go on"
    )]
    AgentRuns {
        /// Its process.
        pid: u32,
    },
    /// Whether one runs cannot be told.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What was seen of the former coordinator's audit log.
    #[error(transparent)]
    File(#[from] FileError),
    /// What it says must be seen by the agent first.
    #[error("journal {} is damaged; start the agent, which says what to do, and try again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// Resets the fence, on record, and forgets what was seen of the audit log. Returns whom the host had obeyed.
pub fn reset_fence(layout: &Layout) -> Result<Option<Fence>, ResetFenceError> {
    if let Some(AgentStatus { pid, .. }) = control::ask(layout, Question::Status)? {
        return Err(ResetFenceError::AgentRuns { pid });
    }
    audit_seen::forget(layout)?;
    match journal::peek(layout.state())? {
        None => return Ok(None),
        Some(journal::Recovered { damage: Some(Damage::Middle { path, .. }), .. }) => {
            return Err(ResetFenceError::Damaged { path });
        }
        Some(_) => {}
    }
    let (mut journal, _) = Journal::open(layout.state())?;
    Ok(recover::reset_fence(&mut journal)?)
}
