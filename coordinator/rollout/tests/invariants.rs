//! Whole rollouts against hosts that fail, stall, vanish and return, over a network that loses and doubles messages, led
//! by a coordinator that dies at any time: what must hold whatever happens.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "tests")]

mod fleet;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use proptest::prelude::*;
use windlass_proto::digest::Digest;
use windlass_proto::id::{HostName, OpId};
use windlass_proto::phase::{AppStatus, Attestation, Fault, Outcome, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::{Span, Timestamp};
use windlass_rollout::state::Way;
use windlass_rollout::{Effect, Event, Rollout, State, budget, make_plan, step};

use fleet::{fleet, name, order, release, rolling, rollout_of};

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Temper {
    Good,
    FailsStaging(Fault),
    FailsProbes,
    Quarantines,
    Stalls,
    NeverAttests,
    RevertsInWatch,
}

struct Host {
    temper: Temper,
    op: Option<OpId>,
    target: Option<ReleaseRef>,
    phase: Phase,
    outcome: Option<Outcome>,
    fault: Option<Fault>,
    confirmed: Option<ReleaseRef>,
    runs: Option<Digest>,
    seq: u64,
    linked: bool,
    /// Cancels steps that were under way when something else came in between.
    turn: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Happens {
    Effect(Effect),
    Status(HostName, Box<AppStatus>),
    Step(HostName, u64),
    Unlink(HostName, u64),
    Silent(HostName),
    Link(HostName),
    Tick,
    Crash(u64),
    Start,
    Operator(u8),
}

struct World {
    dice: Dice,
    now: Timestamp,
    r: Rollout,
    epoch: u64,
    up: bool,
    hosts: BTreeMap<HostName, Host>,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    what: BTreeMap<u64, Happens>,
    count: u64,
    log: Vec<String>,
    loss: u64,
    timer: Option<u64>,
    // The books of the test itself.
    out: BTreeSet<HostName>,
    silent: BTreeSet<HostName>,
    failed_batch: Option<usize>,
    operator: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let hosts = 1 + dice.below(7) as usize;
        let strategies = [
            r#", "max_parallel": 1"#,
            r#", "max_parallel": 2, "max_unavailable": 2"#,
            r#", "batches": [1, "50%", "100%"], "max_unavailable": "30%", "pause_between": "5s""#,
            r#", "max_parallel": 3, "max_unavailable": 1"#,
            r#", "type": "all_at_once""#,
        ];
        let targets = [
            "",
            r#", "failure_domain": "rack""#,
            r#", "absent": "wait""#,
            r#", "absent": "count_as_failed", "failure_domain": "rack""#,
        ];
        let failures =
            ["", r#", "error_threshold": 1"#, r#", "on_failure": "pause""#, r#", "error_threshold": "50%""#];
        let pick = |dice: &mut Dice, list: &[&str]| list[dice.below(list.len() as u64) as usize].to_owned();
        let spec =
            rolling(&pick(&mut dice, &strategies), &pick(&mut dice, &targets), &pick(&mut dice, &failures));
        let plan = make_plan(order(spec), &fleet(hosts));
        assert_eq!(plan.refusal(), None);
        let r = rollout_of(&plan, Timestamp(0));
        let trouble = dice.below(3);
        let hosts = (1..=hosts)
            .map(|n| {
                let temper = match dice.below(if trouble == 0 { 100 } else { 25 }) {
                    0 => Temper::FailsStaging(Fault::Host),
                    1 => Temper::FailsStaging(Fault::Transport),
                    2 | 3 => Temper::FailsProbes,
                    4 => Temper::Quarantines,
                    5 => Temper::Stalls,
                    6 => Temper::NeverAttests,
                    7 => Temper::RevertsInWatch,
                    8 => Temper::FailsStaging(Fault::Policy),
                    _ => Temper::Good,
                };
                let host = Host {
                    temper,
                    op: None,
                    target: None,
                    phase: Phase::Idle,
                    outcome: None,
                    fault: None,
                    confirmed: Some(release(1)),
                    runs: Some(release(1).digest),
                    seq: 0,
                    linked: true,
                    turn: 0,
                };
                (name(n), host)
            })
            .collect();
        let loss = [0, 0, 5, 20][dice.below(4) as usize];
        let mut world = Self {
            dice,
            now: Timestamp(0),
            r,
            epoch: 1,
            up: true,
            hosts,
            queue: BinaryHeap::new(),
            what: BTreeMap::new(),
            count: 0,
            log: vec![],
            loss,
            timer: None,
            out: BTreeSet::new(),
            silent: BTreeSet::new(),
            failed_batch: None,
            operator: false,
        };
        world.trouble(trouble);
        world
    }

    fn trouble(&mut self, much: u64) {
        let names: Vec<_> = self.hosts.keys().cloned().collect();
        for host in &names {
            if self.dice.chance(10 * much) {
                let (at, long) = (self.dice.below(60_000), 1000 + self.dice.below(200_000));
                self.at(at, Happens::Unlink(host.clone(), long));
            }
        }
        for _ in 0..self.dice.below(1 + much * 2) {
            let (at, long) = (self.dice.below(60_000), 100 + self.dice.below(60_000));
            self.at(at, Happens::Crash(long));
        }
        if self.dice.chance(20 * much) {
            self.operator = true;
            let (at, what) = (self.dice.below(60_000), self.dice.below(3) as u8);
            self.at(at, Happens::Operator(what));
            let later = at + self.dice.below(60_000);
            self.at(later, Happens::Operator(1));
        }
    }

    fn at(&mut self, delay: u64, what: Happens) {
        self.count += 1;
        self.queue.push(Reverse((self.now.0 + delay as i64, self.count)));
        self.what.insert(self.count, what);
    }

    fn give(&mut self, event: Event) {
        if !self.up {
            return;
        }
        let shown = match &event {
            Event::HostStatus { host, status } => format!("{host}: {}", brief(status)),
            Event::HostConnected { host, status } => {
                format!(
                    "{host} connected: {}",
                    status.as_ref().map_or("nothing".into(), |status| brief(status))
                )
            }
            other => format!("{other:?}"),
        };
        self.log.push(format!("{:>7} {} <- {shown}", self.now.0, self.r.state.word()));
        if let Event::HostSilent { host } = &event {
            self.silent.insert(host.clone());
        }
        if let Event::HostStatus { host, .. } | Event::HostConnected { host, .. } = &event {
            self.silent.remove(host);
        }
        let Ok(next) = step(&self.r, event, self.now) else { return };
        let before = std::mem::replace(&mut self.r, next.state);
        assert!(self.r.version >= before.version);
        self.check_books(&before);
        for effect in next.effects {
            let shown = match &effect {
                Effect::Assign { host, op, release, .. } => format!("Assign {host} {op} {release}"),
                other => format!("{other:?}"),
            };
            self.log.push(format!("{:>7}   -> {shown}", self.now.0));
            match effect {
                Effect::Event { .. } | Effect::Ended { .. } | Effect::Revised => {}
                Effect::SetTimer { at } => {
                    let delay = at.since(self.now).0;
                    assert!(delay > 0, "a timer in the past would spin");
                    if let Some(former) = self.timer.take() {
                        self.what.remove(&former);
                    }
                    self.at(delay, Happens::Tick);
                    self.timer = Some(self.count);
                }
                message => {
                    let delay = 1 + self.dice.below(50);
                    if !self.dice.chance(self.loss) {
                        self.at(delay, Happens::Effect(message.clone()));
                    }
                    if self.dice.chance(self.loss) {
                        self.at(delay * 3, Happens::Effect(message));
                    }
                }
            }
        }
    }

    /// Budget, domains and batches, counted anew from what was permitted and what was heard.
    fn check_books(&mut self, before: &Rollout) {
        let r = &self.r;
        let spec = &r.spec;
        let settled = |host: &HostName| r.hosts[host].outcome.is_some_and(|outcome| outcome != Outcome::Lost);
        self.out.retain(|host| !settled(host) && r.hosts[host].permit_at.is_some());
        let new: Vec<HostName> = r
            .hosts
            .iter()
            .filter(|(name, host)| host.permit_at.is_some() && before.hosts[*name].permit_at.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        let member = |name: &HostName| !r.hosts[name].gone && r.hosts[name].outcome != Some(Outcome::Skipped);
        let total = r.hosts.keys().filter(|name| member(name)).count() as u32;
        if let Some((name, _)) = r.failed().next()
            && self.failed_batch.is_none()
            && budget::error_threshold(spec, total) == 0
        {
            self.failed_batch = r.batches.iter().position(|batch| batch.contains(name));
        }
        for name in new {
            let host = &r.hosts[&name];
            assert!(
                self.out.iter().all(|other| *other != name || host.way == Way::Back),
                "one operation per host"
            );
            self.out.insert(name.clone());
            let unavailable: BTreeSet<_> = r
                .hosts
                .iter()
                .filter(|(name, _)| member(name))
                .filter(|(name, host)| {
                    self.out.contains(*name)
                        || self.silent.contains(*name)
                        || matches!(host.outcome, Some(Outcome::Quarantined | Outcome::Lost))
                })
                .map(|(name, _)| name.clone())
                .collect();
            let allowed = budget::max_unavailable(spec, total);
            if spec.targets.failure_domain.is_some() {
                let domains: BTreeSet<_> = self
                    .out
                    .iter()
                    .filter(|name| r.hosts[*name].outcome.is_none())
                    .map(|name| &r.hosts[name].domain)
                    .collect();
                assert!(domains.len() <= 1, "one domain: {domains:?}");
            }
            match host.way {
                Way::Forward => {
                    assert!(
                        unavailable.len() as u32 <= allowed,
                        "over budget: {unavailable:?} of {total}, {allowed} allowed"
                    );
                    assert!(total == 1 || (unavailable.len() as u32) < total, "the last host");
                    let own = r.batches.iter().position(|batch| batch.contains(&name));
                    if spec.failure.on_failure == windlass_proto::spec::OnFailure::Rollback && !self.operator
                    {
                        assert!(
                            self.failed_batch.is_none_or(|failed| own <= Some(failed)),
                            "touched after a failure"
                        );
                    }
                }
                Way::Back => {
                    let going =
                        r.hosts.values().filter(|host| host.way == Way::Back && host.outcome.is_none());
                    let going =
                        going.filter(|host| host.permit_at.is_some() && host.attested == Some(r.to.digest));
                    assert!(going.count() as u32 <= budget::back_parallel(spec, total).max(allowed));
                }
            }
        }
    }

    fn status(&self, name: &HostName) -> Option<Box<AppStatus>> {
        let host = &self.hosts[name];
        host.op.as_ref()?;
        let mut status = fleet::status(&self.r, name, host.seq, host.phase);
        status.op = host.op.clone();
        (status.outcome, status.fault) = (host.outcome, host.fault);
        let runs =
            host.runs.filter(|_| host.temper != Temper::NeverAttests || host.target == Some(release(1)));
        status.attested = Attestation { ok: runs.is_some(), digest: runs, ..Attestation::default() };
        Some(Box::new(status))
    }

    fn report(&mut self, name: &HostName) {
        if let Some(status) = self.status(name) {
            for _ in 0..1 + u64::from(self.dice.chance(self.loss)) {
                if !self.dice.chance(self.loss) {
                    let delay = 1 + self.dice.below(200);
                    self.at(delay, Happens::Status(name.clone(), status.clone()));
                }
            }
        }
    }

    fn set(&mut self, name: &HostName, phase: Phase, next: Option<u64>) {
        let host = self.hosts.get_mut(name).unwrap();
        (host.phase, host.seq, host.turn) = (phase, host.seq + 1, host.turn + 1);
        let turn = host.turn;
        if let Some(delay) = next {
            self.at(delay, Happens::Step(name.clone(), turn));
        }
        self.report(name);
    }

    fn end(&mut self, name: &HostName, phase: Phase, outcome: Outcome, fault: Option<Fault>) {
        let host = self.hosts.get_mut(name).unwrap();
        (host.outcome, host.fault) = (Some(outcome), fault);
        self.set(name, phase, None);
    }

    fn revert(&mut self, name: &HostName, fault: Fault) {
        let host = self.hosts.get_mut(name).unwrap();
        (host.fault, host.runs) = (Some(fault), None);
        self.set(name, Phase::Reverting, Some(1500));
    }

    fn host_step(&mut self, name: &HostName, turn: u64) {
        let host = self.hosts.get_mut(name).unwrap();
        if host.turn != turn {
            return;
        }
        let bad = host.target == Some(release(2));
        let temper = if bad { host.temper } else { Temper::Good };
        match (host.phase, temper) {
            (Phase::Staging, Temper::FailsStaging(fault)) => {
                self.end(name, Phase::Failed, Outcome::Failed, Some(fault));
            }
            (Phase::Staging, _) => self.set(name, Phase::Staged, None),
            (Phase::Draining, _) => self.set(name, Phase::Stopping, Some(300)),
            (Phase::Stopping, _) => {
                host.runs = None;
                self.set(name, Phase::Starting, Some(1000));
            }
            (Phase::Starting, Temper::Stalls) => {}
            (Phase::Starting, _) => self.set(name, Phase::Verifying, Some(2000)),
            (Phase::Verifying, Temper::FailsProbes | Temper::Quarantines) => self.revert(name, Fault::App),
            (Phase::Verifying, _) => {
                host.runs = host.target.as_ref().map(|target| target.digest);
                self.set(name, Phase::Trial, Some(30_000));
            }
            (Phase::Trial, _) => self.revert(name, Fault::Transport),
            (Phase::Reverting, Temper::Quarantines) => {
                self.end(name, Phase::Quarantined, Outcome::Quarantined, Some(Fault::App));
            }
            (Phase::Reverting, _) => {
                host.runs = host.confirmed.as_ref().map(|release| release.digest);
                let fault = host.fault;
                self.end(name, Phase::Reverted, Outcome::Reverted, fault);
            }
            (Phase::Confirmed, Temper::RevertsInWatch) => {
                host.confirmed = Some(release(1));
                host.outcome = None;
                self.revert(name, Fault::App);
            }
            _ => {}
        }
    }

    fn message(&mut self, effect: Effect) {
        let (name, op) = match &effect {
            Effect::Assign { host, op, .. }
            | Effect::Permit { host, op, .. }
            | Effect::Confirm { host, op }
            | Effect::AbortOp { host, op, .. } => (host.clone(), op.clone()),
            _ => return,
        };
        let host = self.hosts.get_mut(&name).unwrap();
        if !host.linked || !self.up {
            return;
        }
        let mine = host.op.as_ref() == Some(&op);
        let over = host.outcome.is_some() || host.op.is_none();
        match effect {
            Effect::Assign { release: target, .. } if !mine && (over || host.phase == Phase::Staged) => {
                assert!(host.temper != Temper::Quarantines || host.phase != Phase::Quarantined);
                (host.op, host.target) = (Some(op), Some(target));
                (host.outcome, host.fault) = (None, None);
                self.set(&name, Phase::Staging, Some(500));
            }
            Effect::Permit { .. } if mine && host.phase == Phase::Staged => {
                self.set(&name, Phase::Draining, Some(500));
            }
            Effect::Confirm { .. } if mine && host.phase == Phase::Trial => {
                host.confirmed = host.target.clone();
                assert_eq!(
                    host.runs,
                    host.confirmed.as_ref().map(|release| release.digest),
                    "confirmed untrue"
                );
                host.outcome = Some(Outcome::Confirmed);
                self.set(&name, Phase::Confirmed, Some(4000));
            }
            Effect::AbortOp { .. } if mine => match host.phase {
                Phase::Staging | Phase::Staged => self.end(&name, Phase::Idle, Outcome::Skipped, None),
                Phase::Draining => {
                    self.end(&name, Phase::Failed, Outcome::Failed, Some(Fault::Policy));
                }
                Phase::Stopping | Phase::Starting | Phase::Verifying | Phase::Trial => {
                    self.revert(&name, Fault::Policy);
                }
                _ => self.report(&name),
            },
            _ => self.report(&name),
        }
    }

    fn run(&mut self) {
        let limit = Timestamp(0).after(Span::secs(3600));
        self.give(Event::Start);
        while let Some(Reverse((at, number))) = self.queue.pop() {
            self.now = Timestamp(at);
            if self.now > limit {
                break;
            }
            let Some(what) = self.what.remove(&number) else { continue };
            match what {
                Happens::Effect(effect) => self.message(effect),
                Happens::Status(host, status) => {
                    if self.hosts[&host].linked && self.up {
                        self.give(Event::HostStatus { host, status });
                    }
                }
                Happens::Step(host, turn) => self.host_step(&host, turn),
                Happens::Unlink(host, long) => {
                    self.hosts.get_mut(&host).unwrap().linked = false;
                    self.at(15_000, Happens::Silent(host.clone()));
                    self.at(long, Happens::Link(host));
                }
                Happens::Silent(host) => {
                    if !self.hosts[&host].linked {
                        self.give(Event::HostSilent { host });
                    }
                }
                Happens::Link(host) => {
                    self.hosts.get_mut(&host).unwrap().linked = true;
                    let status = self.status(&host);
                    self.give(Event::HostConnected { host, status });
                }
                Happens::Tick => self.give(Event::Tick),
                Happens::Crash(long) => {
                    self.up = false;
                    self.at(long, Happens::Start);
                }
                Happens::Start if !self.up => {
                    self.up = true;
                    // Nothing is known that does not survive the disk.
                    let json = serde_json::to_string(&self.r).unwrap();
                    let read: Rollout = serde_json::from_str(&json).unwrap();
                    assert_eq!(read, self.r);
                    self.r = read;
                    self.epoch += 1;
                    self.give(Event::Recovered { epoch: self.epoch });
                    for name in self.hosts.keys().cloned().collect::<Vec<_>>() {
                        let delay = 100 + self.dice.below(3000);
                        if self.hosts[&name].linked {
                            self.at(delay, Happens::Link(name));
                        }
                    }
                }
                Happens::Start => {}
                Happens::Operator(what) => self.give(match what {
                    0 => Event::Pause { by: "ana".into(), reason: String::new() },
                    1 => Event::Resume { by: "ana".into() },
                    _ => Event::Abort { by: "ana".into(), reason: "no".into() },
                }),
            }
        }
        // Whenever they say it: in their next session at the latest.
        for host in self.hosts.keys().cloned().collect::<Vec<_>>() {
            let status = self.status(&host).filter(|_| self.hosts[&host].linked);
            if let Some(status) = status {
                self.give(Event::HostConnected { host, status: Some(status) });
            }
        }
        self.check_end();
    }

    fn check_end(&self) {
        let r = &self.r;
        let paused = r.conditions.contains(&windlass_rollout::Condition::Manual);
        assert!(r.ended() || paused, "neither ended nor paused: {:?}", r.view().waiting_for);
        if r.state == State::Succeeded {
            let came = |own: &windlass_rollout::state::Host| own.outcome == Some(Outcome::Confirmed);
            assert!(r.hosts.values().any(came), "no host came to it: all had the release before it");
            for (name, host) in &self.hosts {
                let own = &r.hosts[name];
                if own.outcome != Some(Outcome::Skipped) {
                    let on = host.confirmed == Some(release(2));
                    assert!(
                        (on || !host.linked) && own.outcome == Some(Outcome::Confirmed),
                        "{name} is not on it"
                    );
                    assert!(host.temper != Temper::NeverAttests);
                }
            }
        }
        if r.state == State::RolledBack {
            for (name, host) in &self.hosts {
                assert_eq!(host.confirmed, Some(release(1)), "{name} did not go back");
            }
        }
        if r.ended() {
            assert!(!r.failure.is_empty() || r.state == State::Succeeded);
            // Outcomes agree with the hosts' own, wherever both are known.
            for (name, host) in &self.hosts {
                let own = &r.hosts[name];
                let lost = own.outcome == Some(Outcome::Skipped) || host.op.as_ref() != Some(&own.op);
                if host.linked && own.outcome == Some(Outcome::Confirmed) && !lost {
                    assert_eq!(host.outcome, Some(Outcome::Confirmed), "{name}");
                }
                if host.linked && own.way == Way::Forward && own.outcome == Some(Outcome::Quarantined) {
                    assert_eq!(host.phase, Phase::Quarantined, "{name}");
                }
            }
        }
        let view = r.view();
        assert_eq!(view.hosts.len(), self.hosts.len());
        assert_eq!(view.waiting_for.is_empty(), r.ended());
    }
}

fn brief(status: &AppStatus) -> String {
    let op = status.op.as_ref().map_or("-", OpId::as_str);
    let runs = status.attested.digest.map_or("nothing".into(), |digest| digest.short());
    format!("{} {op} {} {:?} {:?} runs {runs}", status.seq, status.phase, status.outcome, status.fault)
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    if let Err(panic) = result {
        for line in &world.log {
            println!("{line}");
        }
        println!("seed {seed}; {:?}", world.hosts.iter().map(|(n, h)| (n, h.temper)).collect::<Vec<_>>());
        println!("{:?}", world.r.spec);
        std::panic::resume_unwind(panic);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_that_happens_breaks_the_promises(seed in any::<u64>()) {
        run(seed);
    }
}

/// The random fleets reach every end, or the test above would prove little. `WINDLASS_SEEDS` asks for more.
#[test]
fn every_end_is_reached() {
    let mut ends = BTreeMap::new();
    let seeds = std::env::var("WINDLASS_SEEDS").map_or(2000, |n| n.parse().unwrap());
    for seed in 0..seeds {
        *ends.entry(run(seed).r.state.word()).or_insert(0) += 1;
    }
    println!("{ends:?}");
    for end in ["Succeeded", "RolledBack", "RollbackFailed", "Failed", "Cancelled"] {
        assert!(ends.get(end).is_some_and(|n| *n >= 3), "{end} in {ends:?}");
    }
}
