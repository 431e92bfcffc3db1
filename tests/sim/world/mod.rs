//! The world: time, faults and the operator; `network` delivers, `checks` says what must hold.

mod checks;
mod network;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use windlass_proto::id::HostName;
use windlass_proto::phase::AppStatus;
use windlass_proto::spec::RolloutSpec;
use windlass_release::Event as HostEvent;
use windlass_rollout::{Condition, Effect, Event, Kind};

use crate::coordinator::{Contact, Coordinator, SILENT_AFTER};
use crate::host::{Due, Host};
use crate::scenario::{name, nature, spec};
use windlass_tests::dice::Dice;

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
}
