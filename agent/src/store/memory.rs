//! The store as maps: used when the disk's store cannot be, and to build a new one from.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use windlass_proto::digest::Digest;
use windlass_proto::id::AppName;

use super::{Change, EvidenceRow, HISTORY, HistoryRow, ReleaseRow, ReleaseStore, StoreError};

/// Rows in memory; forgotten with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    releases: BTreeMap<(AppName, Digest), ReleaseRow>,
    history: BTreeMap<AppName, Vec<HistoryRow>>,
    evidence: BTreeMap<AppName, Vec<EvidenceRow>>,
}

impl MemoryStore {
    /// A store that holds these releases.
    pub fn with(releases: &[ReleaseRow]) -> Self {
        let store = Self::default();
        let row = |row: &ReleaseRow| ((row.release.app.clone(), row.release.digest), row.clone());
        store.rows().releases = releases.iter().map(row).collect();
        store
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Each change is one map operation: a panic elsewhere leaves nothing half done.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReleaseStore for MemoryStore {
    fn releases(&self, app: &AppName) -> Result<Vec<ReleaseRow>, StoreError> {
        Ok(self.rows().releases.values().filter(|row| row.release.app == *app).cloned().collect())
    }

    fn all_releases(&self) -> Result<Vec<ReleaseRow>, StoreError> {
        Ok(self.rows().releases.values().cloned().collect())
    }

    fn history(&self, app: &AppName) -> Result<Vec<HistoryRow>, StoreError> {
        Ok(self.rows().history.get(app).cloned().unwrap_or_default())
    }

    fn evidence(&self, app: &AppName) -> Result<Vec<EvidenceRow>, StoreError> {
        Ok(self.rows().evidence.get(app).cloned().unwrap_or_default())
    }

    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        let mut rows = self.rows();
        for change in batch {
            match change {
                Change::Put(row) => {
                    rows.releases.insert((row.release.app.clone(), row.release.digest), row);
                }
                Change::Remove(release) => {
                    rows.releases.remove(&(release.app, release.digest));
                }
                Change::Ended(row) => {
                    push(rows.history.entry(row.release.app.clone()).or_default(), row);
                }
                Change::Frozen { app, row } => push(rows.evidence.entry(app).or_default(), row),
            }
        }
        Ok(())
    }
}

fn push<T>(list: &mut Vec<T>, row: T) {
    list.insert(0, row);
    list.truncate(HISTORY);
}
