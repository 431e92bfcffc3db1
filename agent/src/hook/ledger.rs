//! What is on record of an operation's hooks: each one before it is begun, and again when it has ended. It is what
//! tells an agent that comes back whether a hook runs, has ended, or was never begun; and what the host reports of them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::id::OpId;
use windlass_proto::limits::HOOK_RUNS;
use windlass_proto::phase::{HookName, HookRun};

use crate::file::{self, FileError};
use crate::shim::order;

/// Which asking for a command an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The release whose hook it is.
    pub release: Digest,
    /// Which hook.
    pub hook: HookName,
    /// Which of its commands.
    pub index: usize,
    /// See [`windlass_release::Effect::Hook`].
    pub round: u64,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which.
    pub key: Key,
    /// The mark of its newest start.
    pub mark: String,
    /// The boot in which it was begun.
    pub boot: String,
    /// When it was begun, by that boot's clock.
    pub begun: u64,
    /// Whether it was on the host's account rather than its own that it did not pass.
    pub later: bool,
    /// What is told of it.
    pub run: HookRun,
}

/// The hooks of one operation, oldest first, at most [`HOOK_RUNS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    op: OpId,
    entries: Vec<Entry>,
}

impl Ledger {
    /// What is on record of this operation in a hook directory; of another one nothing is.
    pub fn read(dir: &Path, op: &OpId) -> Self {
        let known = order::read::<Self>(&path(dir)).ok().flatten().filter(|ledger| ledger.op == *op);
        known.unwrap_or_else(|| Self { op: op.clone(), entries: Vec::new() })
    }

    /// What is on record of one command.
    pub fn find(&self, key: &Key) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == *key)
    }

    /// All commands so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is told of them.
    pub fn runs(&self) -> Vec<HookRun> {
        self.entries.iter().map(|entry| entry.run.clone()).collect()
    }

    /// Puts an entry on record in place of the former one; durable when it returns.
    pub fn keep(&mut self, dir: &Path, entry: &Entry) -> Result<(), FileError> {
        match self.entries.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => known.clone_from(entry),
            None => self.entries.push(entry.clone()),
        }
        let over = self.entries.len().saturating_sub(HOOK_RUNS);
        self.entries.drain(..over);
        file::make_dir(dir)?;
        file::replace_json(&path(dir), self, 0o600)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("hooks.json")
}
