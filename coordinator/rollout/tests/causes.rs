//! One book of what went wrong with a host: the first cause first, whoever asks.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;

use windlass_proto::phase::{Fault, Outcome, Phase};
use windlass_proto::time::{Span, Timestamp};
use windlass_rollout::failures::Parole;
use windlass_rollout::{Event, Failures, Rollout, step};

use fleet::{name, rolling, rollout, status};

/// One host that has its permit.
fn permitted() -> Rollout {
    let r = rollout(1, rolling("", "", ""));
    let r = step(&r, Event::Start, Timestamp(0)).unwrap().state;
    says(&r, Phase::Staged, None, "", 1)
}

fn says(r: &Rollout, phase: Phase, fault: Option<Fault>, reason: &str, at: i64) -> Rollout {
    let mut status = Box::new(status(r, &name(1), r.hosts[&name(1)].seq + 1, phase));
    (status.fault, status.reason) = (fault, reason.into());
    step(r, Event::HostStatus { host: name(1), status }, Timestamp(at)).unwrap().state
}

/// What `rollout show` says, which is what `why` has.
fn told(r: &Rollout) -> (Option<Fault>, String) {
    let view = r.view().hosts[0].clone();
    let host = &r.hosts[&name(1)];
    if host.outcome.is_some_and(|outcome| outcome != Outcome::Confirmed) {
        assert_eq!((view.fault, view.reason.clone()), (host.first_cause().unwrap().fault, host.story()));
        let first = &host.first_cause().unwrap().reason;
        assert!(
            r.failure.contains(first.as_str()) && host.story().starts_with(first.as_str()),
            "{}",
            r.failure
        );
    }
    (view.fault, view.reason)
}

#[test]
fn what_a_host_adds_is_no_second_cause() {
    let r = says(&permitted(), Phase::Reverting, Some(Fault::App), "not ready", 5);
    let r = says(&r, Phase::Quarantined, Some(Fault::App), "not ready; and the way back failed", 9);
    assert_eq!(told(&r), (Some(Fault::App), "not ready; and the way back failed".into()));
    assert_eq!(r.hosts[&name(1)].causes.len(), 1);
}

#[test]
fn broken_connections_come_in_order_and_after_the_release_itself() {
    let again = |r: &Rollout, why: &str, at: i64| {
        let r = says(r, Phase::Reverted, Some(Fault::Transport), why, at);
        let later = Timestamp(at).after(Span::secs(30));
        let r = step(&r, Event::Tick, later).unwrap().state;
        says(&r, Phase::Staged, None, "", later.0 + 1)
    };
    let r = again(&permitted(), "lost for 10 s", 10);
    let r = again(&r, "lost for 20 s", 40_000);
    let thrice = says(&r, Phase::Reverted, Some(Fault::Transport), "lost for 30 s", 90_000);
    assert_eq!(
        told(&thrice),
        (Some(Fault::Transport), "lost for 10 s; then: lost for 20 s; then: lost for 30 s".into())
    );
    let app = says(&r, Phase::Reverted, Some(Fault::App), "not ready", 90_000);
    assert_eq!(
        told(&app),
        (Some(Fault::App), "not ready; before that: lost for 10 s; before that: lost for 20 s".into())
    );
    // It went well at last: no failure is shown, and the book still has what happened.
    let well = says(&says(&r, Phase::Trial, None, "", 90_000), Phase::Confirmed, None, "", 91_000);
    assert_eq!(told(&well), (None, String::new()));
    assert_eq!(well.hosts[&name(1)].first_cause().unwrap().reason, "lost for 10 s");
}

#[test]
fn what_the_coordinator_judged_comes_before_what_it_led_to() {
    let r = says(&permitted(), Phase::Starting, None, "", 5);
    let r = step(&r, Event::Tick, Timestamp(5).after(Span::secs(600))).unwrap().state;
    let r = says(&r, Phase::Reverted, Some(Fault::Policy), "aborted by the coordinator", 700_000);
    let (fault, reason) = told(&r);
    assert_eq!(fault, Some(Fault::App));
    assert!(reason.starts_with("not healthy within 1m; it was starting; then: aborted"), "{reason}");
    // Only a host's own word poisons a release.
    let mut failures = Failures::default();
    failures.conclude(&r);
    assert!(failures.failed.is_empty());
}

/// What leaves has its own limits and what the agent adds to them; the new release has its deadline after what the host says
/// that leaving took, which puts it off no further than leaving may.
#[test]
fn a_host_that_keeps_no_times_is_overdue_for_what_it_is_in() {
    let mut permitted = permitted();
    permitted.spec.strategy.progress_deadline = Span::secs(3600);
    assert_eq!(permitted.leaving, Span::secs(10));
    for (phase, drained, seconds, why) in [
        (Phase::Draining, None, 10 + 240, "drain and stop, 10s at most, have not ended; it was draining"),
        (
            Phase::Stopping,
            Some(9_000),
            10 + 240,
            "drain and stop, 10s at most, have not ended; it was stopping",
        ),
        (Phase::Starting, None, 60 + 10, "not healthy within 1m; it was starting"),
        (Phase::Verifying, Some(100_000), 100 + 60 + 10, "not healthy within 1m; it was verifying"),
        (Phase::Verifying, Some(u64::MAX), 250 + 60 + 10, "not healthy within 1m; it was verifying"),
    ] {
        let mut r = says(&permitted, phase, None, "", 5);
        let host = r.hosts.get_mut(&name(1)).unwrap();
        host.phase_times.extend(drained.map(|took| (Phase::Draining, took)));
        let at = |seconds| step(&r, Event::Tick, Timestamp(0).after(Span::secs(seconds))).unwrap().state;
        assert!(!at(seconds - 1).hosts[&name(1)].overdue, "{phase} {drained:?}");
        let late = at(seconds + 1);
        assert!(late.hosts[&name(1)].overdue, "{phase} {drained:?}");
        assert_eq!(told(&late), (Some(Fault::App), why.into()));
    }
}

/// What failed under a strict order is not passed by a lenient one; a parole is good for one try.
#[test]
fn the_strictest_order_counts_and_a_parole_is_used_by_the_next_try() {
    let mut strict = permitted();
    strict.spec.failure.poison_after = 1;
    let failed = says(&strict, Phase::Reverted, Some(Fault::App), "not ready", 5);
    let digest = failed.to.digest;
    let mut failures = Failures::default();
    failures.conclude(&failed);
    assert_eq!(failures.poisoned(99).len(), 1, "no order raises it");
    let parole = Parole { by: "operator/ana".into(), reason: "x".into(), at: Timestamp(6) };
    failures.paroled.insert(digest, parole.clone());
    assert_eq!(failures.poisoned(99)[0].paroled, Some(parole));
    failures.begin(&digest);
    assert_eq!(failures.poisoned(99)[0].paroled, None);
    // It goes well: nothing is held against it any more.
    let well = says(&says(&permitted(), Phase::Trial, None, "", 7), Phase::Confirmed, None, "", 8);
    failures.conclude(&well);
    assert!(failures.poisoned(1).is_empty(), "{:?} {:?}", well.state, failures.failed);
    // A host's fault counts for nothing.
    let hosts = says(&permitted(), Phase::Reverted, Some(Fault::Host), "cannot enter /x (0700)", 9);
    failures.conclude(&hosts);
    assert!(failures.poisoned(1).is_empty());
}
