//! Keys of the state store, and the way back from disk to a [`Fleet`].
//!
//! `app/NAME audit-end bundle/HEX cold/audit/SEQ deposed environment/APP/NAME event/SEQ fence/EPOCH-LEADER grant/HEX host/ID issued/SERIAL restore rollout-host/ID/HOST rollout/ID status/ID/APP token/ID`.
//! A rollout's hosts are rows of their own, so that one host's step writes one small row. In key order they come before
//! their rollout, which is the order in which they are written. The audit log is `segment`'s.

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::fence::Fence;
use windlass_proto::id::{AppName, Environment, HostId, HostName, RolloutId};
use windlass_proto::phase::AppStatus;
use windlass_rollout::Rollout;

use super::record::{
    AppRecord, BundleRecord, EnvironmentRecord, EventRecord, GrantRecord, HostRecord, Issued, TokenRecord,
};
use super::row::{self, Record, Unreadable};
use super::{Fleet, Host, RolloutEntry};
use crate::store::{Key, StateStore, StoreError};

/// More changes of a rollout's hosts than there are while a coordinator runs.
const UNWRITTEN: u64 = 1 << 32;

type KeyResult = Result<Key, StoreError>;

pub(super) fn app_key(app: &AppName) -> KeyResult {
    Key::new(format!("app/{app}"))
}
pub(super) fn bundle_key(digest: &Digest) -> KeyResult {
    Key::new(format!("bundle/{}", digest.hex()))
}
pub(super) fn environment_key(app: &AppName, environment: &Environment) -> KeyResult {
    Key::new(format!("environment/{app}/{environment}"))
}
pub(super) fn event_key(seq: u64) -> KeyResult {
    Key::new(format!("event/{seq:016x}"))
}
pub(super) fn fence_key(fence: &Fence) -> KeyResult {
    Key::new(format!("fence/{:016x}-{}", fence.epoch, fence.leader))
}
pub(super) fn grant_key(envelope: &Digest) -> KeyResult {
    Key::new(format!("grant/{}", envelope.hex()))
}
pub(super) fn issued_key(serial: &str) -> KeyResult {
    Key::new(format!("issued/{serial}"))
}
/// The key of what there is one of.
pub(super) fn single<T: Record>() -> KeyResult {
    Key::new(T::KIND)
}
pub(super) fn host_key(id: &HostId) -> KeyResult {
    Key::new(format!("host/{id}"))
}
pub(super) fn rollout_host_key(rollout: &RolloutId, host: &HostName) -> KeyResult {
    Key::new(format!("rollout-host/{rollout}/{host}"))
}
pub(super) fn rollout_key(rollout: &RolloutId) -> KeyResult {
    Key::new(format!("rollout/{rollout}"))
}
pub(super) fn status_key(host: &HostId, app: &AppName) -> KeyResult {
    Key::new(format!("status/{host}/{app}"))
}
pub(super) fn token_key(id: &str) -> KeyResult {
    Key::new(format!("token/{id}"))
}

/// A rollout without its hosts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RolloutHead {
    pub(super) rollout: Rollout,
    pub(super) idempotency_key: String,
}

/// Why the state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row that this version does not understand.
    #[error("row {key} of the state cannot be read")]
    Row {
        /// Its key.
        key: Key,
        /// The cause.
        #[source]
        source: Unreadable,
    },
}

const PAGE: usize = 500;

/// The row of a kind of which there is one.
pub(super) async fn one<T: Record>(store: &dyn StateStore) -> Result<Option<T>, LoadError> {
    let key = Key::new(T::KIND)?;
    let Some(row) = store.get(&key).await? else { return Ok(None) };
    row::decode(&row.value).map(Some).map_err(|source| LoadError::Row { key, source })
}

/// All rows of a kind.
pub(super) async fn rows<T: Record>(store: &dyn StateStore) -> Result<Vec<(Key, T)>, LoadError> {
    let prefix = format!("{}/", T::KIND);
    let mut all = Vec::new();
    let mut after: Option<Key> = None;
    loop {
        let page = store.scan(&prefix, after.as_ref(), PAGE).await?;
        let full = page.len() == PAGE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, row) in page {
            match row::decode(&row.value) {
                Ok(record) => all.push((key, record)),
                Err(source) => return Err(LoadError::Row { key, source }),
            }
        }
        if !full {
            return Ok(all);
        }
    }
}

impl Fleet {
    /// Reads everything.
    pub async fn load(&mut self, store: &dyn StateStore) -> Result<(), LoadError> {
        for (_, record) in rows::<HostRecord>(store).await? {
            self.names.insert(record.name.clone(), record.id.clone());
            self.hosts.insert(record.id.clone(), Host::new(record));
        }
        for (key, status) in rows::<AppStatus>(store).await? {
            let host = key.as_str().split('/').nth(1).and_then(|id| HostId::new(id).ok());
            if let Some(host) = host.and_then(|id| self.hosts.get_mut(&id)) {
                host.statuses.insert(status.app.clone(), status);
            }
        }
        for (_, record) in rows::<TokenRecord>(store).await? {
            self.tokens.insert(record.id.clone(), record);
        }
        for (_, record) in rows::<BundleRecord>(store).await? {
            self.bundles.insert(record.release.digest, record);
        }
        for (_, record) in rows::<GrantRecord>(store).await? {
            self.grants.insert(Digest::of(record.envelope.as_bytes()), record);
        }
        for (key, record) in rows::<AppRecord>(store).await? {
            if let Some(app) = key.as_str().strip_prefix("app/").and_then(|app| AppName::new(app).ok()) {
                self.apps.insert(app, record);
            }
        }
        for (key, record) in rows::<EnvironmentRecord>(store).await? {
            let names = key.as_str().strip_prefix("environment/").and_then(|names| names.split_once('/'));
            let names =
                names.and_then(|(app, name)| Some((AppName::new(app).ok()?, Environment::new(name).ok()?)));
            self.environments.extend(names.map(|names| (names, record)));
        }
        for (_, event) in rows::<EventRecord>(store).await? {
            self.next_event = event.seq + 1;
            self.events.push_back(event);
        }
        for (key, Issued {}) in rows::<Issued>(store).await? {
            self.issued.extend(key.as_str().strip_prefix("issued/").map(str::to_owned));
        }
        self.load_leads(store).await?;
        self.load_audit(store).await?;
        self.load_rollouts(store).await
    }

    async fn load_rollouts(&mut self, store: &dyn StateStore) -> Result<(), LoadError> {
        for (_, head) in rows::<RolloutHead>(store).await? {
            let mut entry = RolloutEntry { idempotency_key: head.idempotency_key, rollout: head.rollout };
            // What only its hosts changed has not written it; nobody sees it go down.
            entry.rollout.version = entry.rollout.version.saturating_add(UNWRITTEN);
            self.rollouts.insert(entry.rollout.id.clone(), entry);
        }
        for (key, host) in rows::<windlass_rollout::state::Host>(store).await? {
            if let Some((entry, name)) = self.of_rollout(&key) {
                entry.rollout.hosts.insert(name, host);
            }
        }
        Ok(())
    }

    /// Rollout and host of a row; `None` for what a start that was cut off left behind.
    fn of_rollout(&mut self, key: &Key) -> Option<(&mut RolloutEntry, HostName)> {
        let mut parts = key.as_str().split('/').skip(1);
        let rollout = RolloutId::new(parts.next()?).ok()?;
        let host = HostName::new(parts.next()?).ok()?;
        Some((self.rollouts.get_mut(&rollout)?, host))
    }
}
