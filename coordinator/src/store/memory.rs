//! A store that forgets: for tests of everything above the store.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use windlass_proto::tls::draw_leader;

use super::{
    CommitError, Condition, Fence, Key, Leadership, Member, Revision, Rise, StateStore, StoreError, Txn,
    Versioned, Write,
};

/// State in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rows: BTreeMap<Key, Versioned>,
    revision: u64,
    fence: Option<Fence>,
    leader: Option<Member>,
    lost: Option<watch::Sender<bool>>,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        Ok(self.lock().rows.get(key).cloned())
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let inner = self.lock();
        let rows = inner
            .rows
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(prefix) && after.is_none_or(|after| *key > after));
        Ok(rows.take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    async fn commit(&self, fence: &Fence, txn: Txn) -> Result<Revision, CommitError> {
        txn.check()?;
        let mut inner = self.lock();
        if inner.fence != Some(*fence) {
            let current = inner.fence.map_or(0, |fence| fence.epoch);
            return Err(CommitError::Fenced { epoch: fence.epoch, current });
        }
        for condition in txn.conditions {
            let (key, wanted) = match condition {
                Condition::Absent(key) => (key, None),
                Condition::At(key, revision) => (key, Some(revision)),
            };
            if inner.rows.get(&key).map(|row| row.revision) != wanted {
                return Err(CommitError::Conflict { key });
            }
        }
        inner.revision += 1;
        let revision = Revision(inner.revision);
        for write in txn.writes {
            match write {
                Write::Put(key, value) => {
                    inner.rows.insert(key, Versioned { value, revision });
                }
                Write::Delete(key) => {
                    inner.rows.remove(&key);
                }
            }
        }
        Ok(revision)
    }

    async fn campaign(&self, me: &Member, rise: Rise) -> Result<Leadership, StoreError> {
        let leader = draw_leader()?;
        let mut inner = self.lock();
        if let Some(former) = inner.lost.take() {
            former.send_replace(true);
        }
        let fence = Fence { epoch: rise.from(inner.fence.map_or(0, |fence| fence.epoch)), leader };
        inner.fence = Some(fence);
        inner.leader = Some(me.clone());
        let (sender, lost) = watch::channel(false);
        inner.lost = Some(sender);
        Ok(Leadership { fence, lost })
    }

    async fn leader(&self) -> Result<Option<Member>, StoreError> {
        Ok(self.lock().leader.clone())
    }
}
