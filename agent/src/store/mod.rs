//! What this host remembers of its releases: rows that answer questions, never needed to go back to a release.
//!
//! The truth is in the journal, the links and the release directories; [`open`] compares the store with the directories
//! and builds it anew on any doubt, or does without it. Values are small; everything larger is a file.

mod guard;
mod memory;
mod sled_store;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use windlass_proto::id::{AppName, OpId, RolloutId};
use windlass_proto::phase::{Fault, Outcome};
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::Timestamp;

pub use guard::{Health, Opened, open, read};
pub use memory::MemoryStore;

/// A release on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// What it is.
    pub release: ReleaseRef,
    /// Sum of its files' sizes.
    pub bytes: u64,
    /// When it became complete here.
    pub staged_at: Timestamp,
    /// When it was confirmed here last.
    pub confirmed_at: Option<Timestamp>,
}

/// One deployment that ended on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// Its operation.
    pub op: OpId,
    /// The rollout it was part of.
    pub rollout: RolloutId,
    /// What it moved to.
    pub release: ReleaseRef,
    /// What ran before.
    pub from: Option<ReleaseRef>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Whose fault a failure was.
    pub fault: Option<Fault>,
    /// Why, in one sentence.
    pub reason: String,
}

/// Where evidence of an operation lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRow {
    /// The operation.
    pub op: OpId,
    /// When it was frozen.
    pub at: Timestamp,
    /// File below the evidence directory.
    pub file: String,
    /// Its size.
    pub bytes: u64,
}

/// One change; several make a batch, of which all or nothing survives a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A release is complete, or was confirmed.
    Put(ReleaseRow),
    /// A release is gone.
    Remove(ReleaseRef),
    /// A deployment ended; the oldest beyond [`HISTORY`] of the app are forgotten.
    Ended(HistoryRow),
    /// Evidence was frozen; the oldest beyond [`HISTORY`] of the app are forgotten.
    Frozen {
        /// The app.
        app: AppName,
        /// Where it lies.
        row: EvidenceRow,
    },
}

/// Rows kept per app, of history and of evidence each.
pub const HISTORY: usize = 100;
/// Largest value.
pub const VALUE_BYTES: usize = 4096;

/// A store that cannot be read or written. The caller logs it and goes on: nothing depends on the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The library or the filesystem refused.
    #[error("store {} cannot be used: {reason}", path.display())]
    Refused {
        /// Its directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process has it open for longer than a moment.
    #[error("store {} is in use by another process", path.display())]
    InUse {
        /// Its directory.
        path: PathBuf,
    },
    /// A row that cannot be written down.
    #[error("a row does not encode")]
    Encode(#[source] serde_json::Error),
    /// A row that is too large even after its texts were cut.
    #[error("a row of {bytes} bytes does not fit the store's {VALUE_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// The rows, whatever holds them. All calls block.
pub trait ReleaseStore: std::fmt::Debug + Send + Sync {
    /// Releases of an app on this host, in the order of their digests.
    fn releases(&self, app: &AppName) -> Result<Vec<ReleaseRow>, StoreError>;
    /// Releases of all apps.
    fn all_releases(&self) -> Result<Vec<ReleaseRow>, StoreError>;
    /// Deployments of an app, newest first.
    fn history(&self, app: &AppName) -> Result<Vec<HistoryRow>, StoreError>;
    /// Evidence of an app, newest first.
    fn evidence(&self, app: &AppName) -> Result<Vec<EvidenceRow>, StoreError>;
    /// Makes changes; returns when they are on the disk.
    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError>;
}

/// The store as its users hold it.
pub type SharedStore = Arc<dyn ReleaseStore>;

/// Cuts a text to a number of bytes, at a character's border.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let mut end = most;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests;
