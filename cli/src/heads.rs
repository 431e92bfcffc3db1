//! What this machine has seen of a coordinator's audit log, so that an older state, or another log, shows.
//!
//! Each answer to a call that is on record brings the log's head. They are kept beside the configuration, by context, until a
//! check has found all of them in the log; from then on its last record stands for them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::rpc::audit::Head;
use windlass_proto::time::Timestamp;

use crate::config::Config;
use crate::files::write_atomic;

/// Of the file's form.
const VERSION: u32 = 1;
/// Most heads that are kept of a log between two checks. Beyond, the newest one takes the place of the one before it.
const MOST: usize = 64;
/// Another process writes for milliseconds.
const LOCK: Duration = Duration::from_secs(2);

/// A head, and when it was the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The head.
    pub head: Head,
    /// When.
    pub at: Timestamp,
}

/// What is known of one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Log {
    /// The CA of the fleet's operators: a context of the same name can be another fleet's.
    ca: Digest,
    /// In the order in which they were seen.
    seen: Vec<Seen>,
}

impl Log {
    fn add(&mut self, seen: Seen) -> bool {
        if seen.head.seq == 0 || self.seen.iter().any(|known| known.head == seen.head) {
            return false;
        }
        self.seen.truncate(MOST - 1);
        self.seen.push(seen);
        true
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    contexts: BTreeMap<String, Log>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { version: VERSION, contexts: BTreeMap::new() }
    }
}

/// The heads of one context.
#[derive(Debug, Clone)]
pub struct Heads {
    path: PathBuf,
    context: String,
    ca: Digest,
}

/// What is kept cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}, which holds what was seen of audit logs", path.display())]
pub struct HeadsError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Heads {
    /// Those of a context whose fleet has this CA.
    pub fn of(config: &Config, context: &str, ca_pem: &str) -> Self {
        let ca = Digest::of(ca_pem.trim().as_bytes());
        Self { path: config.dir().join("audit-heads.json"), context: context.to_owned(), ca }
    }

    /// What was seen since the last check, oldest first.
    pub fn seen(&self) -> Result<Vec<Seen>, HeadsError> {
        let kept = read(&self.path)?;
        let log = kept.contexts.get(&self.context).filter(|log| log.ca == self.ca);
        Ok(log.map(|log| log.seen.clone()).unwrap_or_default())
    }

    /// Adds one.
    pub async fn add(&self, seen: Seen) -> Result<(), HeadsError> {
        self.change(|log| log.add(seen)).await
    }

    /// A check has found all that were seen: one stands for them from now on.
    pub async fn replace(&self, seen: Seen) -> Result<(), HeadsError> {
        self.change(|log| {
            let known = std::mem::take(&mut log.seen);
            log.add(seen);
            log.seen != known
        })
        .await
    }

    async fn change(&self, change: impl FnOnce(&mut Log) -> bool) -> Result<(), HeadsError> {
        let _lock = lock(&self.path.with_extension("lock")).await?;
        let mut kept = read(&self.path)?;
        let fresh = Log { ca: self.ca, seen: Vec::new() };
        let log = kept.contexts.entry(self.context.clone()).or_insert_with(|| fresh.clone());
        if log.ca != self.ca {
            *log = fresh;
        }
        if !change(log) {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&kept).map_err(|error| self.failed("write", error.into()))?;
        write_atomic(&self.path, &text, 0o600).map_err(|error| self.failed("write", error))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> HeadsError {
        HeadsError { action, path: self.path.clone(), source }
    }
}

fn read(path: &Path) -> Result<Kept, HeadsError> {
    let failed = |source| HeadsError { action: "read", path: path.to_owned(), source };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(failed(error)),
    };
    let kept: Kept = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
    if kept.version != VERSION {
        let newer = format!("it is of version {}, this windlass knows {VERSION}", kept.version);
        return Err(failed(io::Error::other(newer)));
    }
    Ok(kept)
}

/// Held until it is dropped.
async fn lock(path: &Path) -> Result<File, HeadsError> {
    let failed = |source| HeadsError { action: "lock", path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path).map_err(failed)?;
    let locked = tokio::time::timeout(LOCK, async {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(std::fs::TryLockError::Error(error)) => return Err(error),
                Err(std::fs::TryLockError::WouldBlock) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    });
    let late = |_| failed(io::Error::other(format!("another process holds it for {} s", LOCK.as_secs())));
    locked.await.map_err(late)?.map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn head(seq: u64) -> Seen {
        Seen { head: Head { seq, digest: Digest::of(&seq.to_le_bytes()) }, at: Timestamp(seq as i64) }
    }

    fn heads(dir: &Path, context: &str, ca: &str) -> Heads {
        Heads::of(&Config { path: dir.join("config.toml"), ..Config::default() }, context, ca)
    }

    #[tokio::test]
    async fn heads_are_kept_by_context_and_fleet_until_a_check_has_found_them() {
        let dir = tempfile::tempdir().unwrap();
        let prod = heads(dir.path(), "prod", "one CA");
        assert_eq!(prod.seen().unwrap(), []);
        for seen in [head(3), head(5), head(3), head(0)] {
            prod.add(seen).await.unwrap();
        }
        assert_eq!(prod.seen().unwrap(), [head(3), head(5)]);
        let file = dir.path().join("audit-heads.json");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(heads(dir.path(), "staging", "one CA").seen().unwrap(), []);

        prod.replace(head(9)).await.unwrap();
        assert_eq!(prod.seen().unwrap(), [head(9)]);
        // Another record of the same number is another head.
        let other = Seen { head: Head { seq: 9, digest: Digest::of(b"other") }, at: Timestamp(1) };
        prod.add(other).await.unwrap();
        assert_eq!(prod.seen().unwrap(), [head(9), other]);

        let again = heads(dir.path(), "prod", "the CA of another fleet");
        assert_eq!(again.seen().unwrap(), []);
        again.add(head(1)).await.unwrap();
        assert_eq!((again.seen().unwrap(), prod.seen().unwrap()), (vec![head(1)], vec![]));
    }

    #[tokio::test]
    async fn the_first_ones_and_the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        let prod = heads(dir.path(), "prod", "CA");
        for seq in 1..=200 {
            prod.add(head(seq)).await.unwrap();
        }
        let seen = prod.seen().unwrap();
        assert_eq!(
            (seen.len(), seen[0], seen[MOST - 2], seen[MOST - 1]),
            (MOST, head(1), head(63), head(200))
        );
    }

    #[tokio::test]
    async fn many_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = tokio::task::JoinSet::new();
        for seq in 1..=20 {
            let heads = heads(dir.path(), "prod", "CA");
            all.spawn(async move { heads.add(head(seq)).await.unwrap() });
        }
        all.join_all().await;
        assert_eq!(heads(dir.path(), "prod", "CA").seen().unwrap().len(), 20);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (prod, file) = (heads(dir.path(), "prod", "CA"), dir.path().join("audit-heads.json"));
        for text in ["nonsense", r#"{"version":2,"contexts":{}}"#] {
            std::fs::write(&file, text).unwrap();
            let error = prod.add(head(1)).await.unwrap_err();
            assert!(error.to_string().contains("audit-heads.json"), "{error}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
    }
}
