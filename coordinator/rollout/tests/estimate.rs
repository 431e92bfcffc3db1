//! What a plan says a rollout takes, against what it takes on hosts that need the time of their releases.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;

use std::collections::BTreeMap;

use windlass_proto::id::HostName;
use windlass_proto::phase::Phase;
use windlass_proto::spec::ReleaseSpec;
use windlass_proto::time::{Span, Timestamp};
use windlass_rollout::{Effect, Event, Plan, Rollout, State, make_plan, step, timing};

use fleet::{fleet, order, rolling, rollout_of, status};

/// What hosts say at which time; of two at one time the earlier said comes first.
#[derive(Default)]
struct Said {
    queue: BTreeMap<(Timestamp, u64), (HostName, Phase)>,
    seq: u64,
}

impl Said {
    fn at(&mut self, at: Timestamp, host: &HostName, phase: Phase) {
        self.seq += 1;
        self.queue.insert((at, self.seq), (host.clone(), phase));
    }
}

/// Walks a rollout by the clock; a host changes in `change`, less what is done before its trial. How long it took.
fn measure(plan: &Plan, change: Span) -> Span {
    let mut rollout: Rollout = rollout_of(plan, Timestamp(0));
    let (mut said, mut now, mut timer) = (Said::default(), Timestamp(0), None);
    let mut event = Event::Start;
    for _ in 0..10_000 {
        let next = step(&rollout, event, now).unwrap();
        rollout = next.state;
        for effect in next.effects {
            match effect {
                Effect::Assign { host, .. } => said.at(now.after(Span(100)), &host, Phase::Staged),
                Effect::Permit { host, .. } => {
                    said.at(now.after(Span(100)), &host, Phase::Draining);
                    said.at(now.after(change), &host, Phase::Trial);
                }
                Effect::Confirm { host, .. } => said.at(now.after(Span(100)), &host, Phase::Confirmed),
                Effect::AbortOp { host, .. } => panic!("{host} is told to go back: {:?}", rollout.view()),
                Effect::SetTimer { at } => timer = Some(at),
                _ => {}
            }
        }
        if rollout.ended() {
            assert_eq!(rollout.state, State::Succeeded, "{:?}", rollout.view());
            return Span(u64::try_from(now.0).unwrap());
        }
        let first = said.queue.keys().next().copied();
        let due = timer.filter(|at| first.is_none_or(|(said, _)| *at < said));
        event = match (due, first) {
            (Some(at), _) => {
                (now, timer) = (at, None);
                Event::Tick
            }
            (None, Some(key)) => {
                let (host, phase) = said.queue.remove(&key).unwrap();
                now = key.0;
                let status = Box::new(status(&rollout, &host, key.1, phase));
                Event::HostStatus { host, status }
            }
            (None, None) => panic!("nothing more will happen: {:?}", rollout.view()),
        };
    }
    panic!("no end: {:?}", rollout.view());
}

fn running(drain: u64, stop: u64) -> ReleaseSpec {
    serde_json::from_str(&format!(
        r#"{{"runtime": {{"kind": "process", "command": ["bin/shop"]}}, "drain": {{"timeout": "{drain}s"}},
             "stop": {{"grace": "{stop}s"}}, "probes": {{"startup": {{"tcp": {{"port": 1}}}}}}}}"#
    ))
    .unwrap()
}

#[test]
fn what_runs_counts_in_the_estimate_with_its_drain_and_stop() {
    for (drain, stop, hosts, parallel) in [(60, 0, 1, 1), (60, 30, 3, 1), (0, 0, 4, 2), (5, 20, 6, 3)] {
        let leaving = timing::leaving(&running(drain, stop));
        let mut picture = fleet(hosts);
        for host in &mut picture.hosts {
            host.leaving = Some(leaving);
        }
        let strategy = format!(r#", "max_parallel": {parallel}, "max_unavailable": {parallel}"#);
        let mut order = order(rolling(&strategy, "", ""));
        order.spec.strategy.healthy_deadline = Span::secs(600);
        order.spec.strategy.progress_deadline = Span::secs(1800);
        let plan = make_plan(order, &picture);
        assert_eq!(plan.refusal(), None, "{:#?}", plan.checks);
        // Connections last to the end of the drain, and the app to the end of its grace; then the new release is healthy.
        let took = measure(&plan, leaving + plan.order.spec.strategy.min_healthy_time + Span::secs(1));
        let (said, took) = (plan.estimate_seconds, took.ceil_secs());
        let what = format!(
            "drain {drain} s, stop {stop} s, {hosts} hosts by {parallel}: said {said} s, took {took} s"
        );
        assert!(took <= said + 2 && said <= took + took / 2 + 4, "{what}");
    }
}

#[test]
fn what_is_not_known_of_a_host_is_taken_from_the_target() {
    let estimate = |change: &dyn Fn(&mut windlass_rollout::plan::FleetHost)| {
        let mut picture = fleet(1);
        change(&mut picture.hosts[0]);
        make_plan(order(rolling("", "", "")), &picture).estimate_seconds
    };
    // Staging 2 s, drain 5 s, stop 5 s, min_healthy_time 2 s, 2 s of its own.
    assert_eq!(estimate(&|_| {}), 16);
    assert_eq!(estimate(&|host| host.leaving = Some(Span::secs(65))), 71);
    assert_eq!(estimate(&|host| host.leaving = Some(Span(0))), 6);
    let empty = |host: &mut windlass_rollout::plan::FleetHost| {
        (host.current, host.confirmed) = (None, None);
        // Said by nobody: nothing runs there that could leave.
        host.leaving = Some(Span::secs(65));
    };
    assert_eq!(estimate(&empty), 6);
}

#[test]
fn files_that_nothing_runs_leave_without_a_wait() {
    let spec: ReleaseSpec = serde_json::from_str(
        r#"{"runtime": {"kind": "static"}, "drain": {"delay": "3s", "timeout": "60s"}, "stop": {"grace": "30s"}}"#,
    )
    .unwrap();
    assert_eq!(timing::leaving(&spec), Span::secs(3));
    assert_eq!(timing::leaving(&running(60, 5)), Span::secs(65));
}
