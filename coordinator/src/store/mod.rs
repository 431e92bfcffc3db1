//! The coordinator's state: one trait, so that a fleet can outgrow the embedded default without a change above it.
//!
//! Only the leader reads and writes. It scans once when it takes over and keeps a projection in memory; there is no
//! watch. Every backend refuses what the smallest one would refuse ([`MAX_OPS`], [`MAX_BYTES`]).

mod memory;
mod sled;

#[cfg(test)]
mod conformance;

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
pub use windlass_proto::fence::Fence;
use windlass_proto::fence::RESTORE_STEP;
use windlass_proto::tls::TlsError;

pub use self::memory::MemoryStore;
pub use self::sled::SledStore;

/// Most operations (conditions and writes together) in one transaction; etcd allows 128.
pub const MAX_OPS: usize = 100;
/// Most bytes of keys and values in one transaction; etcd allows 1.5 MiB.
pub const MAX_BYTES: usize = 1 << 20;
/// Keys that begin with this are history: they are neither read nor checked at a start, which would take longer and longer, but
/// when somebody reads them.
pub const COLD: &str = "cold/";
/// Longest key.
pub const MAX_KEY: usize = 256;

/// A key: printable ASCII, ordered by its bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Checks and wraps a key. Keys beginning with `!` belong to the backends.
    pub fn new(text: impl Into<String>) -> Result<Self, StoreError> {
        let text = text.into();
        let fits = !text.is_empty()
            && text.len() <= MAX_KEY
            && !text.starts_with('!')
            && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text)) } else { Err(StoreError::BadKey { key: text.chars().take(80).collect() }) }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Position in the store's history; rises by one with each commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A value and the commit that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes.
    pub value: Vec<u8>,
    /// When they were written.
    pub revision: Revision,
}

/// What must hold for a transaction to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The key does not exist.
    Absent(Key),
    /// The key was last written by this commit.
    At(Key, Revision),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put(Key, Vec<u8>),
    /// Removes a key; nothing when it is absent.
    Delete(Key),
}

/// Conditions and writes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Then all are made.
    pub writes: Vec<Write>,
}

impl Txn {
    /// Refuses what is too large for the smallest backend.
    pub fn check(&self) -> Result<(), CommitError> {
        let ops = self.conditions.len() + self.writes.len();
        let bytes = self.writes.iter().map(Write::bytes).sum();
        if ops > MAX_OPS || bytes > MAX_BYTES {
            return Err(CommitError::TooLarge { ops, bytes });
        }
        Ok(())
    }
}

impl Write {
    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.0.len() + value.len(),
            Self::Delete(key) => key.0.len(),
        }
    }
}

/// One coordinator process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Where operators reach it.
    pub address: String,
}

/// By how much a campaign raises the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rise {
    /// Above this, and above all former ones in any case.
    pub above: u64,
    /// By so much.
    pub by: u64,
}

impl Rise {
    /// To the next number.
    pub const ONE: Self = Self { above: 0, by: 1 };

    /// Well above what was lost with a state that was restored from a backup.
    pub const fn after_restore(above: u64) -> Self {
        Self { above, by: RESTORE_STEP }
    }

    const fn from(self, epoch: u64) -> u64 {
        let above = if epoch > self.above { epoch } else { self.above };
        above.saturating_add(self.by)
    }
}

/// Won leadership.
#[derive(Debug)]
pub struct Leadership {
    /// Proof, given with each commit and shown to each host, so that hosts refuse an old leader too.
    pub fence: Fence,
    /// Becomes true when leadership is lost.
    pub lost: watch::Receiver<bool>,
}

/// Why the store could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A key that no backend takes.
    #[error("invalid key {key:?}: use 1 to 256 printable ASCII characters, not beginning with '!'")]
    BadKey {
        /// Its beginning.
        key: String,
    },
    /// No leader can be drawn.
    #[error("cannot begin a leadership")]
    Draw(#[from] TlsError),
    /// Another process has it.
    #[error("the state in {} is in use: another coordinator runs with this --state-dir", path.display())]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// The store cannot be opened or used.
    #[error("cannot {action} the state in {}", path.display())]
    Io {
        /// What failed.
        action: &'static str,
        /// The store's directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store's content is wrong.
    #[error("the state in {} is damaged: {what}; the coordinator does not start on it, restore {} from a copy", path.display(), path.display())]
    Damaged {
        /// The store's directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Why a transaction was not applied.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A condition did not hold.
    #[error("{key} was changed by somebody else")]
    Conflict {
        /// The key whose condition failed.
        key: Key,
    },
    /// Another member leads.
    #[error("epoch {epoch} no longer leads: epoch {current} does")]
    Fenced {
        /// The commit's epoch.
        epoch: u64,
        /// The store's.
        current: u64,
    },
    /// More than a transaction may hold.
    #[error(
        "transaction of {ops} operations and {bytes} bytes is too large: at most {MAX_OPS} and {MAX_BYTES}"
    )]
    TooLarge {
        /// Conditions and writes.
        ops: usize,
        /// Keys and values.
        bytes: usize,
    },
    /// The backend failed; whether the transaction was applied is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All coordinator state.
#[async_trait]
pub trait StateStore: Send + Sync + fmt::Debug {
    /// The value of a key.
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError>;
    /// Up to `limit` keys that begin with `prefix`, in order, after `after`.
    async fn scan(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError>;
    /// Applies a transaction when the fence is current and all conditions hold; durable when it returns.
    async fn commit(&self, fence: &Fence, txn: Txn) -> Result<Revision, CommitError>;
    /// Becomes leader, with an epoch above all former ones and an id that nobody else has; durable when it returns.
    async fn campaign(&self, me: &Member, rise: Rise) -> Result<Leadership, StoreError>;
    /// Who leads.
    async fn leader(&self) -> Result<Option<Member>, StoreError>;
}
