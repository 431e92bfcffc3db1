//! The world: time, the network, faults, the operator, and what is checked of the whole.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use windlass_proto::id::HostName;
use windlass_proto::phase::{AppStatus, Outcome, Phase};
use windlass_proto::spec::RolloutSpec;
use windlass_release::{Assign, Event as HostEvent};
use windlass_rollout::state::{Part, Way};
use windlass_rollout::{Condition, Effect, Event, Kind, State, budget};

use crate::coordinator::{Contact, Coordinator, SILENT_AFTER};
use crate::dice::Dice;
use crate::host::{DIAL_AGAIN, Due, Host, Session};
use crate::scenario::{name, nature, spec};

/// After this much of a rollout nothing new breaks, and what is broken is mended.
const CALM_AFTER: i64 = 240_000;
/// Everything must have ended so long after that: the longest trial under `hold_if_healthy` and a way back.
const ENDS_WITHIN: i64 = 3_600_000;
/// Quiet at the end, for the last reports to arrive.
const REST: i64 = 150_000;

#[derive(Debug, Clone)]
enum Said {
    Hello(Box<AppStatus>),
    Heartbeat,
    Status(Box<AppStatus>),
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are orders")]
enum Told {
    Lease,
    Order(Effect, u64),
}

#[derive(Debug, Clone)]
enum Happens {
    Host(HostName, u64, Due),
    HostUp(HostName, bool),
    Said(HostName, u64, Said),
    Told(HostName, u64, Told),
    Heartbeat(HostName, u64),
    Second,
    HostCrash(HostName, bool, u64),
    HostDies(HostName, u64, usize),
    Crash(u64),
    CoordinatorDies(u64),
    CoordinatorUp,
    Broken(HostName, u64),
    Cut(HostName, u64),
    Mend(HostName),
    Operator(u8),
}

pub(crate) struct World {
    dice: Dice,
    now: i64,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    what: BTreeMap<u64, Happens>,
    count: u64,
    hosts: BTreeMap<HostName, Host>,
    cut: BTreeSet<HostName>,
    coordinator: Coordinator,
    loss: u64,
    specs: Vec<RolloutSpec>,
    ordered: u64,
    began: i64,
    checked: u64,
    keep_log: bool,
    pub(crate) log: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64, keep_log: bool) -> Self {
        let mut dice = Dice(seed);
        let hosts: BTreeMap<HostName, Host> =
            (1..=1 + dice.below(6)).map(|n| (name(n), Host::new())).collect();
        let specs = vec![spec(&mut dice), spec(&mut dice), spec(&mut dice)];
        let loss = *dice.pick(&[0, 0, 1, 10]);
        let coordinator = Coordinator::new(hosts.keys().cloned());
        let mut world = Self {
            dice,
            now: 0,
            queue: BinaryHeap::new(),
            what: BTreeMap::new(),
            count: 0,
            hosts,
            cut: BTreeSet::new(),
            coordinator,
            loss,
            specs,
            ordered: 0,
            began: 0,
            checked: 0,
            keep_log,
            log: vec![],
        };
        let bad = *world.dice.pick(&[0, 0, 15, 60]);
        for host in world.hosts.values_mut() {
            for n in 2..=4 {
                if world.dice.chance(bad) {
                    host.natures.insert(n, nature(&mut world.dice));
                }
            }
        }
        world
    }

    pub(crate) fn title(&self) -> String {
        let natures: Vec<_> = self.hosts.iter().map(|(name, host)| (name.as_str(), &host.natures)).collect();
        format!("{natures:?}, {} % loss, {:?}", self.loss, self.specs)
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.keep_log {
            self.log.push(format!("{:>9} {}", self.now, text()));
        }
    }

    fn at(&mut self, delay: u64, what: Happens) {
        self.count += 1;
        self.queue.push(Reverse((self.now + i64::try_from(delay).unwrap(), self.count)));
        self.what.insert(self.count, what);
    }

    pub(crate) fn run(&mut self) -> Vec<&'static str> {
        for host in self.hosts.keys().cloned().collect::<Vec<_>>() {
            self.feed(&host, HostEvent::Recovered { same_boot: true });
            self.dial(&host);
        }
        self.at(1000, Happens::Second);
        while let Some(Reverse((at, number))) = self.queue.pop() {
            self.now = at;
            let what = self.what.remove(&number).unwrap();
            let last = matches!(what, Happens::Second) && self.second();
            if last {
                break;
            }
            self.happens(what);
        }
        self.check_end();
        self.coordinator.rollouts.iter().map(|rollout| rollout.state.word()).collect()
    }

    /// Once a second: silence, timers, the operator's next order. True when all is over.
    fn second(&mut self) -> bool {
        self.at(1000, Happens::Second);
        if self.coordinator.up {
            let late = |contact: &Contact| !contact.silent && self.now - contact.heard > SILENT_AFTER;
            let silent = self.coordinator.sessions.iter().filter(|(_, contact)| late(contact));
            let silent: Vec<HostName> = silent.map(|(name, _)| name.clone()).collect();
            for host in silent {
                self.coordinator.sessions.get_mut(&host).unwrap().silent = true;
                for at in 0..self.coordinator.rollouts.len() {
                    let rollout = &self.coordinator.rollouts[at];
                    if !rollout.ended() && rollout.hosts.contains_key(&host) {
                        self.give(at, Event::HostSilent { host: host.clone() });
                    }
                }
            }
            let now = self.now;
            let due: Vec<_> =
                self.coordinator.timers.extract_if(.., |_, at| *at <= now).map(|(id, _)| id).collect();
            for id in due {
                if let Some(at) = self.coordinator.rollouts.iter().position(|rollout| rollout.id == id) {
                    self.give(at, Event::Tick);
                }
            }
        }
        let calm = self.now - self.began > CALM_AFTER;
        if let Some(open) = self.coordinator.open() {
            assert!(
                self.now - self.began < CALM_AFTER + ENDS_WITHIN,
                "P9: {}",
                self.coordinator.rollouts[open].view().waiting_for
            );
            let paused = self.coordinator.rollouts[open].conditions.contains(&Condition::Manual);
            if calm && paused && self.coordinator.up {
                let resume = self.dice.chance(50) && self.now - self.began < CALM_AFTER * 2;
                self.operator(if resume { 1 } else { 2 });
            }
            return false;
        }
        // Between two rollouts the world rests, sometimes not for long.
        if self.ordered < 3 && self.coordinator.up && self.now > 5000 {
            let rested = self.ordered == 0 || self.now - self.ended_at() > 20_000;
            if rested && self.dice.chance(20) {
                self.order();
            }
            return false;
        }
        let rested = self.now - self.ended_at();
        let settled = self.hosts.values().all(|host| host.up && host.state.is_settled());
        self.ordered >= 3 && rested > REST && (settled || rested > ENDS_WITHIN)
    }

    fn ended_at(&self) -> i64 {
        self.coordinator
            .rollouts
            .iter()
            .filter_map(|rollout| rollout.ended_at)
            .map(|at| at.0)
            .max()
            .unwrap_or(self.began)
    }

    fn order(&mut self) {
        self.ordered += 1;
        self.began = self.now;
        let number = self.ordered;
        let (n, kind) = match self.dice.below(4) {
            0 if number > 1 => (1, Kind::Rollback),
            1 if number > 1 => (number as u8, Kind::Retry),
            _ => (number as u8 + 1, Kind::Deploy),
        };
        let spec = self.specs[number as usize - 1].clone();
        if !self.coordinator.order(number, n, kind, spec, self.now) {
            self.note(|| format!("rollout {number} refused"));
            return;
        }
        self.trouble();
        let at = self.coordinator.rollouts.len() - 1;
        self.give(at, Event::Start);
    }

    /// What will break during the next rollout.
    fn trouble(&mut self) {
        let much = self.dice.below(4);
        for host in self.hosts.keys().cloned().collect::<Vec<_>>() {
            if self.dice.chance(8 * much) {
                let (at, long) = (self.dice.below(60_000), 500 + self.dice.below(120_000));
                self.at(at, Happens::Cut(host.clone(), long));
            }
            if self.dice.chance(8 * much) {
                let (at, reboot) = (self.dice.below(60_000), self.dice.chance(40));
                let down =
                    if reboot { 10_000 + self.dice.below(50_000) } else { 100 + self.dice.below(8000) };
                self.at(at, Happens::HostCrash(host.clone(), reboot, down));
            }
            if self.dice.chance(8 * much) {
                let what = Happens::HostDies(host, self.dice.below(20), self.dice.below(3) as usize);
                self.at(0, what);
            }
        }
        if self.dice.chance(12 * much) {
            let (at, down) = (self.dice.below(60_000), 500 + self.dice.below(90_000));
            self.at(at, Happens::Crash(down));
        }
        if self.dice.chance(12 * much) {
            let steps = self.dice.below(60);
            self.at(0, Happens::CoordinatorDies(steps));
        }
        if self.dice.chance(10 * much) {
            let (at, what) = (self.dice.below(60_000), self.dice.below(3) as u8);
            self.at(at, Happens::Operator(what));
        }
    }

    fn happens(&mut self, what: Happens) {
        match what {
            Happens::Second => {}
            Happens::Host(host, life, due) => self.host_due(&host, life, due),
            Happens::HostUp(host, same_boot) => {
                let own = self.hosts.get_mut(&host).unwrap();
                if !own.up {
                    own.up = true;
                    self.note(|| format!("{host} is up again, same boot: {same_boot}"));
                    self.feed(&host, HostEvent::Recovered { same_boot });
                    self.dial(&host);
                }
            }
            Happens::Said(host, session, said) => self.said(&host, session, said),
            Happens::Told(host, session, told) => self.told(&host, session, told),
            Happens::Heartbeat(host, session) => self.heartbeat(&host, session),
            Happens::HostCrash(host, reboot, down) => self.host_crash(&host, reboot, down),
            Happens::HostDies(host, steps, effects) => {
                self.hosts.get_mut(&host).unwrap().dies = Some((steps, effects));
            }
            Happens::Crash(down) => self.crash(down),
            Happens::CoordinatorDies(steps) => self.coordinator.dies = Some(steps),
            Happens::CoordinatorUp => self.coordinator_up(),
            Happens::Broken(host, number) => {
                let own = &self.hosts[&host];
                if own.up && own.session.is_some_and(|session| session.number == number) {
                    self.dial(&host);
                }
            }
            Happens::Cut(host, long) => {
                self.note(|| format!("{host} is cut off for {long} ms"));
                self.cut.insert(host.clone());
                self.at(long, Happens::Mend(host));
            }
            Happens::Mend(host) => {
                self.cut.remove(&host);
            }
            Happens::Operator(what) => self.operator(what),
        }
    }

    // The network.

    fn send(&mut self, host: &HostName, what: Happens) {
        if self.cut.contains(host) {
            return;
        }
        if self.dice.chance(self.loss) {
            // A stream delivers or breaks. The agent notices, sooner or later.
            if let Some(session) = self.hosts[host].session {
                let delay = 50 + self.dice.below(4000);
                self.at(delay, Happens::Broken(host.clone(), session.number));
            }
            return;
        }
        let delay = 1 + self.dice.below(if self.dice.0.is_multiple_of(7) { 1500 } else { 60 });
        if self.dice.chance(self.loss) {
            let later = delay + self.dice.below(3000);
            self.at(later, what.clone());
        }
        self.at(delay, what);
    }

    fn dial(&mut self, host: &HostName) {
        let own = self.hosts.get_mut(host).unwrap();
        own.sessions += 1;
        let number = own.sessions;
        own.session = Some(Session { number, opened_at: own.boot_time(self.now), answered: self.now });
        let status = own.status();
        self.send(host, Happens::Said(host.clone(), number, Said::Hello(status)));
        self.at(3000, Happens::Heartbeat(host.clone(), number));
    }

    fn heartbeat(&mut self, host: &HostName, number: u64) {
        let own = &self.hosts[host];
        let Some(session) = own.session.filter(|session| own.up && session.number == number) else { return };
        if self.now - session.answered > DIAL_AGAIN.0 as i64 {
            self.dial(host);
            return;
        }
        self.send(host, Happens::Said(host.clone(), number, Said::Heartbeat));
        self.at(3000, Happens::Heartbeat(host.clone(), number));
    }

    fn report(&mut self, host: &HostName) {
        let own = &self.hosts[host];
        if let Some(session) = own.session.filter(|_| own.up) {
            let status = own.status();
            self.send(host, Happens::Said(host.clone(), session.number, Said::Status(status)));
        }
    }

    fn said(&mut self, host: &HostName, session: u64, said: Said) {
        if !self.coordinator.up || self.cut.contains(host) {
            return;
        }
        let now = self.now;
        let contact = self.coordinator.sessions.get_mut(host).unwrap();
        let status = match said {
            Said::Hello(status) if session > contact.session => {
                *contact = Contact { session, heard: now, silent: false };
                self.send(host, Happens::Told(host.clone(), session, Told::Lease));
                self.coordinator.known.insert(host.clone(), (*status).clone());
                for at in self.coordinator.concerned(host, &status) {
                    self.give(at, Event::HostConnected { host: host.clone(), status: Some(status.clone()) });
                }
                return;
            }
            // A session that went silent is over; so is one that was replaced.
            _ if session != contact.session || contact.silent => return,
            Said::Hello(_) => return,
            Said::Heartbeat => {
                contact.heard = now;
                self.send(host, Happens::Told(host.clone(), session, Told::Lease));
                return;
            }
            Said::Status(status) => {
                contact.heard = now;
                status
            }
        };
        if self.coordinator.known.get(host).is_none_or(|known| known.seq <= status.seq) {
            self.coordinator.known.insert(host.clone(), (*status).clone());
        }
        for at in self.coordinator.concerned(host, &status) {
            self.give(at, Event::HostStatus { host: host.clone(), status: status.clone() });
        }
    }

    fn told(&mut self, host: &HostName, number: u64, told: Told) {
        let now = self.now;
        let own = self.hosts.get_mut(host).unwrap();
        let session = own.session.as_mut().filter(|session| session.number == number);
        let Some(session) = session.filter(|_| own.up && !self.cut.contains(host)) else { return };
        session.answered = now;
        let opened_at = session.opened_at;
        let boot = own.boot_time(now);
        let event = match told {
            Told::Lease => {
                own.contact = Some(boot);
                return;
            }
            Told::Order(Effect::Assign { op, release, order, rollback, .. }, epoch) => {
                let rollout =
                    self.coordinator.rollouts.iter().find(|r| op.as_str().starts_with(&format!("{}-", r.id)));
                let rollout = rollout.unwrap().id.clone();
                HostEvent::Assign(Assign { op, rollout, epoch, to: release, order, rollback })
            }
            Told::Order(Effect::Permit { op, ttl, .. }, epoch) => {
                HostEvent::Permit { op, epoch, expires: boot.after(ttl) }
            }
            Told::Order(Effect::Confirm { op, .. }, epoch) => {
                HostEvent::Confirm { op, epoch, session_opened_at: opened_at }
            }
            Told::Order(Effect::AbortOp { op, reason, .. }, epoch) => HostEvent::Abort { op, epoch, reason },
            Told::Order(other, _) => panic!("{other:?} is no order"),
        };
        if !self.feed(host, event) {
            // What is refused is answered by the truth.
            self.report(host);
        }
    }

    // Hosts.

    fn feed(&mut self, host: &HostName, event: HostEvent) -> bool {
        let own = self.hosts.get_mut(host).unwrap();
        let before = own.phase();
        let shown = if self.keep_log { format!("{event:?}") } else { String::new() };
        let after = match own.feed(event, self.now, &mut self.dice) {
            Ok(after) => after,
            Err(_) => return false,
        };
        let (phase, life) = (own.phase(), own.life);
        let quiet = phase == before && shown == "Tick";
        if !quiet {
            self.note(|| format!("{host} {before} -> {phase}: {shown}"));
        }
        if before == Phase::Staged && matches!(phase, Phase::Draining | Phase::Switching) {
            self.check_budget(host);
        }
        for (delay, due) in after.due {
            self.at(delay, Happens::Host(host.clone(), life, due));
        }
        if after.died {
            self.note(|| format!("{host}: the agent dies in this step"));
            let down = 100 + self.dice.below(20_000);
            self.host_crash(host, false, down);
        } else if after.redial {
            self.dial(host);
        } else {
            self.report(host);
        }
        true
    }

    fn host_due(&mut self, host: &HostName, life: u64, due: Due) {
        let own = self.hosts.get_mut(host).unwrap();
        if !own.up || own.life != life {
            return;
        }
        let mut after = crate::host::After::default();
        let event = own.happens(due, &mut after, &mut self.dice);
        for (delay, due) in after.due {
            self.at(delay, Happens::Host(host.clone(), life, due));
        }
        if let Some(event) = event {
            self.feed(host, event);
        }
    }

    fn host_crash(&mut self, host: &HostName, reboot: bool, down: u64) {
        let own = self.hosts.get_mut(host).unwrap();
        if own.up {
            own.die(reboot, self.now, down, &mut self.dice);
            self.note(|| format!("{host} crashes, reboot: {reboot}, for {down} ms"));
            self.at(down, Happens::HostUp(host.clone(), !reboot));
        }
    }

    // The coordinator.

    fn give(&mut self, at: usize, event: Event) {
        if !self.coordinator.up {
            return;
        }
        let shown = match &event {
            _ if !self.keep_log => String::new(),
            Event::HostStatus { host, status } | Event::HostConnected { host, status: Some(status) } => {
                let op = status.op.as_ref().map_or("-", |op| op.as_str());
                let connected = if matches!(event, Event::HostConnected { .. }) { " connected" } else { "" };
                format!("{host}{connected}: {op} {} {:?} {:?}", status.phase, status.outcome, status.fault)
            }
            other => format!("{other:?}"),
        };
        let was = self.coordinator.rollouts[at].state;
        let Ok(after) = self.coordinator.step(at, event, self.now) else { return };
        let rollout = &self.coordinator.rollouts[at];
        let (id, state) = (rollout.id.clone(), rollout.state.word());
        let ended = rollout.ended() && !was.ended();
        self.note(|| format!("{id} {state} <- {shown}"));
        if ended {
            self.check_rollout(at);
        }
        let epoch = self.coordinator.epoch;
        for effect in after.effects {
            let host = match &effect {
                Effect::Assign { host, .. }
                | Effect::Permit { host, .. }
                | Effect::Confirm { host, .. }
                | Effect::AbortOp { host, .. } => host.clone(),
                Effect::Event { kind, host, message } => {
                    let host = host.as_ref().map_or("", |host| host.as_str());
                    self.note(|| format!("    {kind} {host} {message}"));
                    continue;
                }
                Effect::SetTimer { .. } | Effect::Ended { .. } => continue,
            };
            if matches!(effect, Effect::Permit { .. }) {
                self.check_permit(at, &host);
            }
            let session = self.coordinator.sessions[&host].session;
            self.send(&host, Happens::Told(host.clone(), session, Told::Order(effect, epoch)));
        }
        if after.died {
            self.note(|| "the coordinator dies in this step".into());
            let down = 500 + self.dice.below(60_000);
            self.crash(down);
        }
    }

    fn crash(&mut self, down: u64) {
        if self.coordinator.up {
            self.note(|| format!("the coordinator is down for {down} ms"));
            self.coordinator.up = false;
            self.coordinator.timers.clear();
            self.at(down, Happens::CoordinatorUp);
        }
    }

    fn coordinator_up(&mut self) {
        self.coordinator.up = true;
        self.coordinator.epoch += 1;
        let (now, epoch) = (self.now, self.coordinator.epoch);
        for contact in self.coordinator.sessions.values_mut() {
            (contact.heard, contact.silent) = (now, false);
        }
        for at in 0..self.coordinator.rollouts.len() {
            self.give(at, Event::Recovered { epoch });
        }
        // Connections to the one before are gone.
        for host in self.hosts.keys().cloned().collect::<Vec<_>>() {
            if self.hosts[&host].up {
                self.dial(&host);
            }
        }
    }

    fn operator(&mut self, what: u8) {
        let Some(open) = self.coordinator.open() else { return };
        let by = "ana".to_owned();
        self.give(
            open,
            match what {
                0 => Event::Pause { by, reason: "lunch".into() },
                1 => Event::Resume { by },
                _ => Event::Abort { by, reason: String::new() },
            },
        );
    }

    // What must hold.

    /// When a host leaves service: what really is out of service, by any rollout's leave.
    fn check_budget(&mut self, host: &HostName) {
        let op = self.hosts[host].state.operation.as_ref().unwrap().op.clone();
        let r = self.coordinator.rollouts.iter().find(|r| r.hosts.get(host).is_some_and(|own| own.op == op));
        let Some(r) = r else { return };
        let member = |name: &HostName| {
            r.hosts.get(name).is_some_and(|own| !own.gone && own.outcome != Some(Outcome::Skipped))
        };
        let out: Vec<&HostName> = self
            .hosts
            .iter()
            .filter(|(name, own)| own.is_out() && member(name))
            .map(|(name, _)| name)
            .collect();
        let total = r.hosts.keys().filter(|name| member(name)).count() as u32;
        let way = r.hosts[host].way;
        let forward = way == Way::Forward && r.state != State::Aborting && !r.ended();
        let allowed = budget::max_unavailable(&r.spec, total);
        if forward {
            assert!(out.len() as u32 <= allowed, "over budget: {out:?}, {allowed} of {total}");
        }
        if r.spec.targets.failure_domain.is_some() && forward {
            // A lost host is as any dead one: it counts in the budget, and its domain waits for nobody.
            let lost = |name: &HostName| r.hosts[name].outcome == Some(Outcome::Lost);
            let domains: BTreeSet<_> =
                out.iter().filter(|name| !lost(name)).map(|name| &r.hosts[*name].domain).collect();
            assert!(domains.len() <= 1, "two failure domains: {out:?}");
        }
        self.checked += 1;
    }

    /// When a permit is sent: what is out of service, and what the coordinator must know to be away.
    fn check_permit(&self, at: usize, host: &HostName) {
        let r = &self.coordinator.rollouts[at];
        let members = || {
            r.hosts
                .iter()
                .filter(|(_, own)| !own.gone && own.outcome != Some(Outcome::Skipped))
                .map(|(name, _)| name)
        };
        let away = |name: &&HostName| {
            let quarantined = r.hosts[*name].outcome == Some(Outcome::Quarantined);
            *name == host
                || quarantined
                || self.hosts[*name].is_out()
                || self.coordinator.sessions[*name].silent
        };
        let all: Vec<&HostName> = members().filter(away).collect();
        let allowed = budget::max_unavailable(&r.spec, members().count() as u32);
        let forward = r.hosts[host].way == Way::Forward;
        assert!(!forward || all.len() as u32 <= allowed, "permit over budget: {all:?}, {allowed} allowed");
    }

    /// When a rollout ends: what it says is so.
    fn check_rollout(&mut self, at: usize) {
        let r = &self.coordinator.rollouts[at];
        for (name, own) in &r.hosts {
            let host = &self.hosts[name];
            let confirmed = host.state.confirmed.as_ref().map(|release| release.digest);
            match r.state {
                State::Succeeded if own.outcome != Some(Outcome::Skipped) => {
                    assert!(confirmed == Some(r.to.digest) || host.by_itself, "{name} is not on {}", r.to);
                }
                State::RolledBack if own.touched => {
                    let former = own.former.as_ref().map(|former| former.digest);
                    assert!(confirmed == former || host.by_itself, "{name} is not back");
                }
                _ => {}
            }
        }
    }

    fn check_end(&mut self) {
        for (name, host) in &self.hosts {
            assert!(host.up && host.state.is_settled(), "P9: {name} is {}", host.phase());
            if host.phase() != Phase::Quarantined {
                assert_eq!(host.state.current, host.state.confirmed);
                assert_eq!(host.link, host.confirmed_link, "{name}: the links differ");
            }
            let Some(operation) = &host.state.operation else { continue };
            let r = self.coordinator.rollouts.iter().find(|r| r.id == operation.rollout).unwrap();
            let Some(own) = r.hosts.get(name) else { continue };
            if own.op != operation.op || host.by_itself {
                assert!(own.op == operation.op || own.outcome != Some(Outcome::Confirmed), "{name} {own:?}");
                continue;
            }
            let agent = operation.outcome;
            let agrees = match (own.way, own.part, own.outcome) {
                (_, Part::Released, _) => agent == Some(Outcome::Failed),
                (Way::Forward, _, Some(Outcome::Reverted | Outcome::AlreadyReverted)) => {
                    matches!(agent, Some(Outcome::Reverted | Outcome::AlreadyReverted))
                }
                (Way::Forward, _, outcome) => outcome == agent,
                (Way::Back, _, Some(Outcome::Reverted)) => agent == Some(Outcome::Confirmed),
                (Way::Back, _, Some(Outcome::Failed)) => agent != Some(Outcome::Confirmed),
                (Way::Back, _, outcome) => outcome == agent,
            };
            assert!(agrees, "P2: {name}: the host says {agent:?}, the coordinator {own:?}");
        }
    }
}
