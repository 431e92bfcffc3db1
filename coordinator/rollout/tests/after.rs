//! What hosts say after the end of a rollout, by table: what it came to follows them, and so does what is remembered.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;

use std::collections::BTreeSet;

use windlass_proto::digest::Digest;
use windlass_proto::phase::{Fault, Outcome, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::Timestamp;
use windlass_rollout::{Effect, Event, Failures, Kind, Releases, Rollout, State, make_plan, step};

use fleet::{fleet, name, order, release, rolling, rollout, rollout_of, status};

/// A rollout of release 2 to three hosts that has succeeded.
fn succeeded() -> Rollout {
    play(
        rollout(3, rolling(r#", "type": "all_at_once""#, "", "")),
        &[Phase::Staged, Phase::Trial, Phase::Confirmed],
    )
}

/// All hosts go through these phases.
fn play(r: Rollout, phases: &[Phase]) -> Rollout {
    let mut r = step(&r, Event::Start, Timestamp(0)).unwrap().state;
    for (n, phase) in (1..).zip(phases) {
        for host in r.batches.concat() {
            let status = Box::new(status(&r, &host, n, *phase));
            r = step(&r, Event::HostStatus { host, status }, Timestamp(i64::try_from(n).unwrap()))
                .unwrap()
                .state;
        }
    }
    assert_eq!(r.state, State::Succeeded, "{:?}", r.view());
    r
}

/// Host `n` says this of the operation that it had; the events that follow, and whether the conclusions are drawn again.
fn says(r: &mut Rollout, n: usize, phase: Phase, connected: bool) -> (Vec<String>, bool) {
    let host = name(n);
    let mut status = Box::new(status(r, &host, r.hosts[&host].seq + 10, phase));
    status.reason = "the app ended 3 times".into();
    let event = match connected {
        true => Event::HostConnected { host, status: Some(status) },
        false => Event::HostStatus { host, status },
    };
    let next = step(r, event, Timestamp(99)).unwrap();
    *r = next.state;
    let mut events = Vec::new();
    for effect in &next.effects {
        if let Effect::Event { kind, message, .. } = effect {
            events.push(format!("{kind}: {message}"));
        }
    }
    (events, next.effects.contains(&Effect::Revised))
}

#[test]
fn hosts_that_leave_one_by_one_undo_the_success() {
    for connected in [false, true] {
        let mut r = succeeded();
        let (events, revised) = says(&mut r, 1, Phase::Reverting, connected);
        assert!(events.is_empty() && !revised && r.state == State::Succeeded, "it is not back yet");
        let (events, revised) = says(&mut r, 1, Phase::Reverted, connected);
        assert_eq!(events[0], "host.reverted: left 2.0 in the watch window: the app ended 3 times");
        assert!(
            events[1].starts_with("rollout.failed: host-1 left 2.0 after the rollout had succeeded"),
            "{events:?}"
        );
        assert!(revised && r.state == State::Failed);
        assert_eq!(
            says(&mut r, 1, Phase::Reverted, connected),
            (vec![], false),
            "said twice, it happens once"
        );
        says(&mut r, 2, Phase::Reverted, connected);
        assert_eq!(r.state, State::Failed);
        let (events, _) = says(&mut r, 3, Phase::Reverted, connected);
        assert!(events[1].starts_with("rollout.rolled_back: host-1, host-2, host-3 left 2.0"), "{events:?}");
        assert_eq!(r.state, State::RolledBack);
        let view = r.view();
        for host in &view.hosts {
            assert_eq!((host.outcome, host.fault), (Some(Outcome::Reverted), Some(Fault::App)));
            assert_eq!(host.reason, "in the watch window: the app ended 3 times");
        }
        assert!(view.failure.contains("after the rollout had succeeded"), "{}", view.failure);
        assert_eq!(r.left_behind().unwrap().len(), 3, "a retry is for all of them");
    }
}

#[test]
fn a_host_that_cannot_go_back_needs_a_person_and_is_heard_when_it_is_let_out() {
    let mut r = succeeded();
    let (events, _) = says(&mut r, 2, Phase::Quarantined, false);
    assert!(events[0].starts_with("host.quarantined: left 2.0"), "{events:?}");
    assert_eq!(r.state, State::RollbackFailed);
    let (events, revised) = says(&mut r, 2, Phase::Reverted, false);
    assert_eq!(events[0], "host.back: out of quarantine, on 1.0");
    assert!(revised && r.state == State::Failed, "host-1 and host-3 stay");
}

#[test]
fn a_host_that_was_on_the_target_before_is_heard_too() {
    let mut fleet = fleet(3);
    for host in &mut fleet.hosts[1..] {
        (host.current, host.confirmed) = (Some(release(2)), Some(release(2)));
    }
    let mut order = order(rolling(r#", "max_parallel": 1, "max_unavailable": 2"#, "", ""));
    order.kind = Kind::Retry;
    let r = rollout_of(&make_plan(order, &fleet), Timestamp(0));
    for open in [true, false] {
        let mut r = match open {
            true => step(&r, Event::Start, Timestamp(0)).unwrap().state,
            false => play(r.clone(), &[Phase::Staged, Phase::Trial, Phase::Confirmed]),
        };
        let mut said = status(&r, &name(3), 7, Phase::Reverted);
        said.op = Some("r-0-host-3".parse().unwrap());
        said.confirmed = Some(release(1));
        assert!(r.was_left_by(&name(3), &said));
        let event = Event::HostStatus { host: name(3), status: Box::new(said.clone()) };
        r = step(&r, event, Timestamp(99)).unwrap().state;
        assert_eq!(r.hosts[&name(3)].outcome, Some(Outcome::Reverted));
        assert_eq!(r.state, State::Failed, "open: {open}");
        assert!(!r.was_left_by(&name(3), &said), "once");
    }
}

#[test]
fn what_hosts_left_is_neither_good_nor_offered_again() {
    let (mut releases, mut failures) = (Releases::default(), Failures::default());
    releases.conclude(&Rollout { to: release(1), ..succeeded() });
    let mut r = succeeded();
    releases.conclude(&r);
    failures.conclude(&r);
    assert_eq!(releases.current(), Some(&release(2)));
    for n in 1..=3 {
        says(&mut r, n, Phase::Reverted, false);
        releases.revise(&r);
        failures.revise(&r);
        assert_eq!(releases.good, [release(1)], "after {n} hosts");
        assert!(!releases.succeeded.contains(&release(2).digest));
        assert_eq!(failures.poisoned(2).len(), usize::from(n >= 2));
    }
}

#[test]
fn what_says_nothing_new_changes_nothing_that_is_remembered() {
    let mut releases = Releases::default();
    let first = Rollout { to: release(1), ..succeeded() };
    releases.conclude(&first);
    releases.conclude(&succeeded());
    releases.revise(&first);
    assert_eq!(releases.good, [release(1), release(2)]);
}

/// One row holds it, and rows are bounded: what is forgotten is the oldest.
#[test]
fn what_is_remembered_of_an_app_has_an_end() {
    let digest = |n: u64| Digest::of(&n.to_le_bytes());
    let of = |n: u64, rollout: Rollout| Rollout {
        to: ReleaseRef { digest: digest(n), ..release(1) },
        started_at: Timestamp(n as i64),
        ..rollout
    };
    let mut releases = Releases::default();
    for n in (0..1500).chain([900]) {
        releases.conclude(&of(n, succeeded()));
    }
    assert_eq!(releases.succeeded.len(), 1000);
    assert_eq!(releases.succeeded.first(), Some(&digest(500)));
    assert_eq!(releases.succeeded.last(), Some(&digest(900)));

    let mut failed = succeeded();
    says(&mut failed, 1, Phase::Reverted, false);
    let mut failures = Failures::default();
    for n in 0..300 {
        let mut failed = of(n, failed.clone());
        let causes = failed.hosts.values_mut().flat_map(|host| &mut host.causes);
        causes.for_each(|cause| cause.release = Some(digest(n)));
        failures.revise(&failed);
        assert!(failures.failed.contains_key(&digest(n)), "what failed now is not what is forgotten");
    }
    let kept: BTreeSet<Digest> = failures.failed.keys().copied().collect();
    assert_eq!(kept, (100..300).map(digest).collect());
}

/// Rows of before: no `first_end`, and what is remembered of an app is in the record itself.
#[test]
fn stored_rows_stay_readable() {
    let r = succeeded();
    let row = serde_json::to_string(&r).unwrap();
    assert!(!row.contains("first_end"));
    assert_eq!(serde_json::from_str::<Rollout>(&row).unwrap(), r);
}
