//! The store on disk: the only file that knows sled. The rules of reference/RELIABILITY.md 3.2 are kept here: small
//! values, one batch at a time, `flush` and then `syncfs`, half-made snapshots removed before opening, and a sentinel,
//! because sled can come up empty without an error.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::id::AppName;

use super::{
    Change, EvidenceRow, HISTORY, HistoryRow, ReleaseRow, ReleaseStore, StoreError, VALUE_BYTES, cut,
};
use crate::layout::{PRIVATE, keep_private};

/// Format of the rows.
const SCHEMA: u32 = 1;
const SENTINEL: &[u8] = b"s";
/// A killed agent's lock may outlive it by a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// A page cache; the whole store is smaller.
const CACHE_BYTES: u64 = 8 << 20;

/// Says what the release rows were when they were last written.
#[derive(Debug, Serialize, Deserialize)]
struct Sentinel {
    schema: u32,
    generation: u64,
    rows: u64,
    digest: Digest,
}

/// Rows in sled.
#[derive(Debug)]
pub(super) struct SledStore {
    path: PathBuf,
    db: sled::Db,
    /// One writer at a time; the number of the last batch.
    generation: Mutex<u64>,
}

impl SledStore {
    /// Opens the store and believes it only if its sentinel agrees with its rows. `patience` bounds the wait for a lock.
    /// May panic on a damaged store and may take long: see [`super::guard`].
    pub(super) fn open(path: &Path, patience: Option<Duration>) -> Result<Self, StoreError> {
        remove_half_made_snapshots(path);
        let config = || {
            sled::Config::new()
                .path(path)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .mode(sled::Mode::LowSpace)
        };
        let mut left = patience.unwrap_or(LOCK_PATIENCE);
        let db = loop {
            match config().open() {
                Ok(db) => break db,
                Err(sled::Error::Io(error)) if is_lock(&error) => {
                    let pause = Duration::from_millis(50).min(left);
                    if pause.is_zero() {
                        return Err(StoreError::InUse { path: path.to_owned() });
                    }
                    // This runs on a thread of its own.
                    std::thread::park_timeout(pause);
                    left -= pause;
                }
                Err(error) => return Err(refused(path)(error)),
            }
        };
        keep_private(path, PRIVATE);
        let store = Self { path: path.to_owned(), db, generation: Mutex::new(0) };
        let generation = store.check_sentinel()?;
        *store.generation.lock().unwrap_or_else(PoisonError::into_inner) = generation;
        Ok(store)
    }

    /// The generation that the sentinel says, if it agrees with the rows; 0 for an empty new store.
    fn check_sentinel(&self) -> Result<u64, StoreError> {
        let doubt = |reason: &str| StoreError::Refused { path: self.path.clone(), reason: reason.to_owned() };
        let sentinel = self.db.get(SENTINEL).map_err(refused(&self.path))?;
        let Some(sentinel) = sentinel else {
            return if self.db.is_empty() { Ok(0) } else { Err(doubt("it has rows but no sentinel")) };
        };
        let sentinel: Sentinel =
            serde_json::from_slice(&sentinel).map_err(|_| doubt("its sentinel cannot be read"))?;
        if sentinel.schema != SCHEMA {
            return Err(doubt("it was written by another version"));
        }
        let rows = self.all_releases()?;
        if (rows.len() as u64, digest_of(rows.iter())?) != (sentinel.rows, sentinel.digest) {
            return Err(doubt("its rows are not those that its sentinel names"));
        }
        Ok(sentinel.generation)
    }

    fn rows<T: DeserializeOwned>(&self, prefix: &[u8]) -> Result<Vec<T>, StoreError> {
        let mut rows = Vec::new();
        for item in self.db.scan_prefix(prefix) {
            let (_, value) = item.map_err(refused(&self.path))?;
            rows.push(serde_json::from_slice(&value).map_err(|error| StoreError::Refused {
                path: self.path.clone(),
                reason: format!("a row cannot be read: {error}"),
            })?);
        }
        Ok(rows)
    }

    /// Keys beyond the newest [`HISTORY`] when one more comes.
    fn overdue(&self, prefix: &[u8]) -> Result<Vec<sled::IVec>, StoreError> {
        let keys: Result<Vec<_>, _> = self.db.scan_prefix(prefix).keys().collect();
        let mut keys = keys.map_err(refused(&self.path))?;
        keys.truncate((keys.len() + 1).saturating_sub(HISTORY));
        Ok(keys)
    }
}

impl ReleaseStore for SledStore {
    fn releases(&self, app: &AppName) -> Result<Vec<ReleaseRow>, StoreError> {
        self.rows(&prefix(b'r', app))
    }

    fn all_releases(&self) -> Result<Vec<ReleaseRow>, StoreError> {
        self.rows(b"r/")
    }

    fn history(&self, app: &AppName) -> Result<Vec<HistoryRow>, StoreError> {
        self.rows(&prefix(b'h', app)).map(|mut rows: Vec<_>| {
            rows.reverse();
            rows
        })
    }

    fn evidence(&self, app: &AppName) -> Result<Vec<EvidenceRow>, StoreError> {
        self.rows(&prefix(b'e', app)).map(|mut rows: Vec<_>| {
            rows.reverse();
            rows
        })
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let next = *generation + 1;
        let mut releases: std::collections::BTreeMap<Vec<u8>, ReleaseRow> =
            self.all_releases()?.into_iter().map(|row| (release_key(&row), row)).collect();
        let mut batch = sled::Batch::default();
        for (index, change) in changes.into_iter().enumerate() {
            match change {
                Change::Put(row) => {
                    batch.insert(release_key(&row), encode(&row)?);
                    releases.insert(release_key(&row), row);
                }
                Change::Remove(release) => {
                    let mut key = prefix(b'r', &release.app);
                    key.extend_from_slice(release.digest.hex().as_bytes());
                    releases.remove(&key);
                    batch.remove(key);
                }
                Change::Ended(mut row) => {
                    cut(&mut row.reason, VALUE_BYTES / 4);
                    let prefix = prefix(b'h', &row.release.app);
                    self.overdue(&prefix)?.into_iter().for_each(|key| batch.remove(key));
                    batch.insert(numbered(prefix, next, index), encode(&row)?);
                }
                Change::Frozen { app, row } => {
                    let prefix = prefix(b'e', &app);
                    self.overdue(&prefix)?.into_iter().for_each(|key| batch.remove(key));
                    batch.insert(numbered(prefix, next, index), encode(&row)?);
                }
            }
        }
        let (rows, digest) = (releases.len() as u64, digest_of(releases.values())?);
        batch.insert(SENTINEL, encode(&Sentinel { schema: SCHEMA, generation: next, rows, digest })?);
        self.db.apply_batch(batch).map_err(refused(&self.path))?;
        // sled's flush alone is not durable on Linux.
        self.db.flush().map_err(refused(&self.path))?;
        crate::durable::sync_filesystem(&self.path)
            .map_err(|error| refused(&self.path)(sled::Error::Io(error)))?;
        *generation = next;
        Ok(())
    }
}

fn digest_of<'a>(rows: impl Iterator<Item = &'a ReleaseRow>) -> Result<Digest, StoreError> {
    let mut hasher = blake3::Hasher::new();
    for row in rows {
        hasher.update(&serde_json::to_vec(row).map_err(StoreError::Encode)?);
    }
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

fn release_key(row: &ReleaseRow) -> Vec<u8> {
    let mut key = prefix(b'r', &row.release.app);
    key.extend_from_slice(row.release.digest.hex().as_bytes());
    key
}

/// `kind/app` and a zero, so that no prefix begins another one and apps are in order.
fn prefix(kind: u8, app: &AppName) -> Vec<u8> {
    let mut key = vec![kind, b'/'];
    key.extend_from_slice(app.as_str().as_bytes());
    key.push(0);
    key
}

fn numbered(mut key: Vec<u8>, generation: u64, index: usize) -> Vec<u8> {
    key.extend_from_slice(&generation.to_be_bytes());
    key.extend_from_slice(&(index as u32).to_be_bytes());
    key
}

fn encode(row: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let bytes = serde_json::to_vec(row).map_err(StoreError::Encode)?;
    if bytes.len() > VALUE_BYTES {
        return Err(StoreError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// A crash while sled wrote a snapshot leaves a file that makes every later open fail. Whole snapshots must stay:
/// without them sled comes up empty.
fn remove_half_made_snapshots(path: &Path) {
    let Ok(items) = std::fs::read_dir(path) else { return };
    for item in items.flatten() {
        let name = item.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            // If it stays, opening fails and the store is built anew.
            let _ = std::fs::remove_file(item.path());
        }
    }
}

fn is_lock(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock || error.to_string().contains("WouldBlock")
}

fn refused(path: &Path) -> impl FnOnce(sled::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Refused { path, reason: error.to_string() }
}
