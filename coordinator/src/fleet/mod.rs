//! The fleet as the coordinator knows it: a projection in memory of what is on disk, and who is connected.
//!
//! Plain data and plain functions: no clock (the driver sets [`Fleet::now`]), no file, no socket. What a function
//! changes it also writes into [`Changes`]; the driver commits these, and only then sends messages and answers.
//!
//! * `enrolment`, `tokens`: how hosts come in. `hosts`: their sessions. `leads`: which of them this state may lead. `acts`: what
//!   operators do to them.
//! * `declined`: what hosts do not do. `bundles`: the index of bundles. `grants`: leave to use earlier ones.
//! * `environments`: of apps; whose a host is. `orders`: from what an operator asks for to a plan. `rollouts`: events into the rollout's machine, effects out.
//! * `history`: what succeeded, what failed, where to go back to. `log`: the fleet's events. `audit`: who asked for what;
//!   `segment`: how that is kept. `counted`: numbers for the metrics. `availability`: what users saw of a rollout.
//! * `traced`: what a collector of traces is told. `persist`: keys, and the way back from disk; `row`: what rows are as bytes.

mod acts;
mod audit;
mod availability;
mod bundles;
mod counted;
mod declined;
mod enrolment;
mod environments;
mod grants;
mod history;
mod hosts;
mod leads;
mod log;
mod orders;
mod persist;
pub mod record;
mod refusal;
mod rollouts;
mod row;
mod segment;
#[cfg(test)]
mod tests;
mod tokens;
mod traced;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tokio::sync::{mpsc, watch};
use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, Environment, HostId, HostName, RolloutId};
use windlass_proto::phase::AppStatus;
use windlass_proto::rpc::{self, audit::Head};
use windlass_proto::spec::dial::Allowed;
use windlass_proto::time::{Span, Timestamp};
use windlass_proto::trace::Spans;
use windlass_rollout::Rollout;

pub use self::acts::{Removal, Unquarantine};
pub use self::audit::Act;
pub use self::availability::Asked;
pub use self::counted::Counted;
pub use self::enrolment::{Enrolled, Enrolment};
pub use self::hosts::{Greeting, HostState};
use self::leads::Leads;
pub use self::leads::{Deposed, deposed};
pub use self::log::EventFilter;
pub use self::orders::{OrderText, Target};
pub use self::persist::LoadError;
pub use self::refusal::Refusal;
pub use self::segment::{AuditPages, audited_then};
pub use self::tokens::TokenState;
use crate::rate::Meter;
use crate::store::{Fence, Key, Write};
use record::{AppRecord, BundleRecord, EnvironmentRecord, EventRecord, GrantRecord, HostRecord, TokenRecord};

/// Heartbeats are asked for this often.
pub const HEARTBEAT: Span = Span::secs(3);
/// A lease is good for so long.
pub const LEASE_TTL: Span = Span::secs(10);
/// A host that was not heard of for so long is silent.
pub const SILENT_AFTER: Span = Span::secs(15);
/// Events kept.
pub const EVENTS: usize = 10_000;
/// Ended rollouts kept; the newest of an environment stays in any case.
pub const ENDED_ROLLOUTS: usize = 500;
/// Largest spec that is kept in a row of the store, well below what a transaction takes.
pub const ROW: usize = 256 * 1024;
/// Messages waiting for one agent; a session that is further behind is closed, and the next one starts from its state.
pub const SESSION_QUEUE: usize = 64;

/// Everything the coordinator knows.
#[derive(Debug)]
pub struct Fleet {
    /// The fleet's name.
    pub name: String,
    leads: Leads,
    /// Time of the command at hand.
    pub now: Timestamp,
    /// When this coordinator started.
    pub started_at: Timestamp,
    hosts: BTreeMap<HostId, Host>,
    names: BTreeMap<HostName, HostId>,
    tokens: BTreeMap<String, TokenRecord>,
    bundles: BTreeMap<Digest, BundleRecord>,
    /// By the digest of their envelopes.
    grants: BTreeMap<Digest, GrantRecord>,
    apps: BTreeMap<AppName, AppRecord>,
    environments: BTreeMap<(AppName, Environment), EnvironmentRecord>,
    rollouts: BTreeMap<RolloutId, RolloutEntry>,
    timers: BTreeMap<RolloutId, Timestamp>,
    events: VecDeque<EventRecord>,
    next_event: u64,
    event_seen: watch::Sender<u64>,
    audit: segment::Log,
    /// Its head, as it is on disk.
    audit_seen: watch::Sender<Head>,
    /// Serial numbers of certificates that are on record as issued, where a file still says so, too.
    issued: BTreeSet<String>,
    watchers: HashMap<RolloutId, watch::Sender<rpc::Rollout>>,
    changes: Changes,
    /// The operator whose command is being done.
    acting: Option<String>,
    /// For the metrics.
    pub counted: Counted,
    /// To a collector of traces.
    pub spans: Spans,
    /// Which URLs of specs may be dialled.
    pub dial_allow: Vec<Allowed>,
}

/// A host and its session.
#[derive(Debug)]
pub struct Host {
    /// What is kept.
    pub record: HostRecord,
    /// Newest status of each app, without evidence.
    pub statuses: BTreeMap<AppName, AppStatus>,
    /// The open session.
    session: Option<Session>,
    /// When it was last heard of, by any session of this coordinator.
    last_heard: Option<Timestamp>,
    /// Whether its silence was made known.
    silent: bool,
    /// The certificates that it asked for.
    certificates: Meter,
    /// What it refused last, of which nobody but the log knows.
    refused: String,
}

/// An open session.
#[derive(Debug)]
struct Session {
    number: u64,
    sender: mpsc::Sender<rpc::CoordinatorMessage>,
}

/// A rollout and what the shell keeps beside it.
#[derive(Debug)]
struct RolloutEntry {
    rollout: Rollout,
    idempotency_key: String,
}

/// What must be written, and what must be sent after that.
#[derive(Debug, Default)]
pub struct Changes {
    /// Segments of the audit log.
    audit: BTreeMap<Key, Vec<u8>>,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
    sends: Vec<(HostId, rpc::coordinator_message::Kind)>,
    rollouts: BTreeSet<RolloutId>,
    /// Why something of it cannot be kept at all.
    unkept: Option<String>,
}

impl Changes {
    /// How many keys change.
    pub fn len(&self) -> usize {
        self.audit.len() + self.writes.len()
    }

    /// Whether nothing must be written or sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.sends.is_empty() && self.rollouts.is_empty()
    }

    fn put(&mut self, key: Result<Key, crate::store::StoreError>, record: &impl row::Record) {
        match (key, row::encode(record)) {
            (Ok(key), Ok(row)) => {
                self.writes.insert(key, Some(row));
            }
            // Keys are made of checked names and records are plain data. Should one fail all the same, nothing may follow from what
            // is not on disk.
            (Err(error), _) => self.unkept = Some(error.to_string()),
            (_, Err(error)) => self.unkept = Some(error.to_string()),
        }
    }

    fn put_audit(&mut self, segment: Result<(Key, Vec<u8>), crate::store::StoreError>) {
        match segment {
            Ok((key, row)) => drop(self.audit.insert(key, row)),
            Err(error) => self.unkept = Some(error.to_string()),
        }
    }

    fn delete(&mut self, key: Result<Key, crate::store::StoreError>) {
        match key {
            Ok(key) => drop(self.writes.insert(key, None)),
            Err(error) => self.unkept = Some(error.to_string()),
        }
    }
}

impl Fleet {
    /// A fleet without anything in it.
    pub fn new(name: String, fence: Fence, now: Timestamp) -> Self {
        Self {
            name,
            leads: Leads::new(fence),
            now,
            started_at: now,
            hosts: BTreeMap::new(),
            names: BTreeMap::new(),
            tokens: BTreeMap::new(),
            bundles: BTreeMap::new(),
            grants: BTreeMap::new(),
            apps: BTreeMap::new(),
            environments: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            timers: BTreeMap::new(),
            events: VecDeque::new(),
            next_event: 1,
            event_seen: watch::channel(0).0,
            audit: segment::Log::default(),
            audit_seen: watch::channel(Head::default()).0,
            issued: BTreeSet::new(),
            watchers: HashMap::new(),
            changes: Changes::default(),
            acting: None,
            counted: Counted::default(),
            spans: Spans::default(),
            dial_allow: Vec::new(),
        }
    }

    /// How many keys the pending changes touch.
    pub fn pending(&self) -> usize {
        self.changes.len()
    }

    /// Why what has changed cannot be kept; whoever asks must stop.
    pub fn unkept(&self) -> Option<&str> {
        self.changes.unkept.as_deref()
    }

    /// Takes what must be committed now. What was asked for comes before all that it changed, and heads of rollouts come
    /// after their hosts: a commit cut in two between transactions never shows a change that nobody asked for, or a rollout
    /// without its hosts.
    pub fn take_changes(&mut self) -> (Vec<Write>, Outbox) {
        let changes = std::mem::take(&mut self.changes);
        let writes = changes.writes.into_iter().map(|(key, value)| match value {
            Some(value) => Write::Put(key, value),
            None => Write::Delete(key),
        });
        let head = (!changes.audit.is_empty()).then(|| self.audit.head_row()).flatten();
        let audit = changes.audit.into_iter().map(|(key, row)| Write::Put(key, row)).chain(head);
        (audit.chain(writes).collect(), Outbox { sends: changes.sends, rollouts: changes.rollouts })
    }

    /// Sends what had to wait for the commit.
    pub fn dispatch(&mut self, outbox: Outbox) {
        for (host, kind) in outbox.sends {
            self.send(&host, kind);
        }
        for id in outbox.rollouts {
            let Some(watcher) = self.watchers.get(&id) else { continue };
            if watcher.is_closed() {
                self.watchers.remove(&id);
            } else if let Some(entry) = self.rollouts.get(&id) {
                watcher.send_replace(crate::rpc::show::rollout(&entry.rollout));
                // Its readers have the last word; nothing more is to come.
                if entry.rollout.ended() {
                    self.watchers.remove(&id);
                }
            }
        }
        let head = self.audit.head();
        self.audit_seen.send_if_modified(|seen| std::mem::replace(seen, head) != head);
        let newest = self.next_event - 1;
        self.event_seen.send_if_modified(|seen| std::mem::replace(seen, newest) != newest);
    }

    fn send(&mut self, host: &HostId, kind: rpc::coordinator_message::Kind) {
        let Some(host) = self.hosts.get_mut(host) else { return };
        let Some(session) = &host.session else { return };
        let message = rpc::CoordinatorMessage { kind: Some(kind) };
        if session.sender.try_send(message).is_err() {
            // Full or gone: the agent dials again, and its Hello starts from what it really has.
            tracing::warn!(host = %host.record.name, "session is behind or gone, closing it");
            host.session = None;
        }
    }

    /// When something must happen by itself next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let timer = self.timers.values().min().copied();
        let silence = self
            .hosts
            .values()
            .filter(|host| !host.silent)
            .map(|host| host.last_heard.unwrap_or(self.started_at).after(SILENT_AFTER));
        timer.into_iter().chain(silence).min()
    }

    /// Does what is due.
    pub fn tick(&mut self) {
        self.notice_silence();
        self.fire_timers();
    }
}

/// What is sent after a commit.
#[derive(Debug)]
pub struct Outbox {
    sends: Vec<(HostId, rpc::coordinator_message::Kind)>,
    rollouts: BTreeSet<RolloutId>,
}
