//! What a host does not do is its failure at once; what it does not do yet is only told.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;

use windlass_proto::phase::{Fault, Outcome, Phase};
use windlass_proto::refused::OrderRefused;
use windlass_proto::time::Timestamp;
use windlass_rollout::state::Part;
use windlass_rollout::{Effect, Event, Failures, Rollout, State, Step, step};

use fleet::{name, rolling, rollout, status};

const WHY: &str = "this host has 64 apps, as many as a host takes";

fn begun(hosts: usize, failure: &str) -> Rollout {
    step(&rollout(hosts, rolling("", "", failure)), Event::Start, Timestamp(0)).unwrap().state
}

fn says(r: &Rollout, n: usize, phase: Phase) -> Rollout {
    let status = Box::new(status(r, &name(n), r.hosts[&name(n)].seq + 1, phase));
    step(r, Event::HostStatus { host: name(n), status }, Timestamp(10)).unwrap().state
}

fn refuses(r: &Rollout, n: usize, fault: Fault, not_yet: bool) -> Step {
    let op = Some(r.hosts[&name(n)].op.clone());
    let refused = Box::new(OrderRefused { op, app: None, fault, reason: WHY.into(), not_yet });
    step(r, Event::HostRefused { host: name(n), refused }, Timestamp(20)).unwrap()
}

#[test]
fn an_assignment_that_a_host_refuses_fails_at_once_and_says_why() {
    for fault in [Fault::Host, Fault::Agent, Fault::Policy] {
        let r = refuses(&begun(2, ""), 1, fault, false).state;
        let host = &r.hosts[&name(1)];
        assert_eq!((host.outcome, host.fault), (Some(Outcome::Failed), Some(fault)));
        assert_eq!(host.story(), format!("refused: {WHY}"));
        assert!(r.failure.contains(WHY), "no deadline was waited for: {:?} {}", r.state, r.failure);
        assert_eq!(r.state, State::Failed, "nothing was touched");
        // It says nothing of the release.
        let mut failures = Failures::default();
        failures.conclude(&r);
        assert!(failures.failed.is_empty());
    }
    // Where failures are allowed, the others go on.
    let r = refuses(&begun(2, r#", "error_threshold": 1"#), 1, Fault::Host, false).state;
    assert_eq!((r.state, r.hosts[&name(1)].outcome), (State::Preparing, Some(Outcome::Failed)));
    let r = says(&r, 2, Phase::Staged);
    assert!(matches!(r.state, State::Progressing { .. }), "{:?}", r.state);
}

#[test]
fn what_it_does_not_do_yet_is_told_and_sent_again() {
    let r = refuses(&begun(2, ""), 1, Fault::Host, true).state;
    let host = &r.hosts[&name(1)];
    assert_eq!(
        (host.outcome, host.part, host.detail.as_str()),
        (None, Part::Stage, &*format!("refused: {WHY}"))
    );
    assert_eq!(r.state, State::Preparing);
    let again = step(&r, Event::Tick, Timestamp(6_000)).unwrap().effects;
    assert!(again.iter().any(|effect| matches!(effect, Effect::Assign { host, .. } if *host == name(1))));
}

#[test]
fn a_permit_that_is_refused_fails_and_a_trial_that_is_not_confirmed_goes_back() {
    let staged = says(&begun(1, ""), 1, Phase::Staged);
    let r = refuses(&staged, 1, Fault::Policy, false).state;
    assert_eq!((r.state, r.hosts[&name(1)].outcome), (State::Failed, Some(Outcome::Failed)));

    let trial = says(&staged, 1, Phase::Trial);
    let next = refuses(&trial, 1, Fault::Policy, false);
    let (r, host) = (&next.state, &next.state.hosts[&name(1)]);
    assert_eq!((host.part, host.outcome, host.overdue), (Part::Abort, None, true));
    assert_eq!(r.state, State::Aborting, "it has failed already");
    assert!(next.effects.iter().any(|effect| matches!(effect, Effect::AbortOp { .. })));
    // The same again is no news. Where it does not go back for us either, nobody knows what it does.
    let r = refuses(r, 1, Fault::Policy, false).state;
    assert_eq!((r.state, r.hosts[&name(1)].causes.len()), (State::Aborting, 1));
    let r = step(&r, Event::Tick, Timestamp(600_000)).unwrap().state;
    assert_eq!((r.state, r.hosts[&name(1)].outcome), (State::RollbackFailed, Some(Outcome::Lost)));
    assert!(r.hosts[&name(1)].story().contains(WHY));
}

#[test]
fn a_refusal_of_another_operation_or_after_the_end_changes_no_outcome() {
    let r = begun(1, "");
    let other = OrderRefused {
        op: Some("r-0-host-1".parse().unwrap()),
        app: None,
        fault: Fault::Host,
        reason: WHY.into(),
        not_yet: false,
    };
    let event = Event::HostRefused { host: name(1), refused: Box::new(other) };
    assert_eq!(step(&r, event, Timestamp(20)).unwrap().state, r);
    let ended = refuses(&r, 1, Fault::Host, false).state;
    assert!(ended.ended());
    let next = refuses(&ended, 1, Fault::Host, false);
    assert_eq!(next.state.state, ended.state);
    assert!(
        !next.effects.iter().any(|effect| matches!(effect, Effect::AbortOp { .. })),
        "it is not told for ever"
    );
}
