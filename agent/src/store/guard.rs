//! Opening the store without being hurt by it: on a thread of its own, with a deadline, ready for panics; on any doubt it
//! is put aside and built anew from what the release directories say.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::sled_store::SledStore;
use super::{Change, MemoryStore, ReleaseRow, ReleaseStore, SharedStore, StoreError};
use crate::durable;
use crate::layout::Layout;

/// How the store came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// As it was left.
    Good,
    /// Put aside for this reason and built anew; older history is in the directory put aside.
    Rebuilt(String),
    /// Not at all, for this reason; rows are kept in memory only.
    MemoryOnly(String),
}

/// The open store.
#[derive(Debug)]
pub struct Opened {
    /// The rows.
    pub store: SharedStore,
    /// How it came up.
    pub health: Health,
}

/// Longest wait for an open, with its wait for a killed agent's lock.
const DEADLINE: Duration = Duration::from_secs(7);
/// Longest wait for a fresh store.
const FRESH_DEADLINE: Duration = Duration::from_secs(2);

/// Opens the store; `held` are the releases found in their directories, which are the truth. Never fails.
pub fn open(layout: &Layout, held: &[ReleaseRow]) -> Opened {
    let path = layout.store();
    let reason = match guarded(&path, None, DEADLINE) {
        Ok(store) => match reconcile(&store, held) {
            Ok(()) => return Opened { store: Arc::new(store), health: Health::Good },
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    tracing::warn!(path = %path.display(), reason, "store put aside");
    let fresh = put_aside(&path).map_err(|error| error.to_string()).and_then(|aside| {
        let store = guarded(&path, None, FRESH_DEADLINE).map_err(|error| error.to_string());
        let store = store.and_then(|store| {
            reconcile(&store, held).map_err(|error| error.to_string())?;
            Ok(store)
        });
        store.inspect_err(|_| put_back(&path, aside.as_deref()))
    });
    match fresh {
        Ok(store) => Opened { store: Arc::new(store), health: Health::Rebuilt(reason) },
        Err(again) => {
            tracing::warn!(path = %path.display(), reason = again, "store not usable, rows are kept in memory");
            Opened { store: Arc::new(MemoryStore::with(held)), health: Health::MemoryOnly(again) }
        }
    }
}

/// Opens the store to read it while no agent runs: nothing is rebuilt.
pub fn read(layout: &Layout) -> Result<SharedStore, StoreError> {
    let path = layout.store();
    if !path.is_dir() {
        return Ok(Arc::new(MemoryStore::default()));
    }
    Ok(Arc::new(guarded(&path, Some(Duration::ZERO), DEADLINE)?))
}

/// Opens on a thread of its own, which is left behind if it does not come back.
fn guarded(path: &Path, patience: Option<Duration>, deadline: Duration) -> Result<SledStore, StoreError> {
    let refused = |reason: &str| StoreError::Refused { path: path.to_owned(), reason: reason.to_owned() };
    let (sender, receiver) = sync_channel(1);
    let thread_path = path.to_owned();
    let spawned = std::thread::Builder::new().name("store-open".into()).spawn(move || {
        let opened = std::panic::catch_unwind(|| SledStore::open(&thread_path, patience));
        // Nobody waits any more after the deadline.
        let _ = sender.send(opened);
    });
    spawned.map_err(|error| refused(&error.to_string()))?;
    match receiver.recv_timeout(deadline) {
        Ok(Ok(opened)) => opened,
        Ok(Err(_)) => Err(refused("opening it panicked")),
        Err(RecvTimeoutError::Timeout) => Err(refused("opening it took too long")),
        Err(RecvTimeoutError::Disconnected) => Err(refused("the thread that opened it died")),
    }
}

/// Makes the release rows what the directories say. What only the store knows of a release is kept.
fn reconcile(store: &SledStore, held: &[ReleaseRow]) -> Result<(), StoreError> {
    let rows = store.all_releases()?;
    let mut changes = Vec::new();
    for found in held {
        let known = rows.iter().find(|row| row.release == found.release);
        if known.is_none_or(|row| row.confirmed_at != found.confirmed_at) {
            changes.push(Change::Put(found.clone()));
        }
    }
    let gone = rows.iter().filter(|row| held.iter().all(|found| found.release.digest != row.release.digest));
    changes.extend(gone.map(|row| Change::Remove(row.release.clone())));
    if changes.is_empty() { Ok(()) } else { store.apply(changes) }
}

/// Keeps the newest damaged store for a person to look at.
fn put_aside(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned() + ".bad-";
    let mut number = 1;
    let mut older = Vec::new();
    for item in std::fs::read_dir(path.parent().unwrap_or(path))?.flatten() {
        if let Some(old) = item.file_name().to_string_lossy().strip_prefix(&name) {
            number = number.max(old.parse::<u32>().unwrap_or(0).saturating_add(1));
            older.push(item.path());
        }
    }
    if !path.exists() {
        return Ok(None);
    }
    let aside = path.with_file_name(format!("{name}{number}"));
    durable::rename(path, &aside)?;
    older.iter().try_for_each(|old| durable::remove_tree(old))?;
    Ok(Some(aside))
}

/// When no new store can be made either, it is the disk that is full or broken, not the store: it may be good when the
/// agent starts again.
fn put_back(path: &Path, aside: Option<&Path>) {
    let Some(aside) = aside else { return };
    let back = durable::remove_tree(path).and_then(|()| durable::rename(aside, path));
    if let Err(error) = back {
        tracing::warn!(path = %aside.display(), %error, "store not put back");
    }
}
