//! Every fleet of one to four hosts × what each runs × every ramp × every budget, walked to its end: no wait that cannot end,
//! no wait without a reason, and somebody serves whenever somebody can.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;

use std::collections::BTreeMap;

use windlass_proto::id::HostName;
use windlass_proto::phase::{AppStatus, Fault, Outcome, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::{Span, Timestamp};
use windlass_rollout::plan::{Fleet, HostState, Level};
use windlass_rollout::state::Way;
use windlass_rollout::{Effect, Event, Plan, Refused, Rollout, State, make_plan, step};

use fleet::{fleet, name, order, release, rolling, rollout_of};

/// What a host runs before.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Runs {
    Nothing,
    Old,
    Target,
    /// The former release, and it is not heard of.
    Silent,
}

const ALL: [Runs; 4] = [Runs::Nothing, Runs::Old, Runs::Target, Runs::Silent];

/// Every combination for `n` hosts.
fn fleets(n: usize) -> Vec<Vec<Runs>> {
    (0..n).fold(vec![vec![]], |fleets, _| {
        fleets.iter().flat_map(|fleet| ALL.map(|runs| [fleet.clone(), vec![runs]].concat())).collect()
    })
}

/// Every ramp that ends at `n`: `[1, 3, 4]` and so on.
fn ramps(n: usize) -> Vec<String> {
    let subsets = 0..1_u32 << (n - 1);
    let ramp = |subset: u32| {
        let inner = (1..n).filter(|step| subset >> (step - 1) & 1 == 1);
        let steps: Vec<String> = inner.chain([n]).map(|step| step.to_string()).collect();
        format!(r#", "batches": [{}]"#, steps.join(", "))
    };
    subsets.map(ramp).chain([r#", "type": "all_at_once""#.into(), r#", "max_parallel": 1"#.into()]).collect()
}

fn picture(runs: &[Runs]) -> Fleet {
    let mut fleet = fleet(runs.len());
    for (host, runs) in fleet.hosts.iter_mut().zip(runs) {
        let has = match runs {
            Runs::Nothing => None,
            Runs::Old | Runs::Silent => Some(release(1)),
            Runs::Target => Some(release(2)),
        };
        host.held = has.iter().map(|release| release.digest).collect();
        (host.current, host.confirmed) = (has.clone(), has);
        if *runs == Runs::Silent {
            host.state = HostState::Silent;
        }
    }
    fleet
}

struct Walk {
    r: Rollout,
    now: Timestamp,
    seq: u64,
    /// What each host has confirmed, and whether it serves it.
    hosts: BTreeMap<HostName, (Option<ReleaseRef>, bool)>,
    /// The host on which the release fails.
    broken: Option<HostName>,
    /// The fewest hosts that served at any time.
    fewest: usize,
    what: String,
}

impl Walk {
    fn new(plan: &Plan, runs: &[Runs], broken: Option<HostName>, what: String) -> Self {
        let serving = |runs: &Runs| match runs {
            Runs::Nothing => (None, false),
            Runs::Old => (Some(release(1)), true),
            // It may serve; nobody knows.
            Runs::Silent => (Some(release(1)), false),
            Runs::Target => (Some(release(2)), true),
        };
        let hosts = (1..).zip(runs).map(|(n, runs)| (name(n), serving(runs))).collect();
        let r = rollout_of(plan, Timestamp(0));
        let mut walk = Self { r, now: Timestamp(0), seq: 0, hosts, broken, fewest: usize::MAX, what };
        walk.look();
        walk
    }

    fn look(&mut self) {
        self.fewest = self.fewest.min(self.hosts.values().filter(|(_, serves)| *serves).count());
    }

    /// Gives an event, plays the hosts, and so on until nothing more happens by itself.
    fn give(&mut self, event: Event) -> Option<Timestamp> {
        let mut events = vec![event];
        let mut timer = None;
        while let Some(event) = events.pop() {
            self.now = self.now.after(Span(10));
            let next = step(&self.r, event, self.now).unwrap();
            self.r = next.state;
            let view = self.r.view();
            assert_eq!(
                view.waiting_for.is_empty(),
                self.r.ended(),
                "{}: waits for nothing: {view:?}",
                self.what
            );
            assert!(!view.waiting_for.contains("()"), "{}: {}", self.what, view.waiting_for);
            self.nothing_resumes();
            for effect in next.effects {
                let (host, phase) = match effect {
                    Effect::Assign { host, .. } => (host, Phase::Staged),
                    Effect::Permit { host, .. } => (host, Phase::Trial),
                    Effect::Confirm { host, .. } => (host, Phase::Confirmed),
                    Effect::AbortOp { host, .. } => (host, Phase::Reverted),
                    Effect::SetTimer { at } => {
                        timer = Some(at);
                        continue;
                    }
                    _ => continue,
                };
                let status = Box::new(self.play(&host, phase));
                events.insert(0, Event::HostStatus { host, status });
            }
        }
        timer
    }

    /// A word of the operator resumes nothing where nothing is paused, and says so.
    fn nothing_resumes(&self) {
        if self.r.ended() || self.r.conditions.iter().any(|condition| condition.word() != "Budget") {
            return;
        }
        let resumed = step(&self.r, Event::Resume { by: "ana".into() }, self.now);
        let ok = matches!(&resumed, Err(Refused::NothingToResume { waits, .. }) if !waits.is_empty())
            || matches!(&resumed, Err(Refused::GoingBack { .. }));
        assert!(ok, "{}: {resumed:?}", self.what);
    }

    fn play(&mut self, host: &HostName, phase: Phase) -> AppStatus {
        self.seq += 1;
        let fails = self.broken.as_ref() == Some(host) && self.r.hosts[host].way == Way::Forward;
        let phase = if fails && phase == Phase::Trial { Phase::Reverted } else { phase };
        let mut status = fleet::status(&self.r, host, self.seq, phase);
        let (confirmed, serves) = self.hosts.get_mut(host).unwrap();
        match phase {
            // Out of service from the permit to the confirm.
            Phase::Trial => *serves = false,
            Phase::Confirmed => (*confirmed, *serves) = (status.target.clone(), true),
            Phase::Reverted => {
                *serves = false;
                status.fault = Some(Fault::App);
            }
            _ => {}
        }
        self.look();
        let (confirmed, serves) = self.hosts.get_mut(host).unwrap();
        if phase == Phase::Reverted {
            *serves = confirmed.is_some();
        }
        status.confirmed.clone_from(confirmed);
        status
    }

    /// To the end; how long it took.
    fn walk(mut self) -> Self {
        let mut timer = self.give(Event::Start);
        for _ in 0..100 {
            if self.r.ended() {
                return self;
            }
            let at = timer
                .unwrap_or_else(|| panic!("{}: nothing more will happen: {:?}", self.what, self.r.view()));
            self.now = Timestamp(at.0 - 10);
            timer = self.give(Event::Tick);
        }
        panic!("{}: no end: {:?}", self.what, self.r.view());
    }
}

fn walk_all(max: usize, targets: &str, check: impl Fn(&Plan, &[Runs], &str, &str)) -> usize {
    let mut walked = 0;
    for n in 1..=max {
        for runs in fleets(n) {
            for ramp in ramps(n) {
                for budget in 0..=n {
                    let strategy = format!(r#"{ramp}, "max_unavailable": {budget}"#);
                    let plan = make_plan(
                        order(rolling(&strategy, targets, r#", "error_threshold": 1"#)),
                        &picture(&runs),
                    );
                    let what = format!("{runs:?}{strategy}");
                    if budget == 0 && !ramp.contains("all_at_once") {
                        // No leave at all: refused, never waited for.
                        assert!(plan.refusal().is_some(), "{what}");
                        continue;
                    }
                    if plan.refusal().is_some() {
                        assert!(
                            runs.iter().all(|runs| *runs == Runs::Silent),
                            "{what}: {:?}",
                            plan.refusal()
                        );
                        continue;
                    }
                    walked += 1;
                    check(&plan, &runs, &strategy, &what);
                }
            }
        }
    }
    walked
}

#[test]
fn every_small_fleet_comes_to_its_end_and_is_served_all_the_way() {
    for targets in ["", r#", "failure_domain": "rack""#] {
        let walked = walk_all(4, targets, |plan, runs, _, what| {
            let walk = Walk::new(plan, runs, None, what.to_owned()).walk();
            assert_eq!(walk.r.state, State::Succeeded, "{what}");
            assert!(walk.now < Timestamp(0).after(Span::secs(30)), "{what}: took until {:?}", walk.now);
            let members = runs.iter().filter(|runs| **runs != Runs::Silent).count();
            let served = runs.iter().any(|runs| matches!(runs, Runs::Old | Runs::Target));
            if members > 1 && served {
                assert!(walk.fewest > 0, "{what}: nobody served for a while");
            }
            let alone = runs.iter().filter(|runs| matches!(runs, Runs::Old | Runs::Target)).count() == 1;
            let warned =
                plan.checks.iter().any(|check| check.id == "last_host" && check.level == Level::Warn);
            let must = alone && runs.contains(&Runs::Old) && members > 1;
            assert_eq!(warned, must, "{what}");
        });
        assert!(walked > 5_000, "{walked}");
    }
}

#[test]
fn with_a_host_that_fails_it_comes_to_its_end_too() {
    walk_all(3, "", |plan, runs, _, what| {
        for broken in plan.batches.concat() {
            let what = format!("{what}, {broken} fails");
            let walk = Walk::new(plan, runs, Some(broken), what.clone()).walk();
            assert!(
                walk.r.ended() && walk.now < Timestamp(0).after(Span::secs(60)),
                "{what}: {:?}",
                walk.now
            );
            assert!(walk.r.hosts.values().all(|host| host.outcome != Some(Outcome::Lost)), "{what}");
        }
    });
}

/// The two stories: v1 failed after its first batch and v2 is deployed; an app on one host is grown to three.
#[test]
fn hosts_that_run_nothing_come_first() {
    let runs = [Runs::Old, Runs::Nothing, Runs::Nothing, Runs::Nothing, Runs::Nothing];
    let strategy = r#", "batches": [1, "50%", "100%"], "max_unavailable": 1"#;
    let plan = make_plan(order(rolling(strategy, "", "")), &picture(&runs));
    assert_eq!(plan.batches.concat(), [name(2), name(3), name(4), name(5), name(1)]);
    let said = plan.checks.iter().find(|check| check.id == "last_host").unwrap();
    assert!(said.message.starts_with("host-1 is the only host that serves shop"), "{}", said.message);
    assert_eq!(Walk::new(&plan, &runs, None, "five".into()).walk().r.state, State::Succeeded);
}
