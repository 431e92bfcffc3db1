//! Brings up everything that the agent keeps on disk, in the order in which one part helps the next.

use std::path::Path;
use std::time::SystemTime;

use crate::journal::{Damage, Journal, JournalError, Recovered};
use crate::layout::{CreateError, ENVELOPE_MODE, Layout, keep_private};
use crate::retain;
use crate::staging::remains;
use crate::store::{self, Health, Opened};
use crate::{ballast, file, held};

/// What was brought up.
#[derive(Debug)]
pub struct Storage {
    /// The journal; its lock keeps a second agent out.
    pub journal: Journal,
    /// What the journal said.
    pub recovered: Recovered,
    /// The store, and how it came up. It always comes up.
    pub store: Opened,
    /// Why this host takes no releases until a person has looked at it.
    pub safe_mode: Option<String>,
}

impl Storage {
    /// What is wrong, each in a sentence.
    pub fn problems(&self) -> Vec<String> {
        let store = match &self.store.health {
            Health::Good => None,
            Health::Rebuilt(reason) => Some(format!(
                "the store was damaged and is made anew from the releases; older history is put aside in store.bad-N: {reason}"
            )),
            Health::MemoryOnly(reason) => {
                Some(format!("the store cannot be used; history is forgotten when the agent ends: {reason}"))
            }
        };
        self.safe_mode.iter().cloned().chain(store).collect()
    }
}

/// Why the agent cannot start on this state directory.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A directory cannot be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Opens journal and store and clears up after an agent that ended in the middle of something. Blocks, seconds at worst;
/// `now` is the wall clock.
pub fn open(layout: &Layout, now: SystemTime) -> Result<Storage, StorageError> {
    layout.create()?;
    let (journal, recovered) = Journal::open(layout.state())?;
    // Clutter is no reason not to start: the next staging says what is wrong with the disk.
    if let Err(error) = remains::tidy(layout, now) {
        tracing::warn!(%error, "staging directory not tidied");
    }
    retain::empty_trash(layout);
    if let Err(error) = ballast::set_aside(layout) {
        tracing::warn!(%error, "no room set aside for a full disk");
    }
    for app in held::apps(layout) {
        for digest in held::digests(layout, &app) {
            keep_private(&layout.envelope(&app, &digest), ENVELOPE_MODE);
        }
    }
    let store = store::open(layout, &held::scan(layout));
    let safe_mode = safe_mode(layout, recovered.damage.as_ref());
    Ok(Storage { journal, recovered, store, safe_mode })
}

/// Damage in the journal's middle means that what the host knew last may be lost: applications run on by their links, but
/// nothing new comes until somebody has looked. It is kept in a file, for the journal is whole again at the next start.
fn safe_mode(layout: &Layout, damage: Option<&Damage>) -> Option<String> {
    let path = layout.safe_mode();
    if let Some(Damage::Middle { path: journal, offset }) = damage {
        let reason = format!("{} is damaged at byte {offset}", journal.display());
        // In force all the same.
        if let Err(error) = file::replace(&path, reason.as_bytes(), 0o600) {
            tracing::warn!(%error, "safe mode will not outlast the agent");
        }
        return Some(in_words(&reason, &path));
    }
    let kept = file::read_bounded(&path, 4096).ok()?;
    Some(in_words(&String::from_utf8_lossy(&kept), &path))
}

fn in_words(reason: &str, path: &Path) -> String {
    format!(
        "safe mode: {reason}; applications run on and no release is taken. Look at `windlass-agent inspect`, then rm {} and \
         restart the agent",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use windlass_proto::id::AppName;

    use super::*;

    #[test]
    fn a_cluttered_directory_comes_up_clean() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"), dir.path().join("run")).unwrap();
        let app = AppName::new("shop").unwrap();
        let mut storage = open(&layout, SystemTime::now()).unwrap();
        storage.journal.append(&app, b"state".to_vec()).unwrap();
        drop(storage);
        for clutter in ["staging/op-1/tree/x", "trash/old.0/tree/y", "chunks/nonsense"] {
            std::fs::create_dir_all(layout.state().join(clutter)).unwrap();
        }
        let storage = open(&layout, SystemTime::now()).unwrap();
        assert_eq!(storage.recovered.latest.states[&app], b"state");
        assert_eq!(storage.store.health, Health::Good);
        for empty in [layout.staging(), layout.trash(), layout.chunks()] {
            let left: Vec<_> = std::fs::read_dir(&empty).unwrap().map(|item| item.unwrap().path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}
