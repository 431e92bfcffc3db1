//! Hosts: their state, their sessions, their silence.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use windlass_proto::id::{AppName, HostId, HostName, RolloutId};
use windlass_proto::limits::{APPS, APPS_TOLD};
use windlass_proto::phase::{AppStatus, Phase};
use windlass_proto::rpc::{self, ErrorKind};
use windlass_proto::time::Timestamp;
use windlass_rollout::Event;

use super::log::event;
use super::record::{Authors, Facts, HostRecord};
use super::{Fleet, Host, Refusal, SILENT_AFTER, Session, persist};
use crate::rate::Meter;

/// Texts of hosts are kept and shown; longer ones are cut.
pub(super) const TEXT: usize = 2000;
/// Paths of hosts are kept and shown, too; Linux has no longer ones.
const PATH: usize = 4096;
/// Releases of an app that a host holds beside those that it runs and has confirmed: estimates need no more of them.
pub(super) const HELD: usize = 64;
/// Labels of one host.
const LABELS: usize = 64;

/// What a host is to operators and plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// Connected and well.
    Ready,
    /// Not heard of.
    Silent,
    /// Kept out by an operator.
    Cordoned,
    /// Neither release of some app came up.
    Quarantined,
    /// It has obeyed a coordinator whom this one's state does not know.
    Foreign,
}

impl HostState {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Ready, Self::Silent, Self::Cordoned, Self::Quarantined, Self::Foreign];

    /// The word shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Silent => "silent",
            Self::Cordoned => "cordoned",
            Self::Quarantined => "quarantined",
            Self::Foreign => "foreign",
        }
    }
}

/// What an agent says first in a session.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// Version of the agent.
    pub agent_version: String,
    /// Where its apps are reached.
    pub address: String,
    /// What the host is.
    pub facts: Option<Facts>,
    /// What it can do; none from an agent that does not say.
    pub features: Option<BTreeSet<String>>,
    /// All its apps, without evidence.
    pub apps: Vec<AppStatus>,
    /// Whose signatures it believes.
    pub authors: Option<Authors>,
}

impl Host {
    pub(super) fn new(record: HostRecord) -> Self {
        Self {
            record,
            statuses: BTreeMap::new(),
            session: None,
            last_heard: None,
            silent: false,
            certificates: Meter::default(),
            refused: String::new(),
        }
    }

    /// Whether all places for apps are taken, and none by this one.
    pub fn is_full(&self, app: &AppName) -> bool {
        let mut placed = self.statuses.values().filter(|status| status.has_place());
        !self.statuses.get(app).is_some_and(AppStatus::has_place) && placed.by_ref().count() >= APPS
    }

    /// When it was last heard of.
    pub fn last_seen(&self) -> Option<Timestamp> {
        self.last_heard.or(self.record.last_seen)
    }

    /// Whether the host was heard of lately.
    pub fn is_silent(&self, now: Timestamp) -> bool {
        self.last_heard.is_none_or(|heard| now.since(heard) > SILENT_AFTER)
    }

    /// Its state at a time; `app` narrows quarantine to one app.
    pub fn state(&self, now: Timestamp, app: Option<&AppName>) -> HostState {
        let quarantined = self
            .statuses
            .values()
            .any(|status| status.phase == Phase::Quarantined && app.is_none_or(|app| *app == status.app));
        if self.record.foreign.is_some() && self.record.cordon.is_none() {
            HostState::Foreign
        } else if quarantined {
            HostState::Quarantined
        } else if self.record.cordon.is_some() {
            HostState::Cordoned
        } else if self.is_silent(now) {
            HostState::Silent
        } else {
            HostState::Ready
        }
    }
}

impl Fleet {
    /// All hosts by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.names.values().filter_map(|id| self.hosts.get(id))
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.hosts.values().filter(|host| host.session.is_some()).count()
    }

    /// A host by name or id.
    pub fn host(&self, name: &str) -> Result<&Host, Refusal> {
        let by_name = HostName::new(name).ok().and_then(|name| self.names.get(&name));
        let id = by_name.cloned().or_else(|| HostId::new(name).ok());
        id.and_then(|id| self.hosts.get(&id))
            .ok_or_else(|| Refusal::unknown("host", name, self.names.keys().map(HostName::as_str)))
    }

    pub(super) fn host_mut(&mut self, name: &str) -> Result<&mut Host, Refusal> {
        let id = self.host(name)?.record.id.clone();
        self.hosts
            .get_mut(&id)
            .ok_or_else(|| Refusal::new(ErrorKind::Internal, "the host's name has no host"))
    }

    pub(super) fn keep(&mut self, id: &HostId) {
        if let Some(host) = self.hosts.get(id) {
            self.changes.put(persist::host_key(id), &host.record);
        }
    }

    /// Opens a session; one that the host has already is closed. Returns of how many apps it brings something that is written down.
    pub fn connect(
        &mut self,
        id: &HostId,
        number: u64,
        sender: mpsc::Sender<rpc::CoordinatorMessage>,
        greeting: Greeting,
    ) -> Result<usize, Refusal> {
        check_address(&greeting.address)?;
        self.enrolled(id)?;
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else { return Ok(0) };
        let name = host.record.name.clone();
        host.session = Some(Session { number, sender });
        let was_silent = std::mem::replace(&mut host.silent, false);
        host.last_heard = Some(now);
        host.record.last_seen = Some(now);
        host.record.agent_version = cut(greeting.agent_version, 100);
        host.record.address = greeting.address;
        host.record.facts = greeting.facts.or(host.record.facts.take());
        host.record.authors = greeting.authors.or(host.record.authors.take());
        host.record.features = greeting.features;
        let gone: Vec<AppName> = host
            .statuses
            .keys()
            .filter(|app| !greeting.apps.iter().any(|s| s.app == **app))
            .cloned()
            .collect();
        let gone: Vec<_> = gone.into_iter().filter_map(|app| host.statuses.remove_entry(&app)).collect();
        let open = self.open_with(&name);
        let open: Vec<AppName> = open.iter().map(|id| self.rollouts[id].rollout.app.clone()).collect();
        for (app, status) in gone {
            // What it has forgotten is of no environment any more, unless a rollout is about to bring it.
            if let Some(host) = self.hosts.get_mut(id).filter(|_| !open.contains(&app)) {
                host.record.environments.remove(&app);
            }
            self.changes.delete(persist::status_key(id, &app));
            if let Some(had) = status.confirmed {
                let message = format!("{name} no longer knows of {app}, of which it had {}", had.version);
                let mut record = event("host.forgot", &format!("agent/{id}"), message);
                (record.host, record.app) = (name.to_string(), app.to_string());
                self.log(record);
            }
        }
        self.keep(id);
        if was_silent {
            let mut record = event("host.returned", &format!("agent/{id}"), format!("{name} is back"));
            record.host = name.to_string();
            self.log(record);
        }
        let news = greeting.apps.iter().filter(|status| self.keep_status(id, status)).count();
        for rollout in self.concerned(&name, &greeting.apps) {
            let app = self.rollouts.get(&rollout).map(|entry| &entry.rollout.app);
            let status = greeting.apps.iter().find(|status| Some(&status.app) == app);
            let event = Event::HostConnected { host: name.clone(), status: status.cloned().map(Box::new) };
            self.advance(&rollout, event);
        }
        Ok(news)
    }

    /// Whether this is still the host's session.
    pub(super) fn is_current(&self, id: &HostId, number: u64) -> bool {
        self.hosts.get(id).and_then(|host| host.session.as_ref()).is_some_and(|s| s.number == number)
    }

    /// A heartbeat of a session; false when the session is no longer the host's.
    pub fn heartbeat(&mut self, id: &HostId, number: u64, facts: Option<Facts>) -> bool {
        if !self.is_current(id, number) {
            return false;
        }
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else { return false };
        host.last_heard = Some(now);
        host.record.facts = facts.or(host.record.facts.take());
        if std::mem::replace(&mut host.silent, false) {
            let name = host.record.name.clone();
            let mut record = event("host.returned", &format!("agent/{id}"), format!("{name} is back"));
            record.host = name.to_string();
            self.log(record);
            for rollout in self.open_with(&name) {
                let app = self.rollouts.get(&rollout).map(|entry| entry.rollout.app.clone());
                let status = app.and_then(|app| self.hosts.get(id)?.statuses.get(&app).cloned());
                self.advance(
                    &rollout,
                    Event::HostConnected { host: name.clone(), status: status.map(Box::new) },
                );
            }
        }
        true
    }

    /// A status from a session; false when the session is no longer the host's.
    pub fn report(&mut self, id: &HostId, number: u64, status: AppStatus) -> Result<bool, Refusal> {
        if !self.is_current(id, number) {
            return Ok(false);
        }
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else { return Ok(false) };
        host.last_heard = Some(now);
        let name = host.record.name.clone();
        if host.statuses.get(&status.app).is_some_and(|known| known.seq > status.seq) {
            return Ok(true);
        }
        if !host.statuses.contains_key(&status.app) && host.statuses.len() >= APPS_TOLD {
            // What it has forgotten since is not in its next greeting.
            let message = format!(
                "{} is one app too many in this session: at most {APPS_TOLD}; dial again",
                status.app
            );
            return Err(Refusal::new(ErrorKind::TooMuch, message));
        }
        self.keep_status(id, &status);
        for rollout in self.concerned(&name, [&status]) {
            if self.rollouts.get(&rollout).is_some_and(|entry| entry.rollout.app == status.app) {
                let status = Box::new(status.clone());
                self.advance(&rollout, Event::HostStatus { host: name.clone(), status });
            }
        }
        Ok(true)
    }

    /// Whether it is worth a row.
    fn keep_status(&mut self, id: &HostId, status: &AppStatus) -> bool {
        let mut status = status.clone();
        status.evidence = Vec::new();
        // They are kept with the rollout.
        status.hooks = Vec::new();
        status.reason = cut(status.reason, TEXT);
        status.detail = cut(status.detail, TEXT);
        status.attested.exe = cut(status.attested.exe, PATH);
        status.attested.link = cut(status.attested.link, PATH);
        status.held.truncate(HELD);
        let Some(host) = self.hosts.get_mut(id) else { return false };
        let before = host.statuses.insert(status.app.clone(), status.clone());
        // What only moves while a host works (detail, times) is not worth a disk write; it is said again at Hello.
        let same = before.is_some_and(|before| {
            (before.phase, before.outcome, &before.op) == (status.phase, status.outcome, &status.op)
                && (&before.current, &before.confirmed) == (&status.current, &status.confirmed)
                && before.past == status.past
                && (before.attested.ok, before.attested.pid) == (status.attested.ok, status.attested.pid)
        });
        if !same {
            self.changes.put(persist::status_key(id, &status.app), &status);
        }
        !same
    }

    /// Whether evidence of this host in this rollout is worth keeping.
    pub fn wants_evidence(&self, id: &HostId, rollout: &RolloutId) -> bool {
        let name = self.hosts.get(id).map(|host| &host.record.name);
        let entry = self.rollouts.get(rollout);
        name.zip(entry).is_some_and(|(name, entry)| entry.rollout.hosts.contains_key(name))
    }

    /// A session has ended.
    pub fn disconnect(&mut self, id: &HostId, number: u64) {
        if !self.is_current(id, number) {
            return;
        }
        if let Some(host) = self.hosts.get_mut(id) {
            host.session = None;
            host.record.last_seen = host.last_heard;
        }
        self.keep(id);
    }

    /// The coordinator could not listen for a while: what hosts said in that time still waits to be heard.
    pub fn was_deaf(&mut self) {
        let now = self.now;
        for host in self.hosts.values_mut().filter(|host| host.session.is_some()) {
            host.last_heard = Some(now);
        }
    }

    /// Makes known which hosts have not been heard of for too long.
    pub(super) fn notice_silence(&mut self) {
        let (now, started) = (self.now, self.started_at);
        let late = self
            .hosts
            .values_mut()
            .filter(|host| !host.silent && now.since(host.last_heard.unwrap_or(started)) >= SILENT_AFTER);
        let late: Vec<_> = late
            .map(|host| {
                host.silent = true;
                // A host that says nothing for so long has lost its session, whatever TCP thinks.
                host.session = None;
                (host.record.name.clone(), host.last_heard.is_some())
            })
            .collect();
        for (name, was_here) in late {
            let open = self.open_with(&name);
            // A rollout writes its own line about it.
            if was_here && open.is_empty() {
                let message = format!("{name} has not been heard of for {SILENT_AFTER}");
                let mut record = event("host.silent", "coordinator", message);
                record.host = name.to_string();
                self.log(record);
            }
            for rollout in open {
                self.advance(&rollout, Event::HostSilent { host: name.clone() });
            }
        }
    }
}

/// Cuts a text at a character.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

pub(super) fn check_address(address: &str) -> Result<(), Refusal> {
    let fits = address.len() <= 255 && address.chars().all(|c| c.is_ascii_graphic());
    if fits {
        Ok(())
    } else {
        Err(Refusal::invalid("the host's address is not a host name or an IP address"))
    }
}

/// Labels keep to kubectl's syntax.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if labels.len() > LABELS {
        return Err(Refusal::invalid(format!("{} labels are too many: at most {LABELS}", labels.len())));
    }
    windlass_proto::spec::selector::check_labels(labels).map_err(|error| Refusal::invalid(error.to_string()))
}
