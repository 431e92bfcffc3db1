//! The embedded default: sled 0.34 in a directory. The only file that names sled.
//!
//! What sled does not promise is added here: `flush` is followed by `syncfs` (flush alone lost commits in power cuts),
//! every value carries a checksum over its key, half-written snapshots are removed before opening, opening is guarded
//! against panics, and a sentinel beside the database tells an emptied store from a new one.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use windlass_proto::fence::LeaderId;
use windlass_proto::tls::draw_leader;

use super::{
    COLD, CommitError, Condition, Fence, Key, Leadership, Member, Revision, Rise, StateStore, StoreError,
    Txn, Versioned, Write,
};

/// First byte of each value.
const FORMAT: u8 = 1;
/// Format, revision, checksum.
const HEADER: usize = 1 + 8 + 16;
/// Holds a [`Head`].
const HEAD: &str = "!head";
/// Directory of the database inside the store's directory.
const DATABASE: &str = "db";
/// Holds the revision at the last start, so that a store that lost its rows is noticed.
const SENTINEL: &str = "sentinel.json";
/// The lock of a process killed a moment ago may still be held by the kernel.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// State in a sled database.
#[derive(Debug, Clone)]
pub struct SledStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    directory: File,
    database: sled::Db,
    /// One writer at a time; holds what the head row says.
    head: Mutex<Head>,
    lost: watch::Sender<bool>,
}

/// The backend's own row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Head {
    revision: u64,
    epoch: u64,
    /// Drawn with the epoch; absent where that was before there were fences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drawn: Option<LeaderId>,
    leader: Option<Member>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sentinel {
    revision: u64,
}

impl SledStore {
    /// Opens or makes the store in `path` and checks every row that is not [`COLD`]. Blocks.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let io = |action| {
            let path = path.to_owned();
            move |source: std::io::Error| StoreError::Io { action, path, source: source.into() }
        };
        let at = path.join(DATABASE);
        crate::private::create(path)
            .and_then(|()| crate::private::create(&at))
            .map_err(io("create the directory of"))?;
        remove_half_snapshots(&at).map_err(io("clean"))?;
        let database = open_guarded(path, &at)?;
        let directory = File::open(path).map_err(io("open the directory of"))?;
        let head = check_rows(path, &database)?;
        check_sentinel(path, head.revision)?;
        let (lost, _) = watch::channel(false);
        let store = Self {
            shared: Arc::new(Shared { path: path.to_owned(), directory, database, head: head.into(), lost }),
        };
        write_sentinel(path, store.head().revision).map_err(io("mark"))?;
        Ok(store)
    }

    fn head(&self) -> Head {
        self.shared.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
        let shared = self.shared.clone();
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(result) => result,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

impl Shared {
    fn failed(&self, action: &'static str) -> impl FnOnce(sled::Error) -> StoreError + '_ {
        move |source| StoreError::Io { action, path: self.path.clone(), source: source.into() }
    }

    fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        match self.database.get(key).map_err(self.failed("read"))? {
            Some(row) => decode(&self.path, key.as_bytes(), &row).map(Some),
            None => Ok(None),
        }
    }

    fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let start = after.filter(|after| *after >= prefix).unwrap_or(prefix);
        let mut rows = Vec::new();
        for row in self.database.range(start.as_bytes()..) {
            let (key, value) = row.map_err(self.failed("read"))?;
            if rows.len() == limit || !key.starts_with(prefix.as_bytes()) {
                break;
            }
            if key.starts_with(b"!") || after.is_some_and(|after| *key == *after.as_bytes()) {
                continue;
            }
            let versioned = decode(&self.path, &key, &value)?;
            rows.push((Key(String::from_utf8_lossy(&key).into_owned()), versioned));
        }
        Ok(rows)
    }

    fn commit(&self, fence: Fence, txn: Txn) -> Result<Revision, CommitError> {
        txn.check()?;
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if (fence.epoch, Some(fence.leader)) != (head.epoch, head.drawn) {
            return Err(CommitError::Fenced { epoch: fence.epoch, current: head.epoch });
        }
        for condition in txn.conditions {
            let (key, wanted) = match condition {
                Condition::Absent(key) => (key, None),
                Condition::At(key, revision) => (key, Some(revision)),
            };
            if self.read(key.as_str())?.map(|row| row.revision) != wanted {
                return Err(CommitError::Conflict { key });
            }
        }
        let next = Head { revision: head.revision + 1, ..head.clone() };
        let mut batch = sled::Batch::default();
        for write in txn.writes {
            match write {
                Write::Put(key, value) => {
                    batch.insert(key.as_str(), encode(key.as_str(), next.revision, &value));
                }
                Write::Delete(key) => batch.remove(key.as_str()),
            }
        }
        self.apply(batch, &next)?;
        *head = next;
        Ok(Revision(head.revision))
    }

    fn campaign(&self, me: &Member, rise: Rise) -> Result<Fence, StoreError> {
        let leader = draw_leader()?;
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let fence = Fence { epoch: rise.from(head.epoch), leader };
        let next = Head {
            revision: head.revision + 1,
            epoch: fence.epoch,
            drawn: Some(leader),
            leader: Some(me.clone()),
        };
        self.apply(sled::Batch::default(), &next)?;
        *head = next;
        Ok(fence)
    }

    /// One batch with the new head, on disk when it returns.
    fn apply(&self, mut batch: sled::Batch, head: &Head) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(head).map_err(|source| StoreError::Io {
            action: "encode",
            path: self.path.clone(),
            source: source.into(),
        })?;
        batch.insert(HEAD, encode(HEAD, head.revision, &bytes));
        self.database.apply_batch(batch).map_err(self.failed("write"))?;
        self.database.flush().map_err(self.failed("write"))?;
        nix::unistd::syncfs(&self.directory).map_err(|source| StoreError::Io {
            action: "sync",
            path: self.path.clone(),
            source: source.into(),
        })
    }
}

#[async_trait]
impl StateStore for SledStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        let key = key.clone();
        self.blocking(move |shared| shared.read(key.as_str())).await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking(move |shared| shared.scan(&prefix, after.as_ref().map(Key::as_str), limit)).await
    }

    async fn commit(&self, fence: &Fence, txn: Txn) -> Result<Revision, CommitError> {
        let fence = *fence;
        self.blocking(move |shared| shared.commit(fence, txn)).await
    }

    async fn campaign(&self, me: &Member, rise: Rise) -> Result<Leadership, StoreError> {
        let me = me.clone();
        let fence = self.blocking(move |shared| shared.campaign(&me, rise)).await?;
        // The directory's lock makes this process the only one; only a campaign of its own can end a leadership.
        self.shared.lost.send_replace(true);
        self.shared.lost.send_replace(false);
        Ok(Leadership { fence, lost: self.shared.lost.subscribe() })
    }

    async fn leader(&self) -> Result<Option<Member>, StoreError> {
        Ok(self.head().leader)
    }
}

/// sled leaves these when it dies while writing a snapshot, and may not open over them.
fn remove_half_snapshots(database: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(database)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "opening is blocking work on a blocking thread")]
fn open_guarded(path: &Path, at: &Path) -> Result<sled::Db, StoreError> {
    let started = Instant::now();
    loop {
        let config = sled::Config::new()
            .path(at)
            .cache_capacity(8 << 20)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(database)) => return Ok(database),
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
                if started.elapsed() > LOCK_PATIENCE {
                    return Err(StoreError::InUse { path: path.to_owned() });
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(Err(sled::Error::Corruption { .. })) => {
                return Err(damaged(path, "sled reports corruption".into()));
            }
            Ok(Err(error)) => {
                return Err(StoreError::Io { action: "open", path: path.to_owned(), source: error.into() });
            }
            Err(_) => return Err(damaged(path, "sled panicked while opening it".into())),
        }
    }
}

fn check_rows(path: &Path, database: &sled::Db) -> Result<Head, StoreError> {
    let mut head = None;
    let mut newest = 0;
    // The first byte after all cold keys.
    let behind = COLD.replace('/', "0");
    let warm = database.range(..COLD.as_bytes()).chain(database.range(behind.as_bytes()..));
    for row in warm {
        let (key, value) = row.map_err(|error| damaged(path, error.to_string()))?;
        let row = decode(path, &key, &value)?;
        newest = newest.max(row.revision.0);
        if *key == *HEAD.as_bytes() {
            let parsed: Head = serde_json::from_slice(&row.value)
                .map_err(|error| damaged(path, format!("its head row does not parse: {error}")))?;
            head = Some(parsed);
        }
    }
    match head {
        Some(head) if head.revision >= newest => Ok(head),
        Some(_) => Err(damaged(path, "its head row is older than its other rows".into())),
        None if newest == 0 => Ok(Head::default()),
        None => Err(damaged(path, "its head row is gone".into())),
    }
}

fn check_sentinel(path: &Path, revision: u64) -> Result<(), StoreError> {
    let bytes = match fs::read(path.join(SENTINEL)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(StoreError::Io { action: "read", path: path.to_owned(), source: source.into() });
        }
    };
    let sentinel: Sentinel = serde_json::from_slice(&bytes)
        .map_err(|error| damaged(path, format!("{SENTINEL} does not parse: {error}")))?;
    if revision < sentinel.revision {
        let what = format!("it ends at commit {revision}, and {} were made before", sentinel.revision);
        return Err(damaged(path, what));
    }
    Ok(())
}

fn write_sentinel(path: &Path, revision: u64) -> std::io::Result<()> {
    let temporary = path.join(".sentinel");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(&Sentinel { revision })?)?;
    file.sync_all()?;
    fs::rename(&temporary, path.join(SENTINEL))?;
    File::open(path)?.sync_all()
}

fn damaged(path: &Path, what: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what }
}

/// The checksum covers the key too, so that a row found under another key is noticed.
fn checksum(key: &[u8], revision: [u8; 8], value: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes()).update(key).update(&revision).update(value);
    let mut sum = [0; 16];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    sum
}

fn encode(key: &str, revision: u64, value: &[u8]) -> Vec<u8> {
    let revision = revision.to_le_bytes();
    let mut row = Vec::with_capacity(HEADER + value.len());
    row.push(FORMAT);
    row.extend_from_slice(&revision);
    row.extend_from_slice(&checksum(key.as_bytes(), revision, value));
    row.extend_from_slice(value);
    row
}

fn decode(path: &Path, key: &[u8], row: &[u8]) -> Result<Versioned, StoreError> {
    let wrong = |what: &str| damaged(path, format!("row {} {what}", String::from_utf8_lossy(key)));
    let (header, value) = row.split_at_checked(HEADER).ok_or_else(|| wrong("is cut short"))?;
    if header[0] != FORMAT {
        return Err(wrong("was written by another version of windlass"));
    }
    let mut revision = [0; 8];
    revision.copy_from_slice(&header[1..9]);
    if header[9..] != checksum(key, revision, value) {
        return Err(wrong("does not match its checksum"));
    }
    Ok(Versioned { value: value.to_vec(), revision: Revision(u64::from_le_bytes(revision)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member { id: "one".into(), address: "127.0.0.1:1".into() }
    }

    fn put(key: &str, value: &[u8]) -> Txn {
        Txn { conditions: vec![], writes: vec![Write::Put(Key::new(key).unwrap(), value.to_vec())] }
    }

    #[tokio::test]
    async fn rows_survive_and_the_epoch_rises() {
        let dir = tempfile::tempdir().unwrap();
        for round in 1..=3_u64 {
            let store = SledStore::open(dir.path()).unwrap();
            let leadership = store.campaign(&member(), Rise::ONE).await.unwrap();
            assert_eq!(leadership.fence.epoch, round);
            let rows = store.scan("row/", None, 10).await.unwrap();
            assert_eq!(rows.len() as u64, round - 1);
            store.commit(&leadership.fence, put(&format!("row/{round}"), b"x")).await.unwrap();
        }
    }

    #[test]
    fn a_head_of_before_there_were_fences_is_read() {
        let head: Head = serde_json::from_str(r#"{"revision":9,"epoch":4,"leader":null}"#).unwrap();
        assert_eq!((head.revision, head.epoch, head.drawn), (9, 4, None));
    }

    #[tokio::test]
    async fn half_written_snapshots_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(DATABASE)).unwrap();
        let half = dir.path().join(DATABASE).join("snap.0000.generating");
        fs::write(&half, b"half").unwrap();
        SledStore::open(dir.path()).unwrap();
        assert!(!half.exists());
    }

    #[test]
    fn a_second_process_is_told_who_has_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let _first = SledStore::open(dir.path()).unwrap();
        let error = SledStore::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    }

    #[tokio::test]
    async fn damage_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = SledStore::open(dir.path()).unwrap();
            let leadership = store.campaign(&member(), Rise::ONE).await.unwrap();
            store.commit(&leadership.fence, put("host/a", b"value")).await.unwrap();
            store.shared.database.insert("host/b", encode("host/a", 2, b"value")).unwrap();
            store.shared.database.flush().unwrap();
        }
        let error = SledStore::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("host/b does not match its checksum"), "{error}");
    }

    /// A start would take longer and longer.
    #[tokio::test]
    async fn cold_rows_are_checked_when_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = SledStore::open(dir.path()).unwrap();
            let leadership = store.campaign(&member(), Rise::ONE).await.unwrap();
            for key in ["cold/a", "cold/b", "cold0"] {
                store.commit(&leadership.fence, put(key, b"value")).await.unwrap();
            }
            store.shared.database.insert("cold/b", encode("cold/a", 3, b"value")).unwrap();
            store.shared.database.flush().unwrap();
        }
        let store = SledStore::open(dir.path()).unwrap();
        let (a, b) = (Key::new("cold/a").unwrap(), Key::new("cold/b").unwrap());
        assert!(store.get(&a).await.unwrap().is_some());
        let error = store.get(&b).await.unwrap_err().to_string();
        assert!(error.contains("cold/b does not match its checksum"), "{error}");
        assert!(store.scan(COLD, Some(&a), 1).await.is_err());
        store.shared.database.insert("cold0", encode("cold/a", 3, b"value")).unwrap();
        store.shared.database.flush().unwrap();
        drop(store);
        let error = SledStore::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("cold0 does not match"), "what comes after them is checked: {error}");
    }

    #[tokio::test]
    async fn an_emptied_store_is_not_taken_for_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = SledStore::open(dir.path()).unwrap();
            store.campaign(&member(), Rise::ONE).await.unwrap();
        }
        drop(SledStore::open(dir.path()).unwrap());
        fs::remove_dir_all(dir.path().join(DATABASE)).unwrap();
        let error = SledStore::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("it ends at commit 0, and 1 were made before"), "{error}");
    }
}
