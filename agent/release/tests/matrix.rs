//! Every phase with every kind of event, and the named ways through.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod shell;

use shell::{Host, Weather, app, assign, op, release};
use windlass_proto::grant::{GRANT_FORMAT, Grant, Leave, Past, Presented};
use windlass_proto::id::FleetName;
use windlass_proto::phase::{Fault, HookName, Outcome, Phase};
use windlass_proto::spec::OnContactLost;
use windlass_proto::time::{Span, Timestamp};
use windlass_release::{
    Assign, BootTime, Done, Effect, Event, Health, Observed, Progress, Refused, RevertGoal, RevertStep,
    Staging, State, Supervision, status, step,
};

fn outcome(host: &Host) -> Option<Outcome> {
    host.state.operation.as_ref().unwrap().outcome
}
fn fault(host: &Host) -> Option<Fault> {
    host.state.operation.as_ref().unwrap().fault
}
fn reason(host: &Host) -> String {
    host.state.operation.as_ref().unwrap().reason.clone()
}

/// A host on release 1 with operation 2 to release 2 in the given phase.
fn at(phase: Phase) -> Host {
    let mut host = Host::on(1);
    host.must(Event::Assign(assign(2, 2)));
    match phase {
        Phase::Idle => return Host::new(),
        Phase::Assigned => return host,
        Phase::Failed => host.weather.not_stageable = vec![2],
        Phase::Undraining => host.weather.drain_hangs = true,
        Phase::Reverting | Phase::Reverted => host.weather.not_startable = vec![2],
        Phase::Quarantined => host.weather.not_startable = vec![1, 2],
        _ => {}
    }
    if phase == Phase::Staging {
        host.must(Event::Staging { op: op(2), news: Staging::Started });
        return host;
    }
    host.settle();
    if !matches!(phase, Phase::Staged | Phase::Failed) {
        host.permit(2);
    }
    if phase == Phase::Confirmed {
        host.settle();
        host.confirm(2);
    }
    for _ in 0..100 {
        if host.phase() == phase {
            return host;
        }
        if !(host.answer() || host.observe() || host.tick()) {
            break;
        }
    }
    assert_eq!(host.phase(), phase);
    host
}

const KINDS: usize = 23;

/// One event of each kind, true to the state where that has a meaning.
fn event(kind: usize, state: &State, boot: u64) -> Event {
    let turn = state.turn;
    let drained = windlass_proto::phase::Drained::default();
    let done = |done| Event::Done { turn, done };
    let health = |health| Event::Health { turn: state.probe_turn, health };
    match kind {
        0 => Event::Assign(assign(3, 3)),
        1 => Event::Assign(Assign { epoch: 0, ..assign(3, 3) }),
        2 => Event::Staging { op: op(2), news: Staging::Done },
        3 => Event::Staging {
            op: op(2),
            news: Staging::Failed { fault: Fault::Transport, reason: "x".into() },
        },
        4 => Event::Permit { op: op(2), epoch: 1, expires: BootTime(boot + 1000) },
        5 => Event::Confirm { op: op(2), epoch: 1, session_opened_at: BootTime(boot) },
        6 => Event::Abort { op: op(2), epoch: 1, reason: "operator".into() },
        7 => done(Done::Drained(drained)),
        8 => done(Done::DrainTimedOut(drained)),
        9 => done(Done::Undrained),
        10 => done(Done::Stopped { cut: 0 }),
        11 => done(Done::Switched),
        12 => done(Done::Started),
        13 => done(Done::SmokePassed),
        14 => done(Done::Admitted),
        15 => Event::Failed { turn, fault: Fault::Host, reason: "x".into() },
        16 => health(Health::StartupPassed),
        17 => health(Health::Ready),
        18 => health(Health::NotReady { why: "x".into() }),
        19 => health(Health::LivenessFailed { why: "x".into() }),
        20 => Event::AppExited { turn: state.run_turn, how: "exit code 1".into() },
        21 => Event::ReleaseQuarantine { epoch: 1, leave_down: false },
        22 => Event::Hook { turn, running: Some(HookName::AfterInstall) },
        _ => panic!("no kind {kind}"),
    }
}

/// For each phase and kind of event: the phase after it, `=` for the same phase, `-` for a refusal.
#[test]
fn every_phase_answers_every_event() {
    #[rustfmt::skip]
    let table: &[(Phase, [&str; KINDS])] = &[
        // assign3 fenced staged stagefail permit confirm abort | drained timeout undrained stopped switched started smoke admitted failed | startup ready notready dead exited | release hook
        (Phase::Idle,        ["assigned","assigned","-","-","-","-","-", "-","-","-","-","-","-","-","-","-", "-","-","-","-","-", "-", "-"]),
        (Phase::Assigned,    ["-","-","staged","failed","-","-","idle", "-","-","-","-","-","-","-","=","-", "=","=","=","=","=", "-", "="]),
        (Phase::Staging,     ["-","-","staged","failed","-","-","idle", "-","-","-","-","-","-","-","=","-", "=","=","=","=","=", "-", "="]),
        (Phase::Staged,      ["-","-","-","failed","draining","-","idle", "-","-","-","-","-","-","-","=","-", "=","=","=","=","=", "-", "="]),
        (Phase::Draining,    ["-","-","-","-","=","-","undraining", "stopping","undraining","-","-","-","-","-","-","undraining", "-","-","-","-","stopping", "-", "="]),
        (Phase::Undraining,  ["-","-","-","-","-","-","=", "-","-","failed","-","-","-","-","-","=", "-","-","-","-","-", "-", "="]),
        (Phase::Stopping,    ["-","-","-","-","=","-","reverting", "-","-","-","switching","-","-","-","-","reverting", "-","-","-","-","-", "-", "="]),
        (Phase::Switching,   ["-","-","-","-","=","-","reverting", "-","-","-","-","starting","-","-","-","reverting", "-","-","-","-","-", "-", "="]),
        (Phase::Starting,    ["-","-","-","-","=","-","reverting", "-","-","-","-","-","=","-","-","reverting", "verifying","-","-","-","reverting", "-", "="]),
        (Phase::Verifying,   ["-","-","-","-","=","-","reverting", "-","-","-","-","-","-","=","-","reverting", "-","=","=","reverting","reverting", "-", "="]),
        (Phase::Admitting,   ["-","-","-","-","=","-","reverting", "-","-","-","-","-","-","-","trial","reverting", "-","-","reverting","reverting","reverting", "-", "="]),
        (Phase::Trial,       ["-","-","-","-","=","confirmed","reverting", "-","-","-","-","-","-","-","-","reverting", "-","-","reverting","reverting","reverting", "-", "="]),
        (Phase::Confirmed,   ["assigned","-","-","-","-","=","-", "-","-","-","-","-","-","-","=","-", "=","=","=","reverting","=", "-", "="]),
        (Phase::Reverting,   ["-","-","-","-","-","=","=", "-","-","-","=","-","-","-","-","=", "-","-","-","-","-", "-", "="]),
        (Phase::Reverted,    ["assigned","-","-","-","-","=","=", "-","-","-","-","-","-","-","=","-", "=","=","=","=","=", "-", "="]),
        (Phase::Quarantined, ["=","-","-","-","-","=","=", "-","-","-","=","-","-","-","-","=", "-","-","-","-","-", "reverting", "="]),
        (Phase::Failed,      ["assigned","-","-","-","-","=","=", "-","-","-","-","-","-","-","=","-", "=","=","=","=","=", "-", "="]),
    ];
    assert_eq!(table.len(), Phase::ALL.len());
    let mut wrong = Vec::new();
    for (phase, row) in table {
        for (kind, expected) in row.iter().enumerate() {
            let mut host = at(*phase);
            host.contact = Some(host.boot);
            let event = event(kind, &host.state, host.boot);
            let found = match step(&host.state, event.clone(), host.now()) {
                Err(refused) => {
                    assert!(!refused.to_string().is_empty());
                    "-"
                }
                Ok(next) if next.state.phase() == *phase => "=",
                Ok(next) => next.state.phase().word(),
            };
            if found != *expected {
                wrong.push(format!("{phase} + {kind} {event:?}: {found}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn probes_that_cannot_be_made_are_the_hosts_failure_at_once() {
    for phase in Phase::ALL {
        let host = at(*phase);
        let cannot = |turn| Event::CannotProbe { turn, reason: "x".into() };
        let failed = Event::Failed { turn: host.state.turn, fault: Fault::Host, reason: "x".into() };
        let (found, same) = (
            step(&host.state, cannot(host.state.probe_turn), host.now()),
            step(&host.state, failed, host.now()),
        );
        assert_eq!(found, same, "{phase}");
        let overtaken = step(&host.state, cannot(host.state.probe_turn + 1), host.now());
        assert!(matches!(overtaken, Err(Refused::Overtaken { .. })), "{phase}");
    }
}

#[test]
fn the_happy_path_ends_confirmed() {
    let mut host = Host::on(1);
    host.must(Event::Assign(assign(2, 2)));
    assert_eq!(host.phase(), Phase::Assigned);
    host.settle();
    assert_eq!((host.phase(), host.running), (Phase::Staged, Some(1)));
    host.permit(2);
    host.settle();
    assert_eq!((host.phase(), host.running, host.link), (Phase::Trial, Some(2), Some(2)));
    assert_eq!(host.confirmed_link, Some(1), "a reboot now comes up on the old release");
    host.confirm(2);
    assert_eq!((host.phase(), outcome(&host)), (Phase::Confirmed, Some(Outcome::Confirmed)));
    assert_eq!(host.confirmed_link, Some(2));
    assert_eq!(host.state.history, [release(1)]);
    let names: Vec<_> = host.log.iter().map(Effect::name).collect();
    let expected =
        "stage drain stop_probes stop switch redial start probe probe smoke admit write_confirmed prune";
    assert_eq!(names.join(" "), expected);
    assert_eq!(
        host.hooks,
        HookName::ALL
            .iter()
            .map(|hook| (if *hook == HookName::ApplicationStop { 1 } else { 2 }, *hook))
            .collect::<Vec<_>>(),
        "all in CodeDeploy's order, application_stop of the old release"
    );
    let told = status(&host.state, Observed::default());
    assert_eq!(
        (told.phase, told.outcome, told.target),
        (Phase::Confirmed, Some(Outcome::Confirmed), Some(release(2)))
    );
    assert!(told.phase_times[&Phase::Verifying] >= 10_000, "min_healthy_time was kept");
    assert!(host.log.contains(&Effect::Drain { release: release(1) }));
}

#[test]
fn a_first_deployment_has_nothing_to_drain_and_reverts_to_nothing() {
    let mut host = Host::new();
    host.deploy(1, 1);
    assert_eq!((host.phase(), host.running), (Phase::Confirmed, Some(1)));
    assert!(!host.log.iter().any(|effect| matches!(effect, Effect::Drain { .. } | Effect::Stop { .. })));

    let mut host = Host::new();
    host.weather.not_ready = vec![1];
    host.must(Event::Assign(assign(1, 1)));
    host.settle();
    host.permit(1);
    host.settle();
    assert_eq!((host.phase(), host.running, host.link), (Phase::Reverted, None, None));
    assert_eq!((outcome(&host), fault(&host)), (Some(Outcome::Reverted), Some(Fault::App)));
}

#[test]
fn each_failure_has_its_end_and_its_fault() {
    type Case = (fn(&mut Weather), Phase, Outcome, Fault, &'static str);
    let cases: &[Case] = &[
        (|w| w.not_stageable = vec![2], Phase::Failed, Outcome::Failed, Fault::Policy, "unknown key"),
        (|w| w.drain_hangs = true, Phase::Failed, Outcome::Failed, Fault::App, "2 connections outlived"),
        (|w| w.no_switch_to = vec![2], Phase::Reverted, Outcome::Reverted, Fault::Host, "no such directory"),
        (|w| w.not_startable = vec![2], Phase::Reverted, Outcome::Reverted, Fault::Host, "exec format error"),
        (|w| w.no_startup = vec![2], Phase::Reverted, Outcome::Reverted, Fault::App, "connection refused"),
        (|w| w.not_ready = vec![2], Phase::Reverted, Outcome::Reverted, Fault::App, "within 5m: status 503"),
        (|w| w.smoke_fails = vec![2], Phase::Reverted, Outcome::Reverted, Fault::App, "status 500"),
        (
            |w| w.not_startable = vec![1, 2],
            Phase::Quarantined,
            Outcome::Quarantined,
            Fault::Host,
            "the way back to web 1.1.0",
        ),
        (|w| w.no_stop = true, Phase::Quarantined, Outcome::Quarantined, Fault::Host, "it will not die"),
    ];
    for (spoil, phase, ends, whose, why) in cases {
        let mut host = Host::on(1);
        spoil(&mut host.weather);
        host.must(Event::Assign(assign(2, 2)));
        host.settle();
        if host.phase() == Phase::Staged {
            host.permit(2);
            host.settle();
        }
        assert_eq!(
            (host.phase(), outcome(&host), fault(&host)),
            (*phase, Some(*ends), Some(*whose)),
            "{why}"
        );
        assert!(reason(&host).contains(why), "{why}: {}", reason(&host));
        if *phase != Phase::Quarantined {
            assert_eq!((host.running, host.link), (Some(1), Some(1)), "{why}");
        }
    }
}

#[test]
fn no_confirm_in_time_does_what_the_order_says() {
    let deadline = |policy: OnContactLost| {
        let mut host = Host::on(1);
        let mut order = assign(2, 2);
        order.order.host.on_contact_lost = policy;
        host.must(Event::Assign(order));
        host.settle();
        host.permit(2);
        host.settle();
        let trial = host.boot;
        host.exhaust();
        (host.boot - trial, host)
    };
    let (took, host) = deadline(OnContactLost::Revert);
    assert_eq!(
        (host.phase(), host.running, fault(&host)),
        (Phase::Reverted, Some(1), Some(Fault::Transport))
    );
    assert!((180_000..200_000).contains(&took));
    let (took, host) = deadline(OnContactLost::HoldIfHealthy);
    assert_eq!((host.phase(), host.running), (Phase::Reverted, Some(1)));
    assert!((1_080_000..1_100_000).contains(&took), "15 minutes more, not longer: {took}");
    let (_, mut host) = deadline(OnContactLost::Stop);
    assert_eq!((host.phase(), host.running), (Phase::Quarantined, None));
    host.must(Event::ReleaseQuarantine { epoch: 1, leave_down: false });
    host.settle();
    assert_eq!((host.phase(), host.running), (Phase::Reverted, Some(1)));
}

#[test]
fn a_quarantine_can_be_ended_without_what_does_not_come_up_and_only_by_whom_is_obeyed() {
    let mut host = at(Phase::Quarantined);
    let release = |epoch, leave_down| Event::ReleaseQuarantine { epoch, leave_down };
    let highest = host.state.epoch;
    assert!(highest > 0);
    let fenced = Refused::Fenced { given: highest - 1, highest };
    assert_eq!(host.feed(release(highest - 1, true)), Err(fenced));
    host.must(release(highest, true));
    host.settle();
    assert_eq!((host.phase(), host.running, host.link), (Phase::Idle, None, None));
    assert_eq!(host.state.confirmed, Some(self::release(1)), "the way back stays");
    // Nothing is started by itself, not even by the next agent.
    host.exhaust();
    host.must(Event::Recovered { same_boot: true });
    host.settle();
    assert_eq!((host.phase(), host.running), (Phase::Idle, None));
    // The next release comes although the last confirmed one would not.
    host.weather.not_startable = vec![1, 2];
    host.deploy(3, 3);
    assert_eq!((host.phase(), host.running), (Phase::Confirmed, Some(3)));
}

#[test]
fn a_confirm_over_the_old_session_does_not_count() {
    let mut host = at(Phase::Trial);
    let old = BootTime(host.state.operation.as_ref().unwrap().switched_at.unwrap().0 - 1);
    let confirm = Event::Confirm { op: op(2), epoch: 1, session_opened_at: old };
    assert_eq!(host.feed(confirm), Err(Refused::OldSession));
    assert_eq!(host.phase(), Phase::Trial);
}

#[test]
fn a_confirm_after_the_revert_says_so() {
    let mut host = at(Phase::Reverting);
    host.confirm(2);
    host.settle();
    assert_eq!((host.phase(), outcome(&host)), (Phase::Reverted, Some(Outcome::AlreadyReverted)));
    let mut host = at(Phase::Reverted);
    host.confirm(2);
    assert_eq!((host.phase(), outcome(&host)), (Phase::Reverted, Some(Outcome::AlreadyReverted)));
    assert_eq!(host.running, Some(1));
}

#[test]
fn a_permit_needs_contact_and_has_an_end() {
    let mut host = at(Phase::Staged);
    let permit = |expires| Event::Permit { op: op(2), epoch: 1, expires: BootTime(expires) };
    host.contact = Some(host.boot - 10_000);
    assert_eq!(host.feed(permit(host.boot + 1)), Err(Refused::NoContact));
    host.contact = None;
    assert_eq!(host.feed(permit(host.boot + 1)), Err(Refused::NoContact));
    host.contact = Some(host.boot);
    assert_eq!(host.feed(permit(host.boot)), Err(Refused::PermitOver));
    assert_eq!(host.feed(permit(host.boot + 1)), Ok(()));
}

#[test]
fn losing_contact_while_draining_goes_back_into_traffic() {
    let mut host = at(Phase::Draining);
    host.boot += 5_000;
    assert_eq!(host.feed(Event::Tick), Err(Refused::NothingDue));
    host.contact = Some(host.boot);
    host.boot += 5_000;
    host.must(Event::Tick);
    assert_eq!(host.phase(), Phase::Draining, "the lease was renewed");
    host.tick();
    assert_eq!((host.phase(), fault(&host)), (Phase::Undraining, Some(Fault::Transport)));
    host.settle();
    assert_eq!((host.phase(), host.running), (Phase::Failed, Some(1)));
}

/// Drain and stop have limits of their own, which the shell keeps; the time of the new release begins when they have ended.
#[test]
fn what_leaves_takes_nothing_of_the_time_of_what_comes() {
    const LONGER: u64 = 400_000;
    let mut host = at(Phase::Draining);
    for _ in 0..LONGER / 5_000 {
        host.boot += 5_000;
        host.contact = Some(host.boot);
    }
    let turn = host.state.turn;
    host.must(Event::Done { turn, done: Done::Drained(windlass_proto::phase::Drained::default()) });
    assert_eq!((host.phase(), host.state.wake_at()), (Phase::Stopping, None));
    host.boot += LONGER;
    let turn = host.state.turn;
    host.must(Event::Done { turn, done: Done::Stopped { cut: 0 } });
    let deadline = BootTime(host.boot + assign(2, 2).order.healthy_deadline.0);
    assert_eq!((host.phase(), host.state.wake_at()), (Phase::Switching, Some(deadline)));
    // An agent that starts again in between has no more time than that.
    host.boot += 10_000;
    host.must(Event::Recovered { same_boot: true });
    assert_eq!((host.phase(), host.state.wake_at()), (Phase::Switching, Some(deadline)));
}

/// A drain or a stop that the shell gives up ends as it always did: back into traffic before anything was stopped, back to
/// the release before afterwards.
#[test]
fn what_is_stuck_before_the_switch_comes_to_an_end() {
    for (phase, then) in [(Phase::Draining, Phase::Undraining), (Phase::Stopping, Phase::Reverting)] {
        let mut host = at(phase);
        host.boot += 3_600_000;
        let turn = host.state.turn;
        let reason = "drain did not end within 185 s".to_owned();
        host.must(Event::Failed { turn, fault: Fault::Agent, reason });
        assert_eq!((host.phase(), fault(&host)), (then, Some(Fault::Agent)));
        host.settle();
        assert_eq!(host.running, Some(1), "{phase}");
        assert!(host.state.is_settled(), "{phase}");
    }
}

/// An agent that was kept from its deadline: nothing is stopped on the strength of an old lease.
#[test]
fn a_drain_that_ends_without_contact_goes_back_into_traffic() {
    let mut host = at(Phase::Draining);
    host.boot += 60_000;
    let turn = host.state.turn;
    host.must(Event::Done { turn, done: Done::Drained(windlass_proto::phase::Drained::default()) });
    assert_eq!((host.phase(), fault(&host)), (Phase::Undraining, Some(Fault::Transport)));
}

#[test]
fn lower_epochs_are_fenced_and_repetitions_are_harmless() {
    let mut host = Host::on(1);
    host.must(Event::Assign(Assign { epoch: 7, ..assign(2, 2) }));
    host.must(Event::Assign(Assign { epoch: 8, ..assign(2, 2) }));
    assert_eq!(host.log.iter().filter(|effect| effect.name() == "stage").count(), 1);
    host.settle();
    let abort = Event::Abort { op: op(2), epoch: 7, reason: String::new() };
    assert_eq!(host.feed(abort), Err(Refused::Fenced { given: 7, highest: 8 }));
    let other = Event::Assign(Assign { epoch: 8, ..assign(3, 3) });
    assert_eq!(host.feed(other), Err(Refused::Busy { op: op(2), phase: Phase::Staged }));
    let foreign = Event::Permit { op: op(9), epoch: 8, expires: BootTime(u64::MAX) };
    assert_eq!(host.feed(foreign), Err(Refused::OtherOperation(op(9))));
}

#[test]
fn no_counter_ends_the_numbers_of_an_app() {
    for (had, poison) in [(3, u64::MAX - 2), (3, u64::MAX), (3, 4 + (1 << 48))] {
        let mut host = Host::on(had);
        for rollback in [false, true] {
            let mut order = Assign { rollback, ..assign(9 + u32::from(rollback), 4) };
            order.to.counter = poison;
            host.must(Event::Assign(order));
            assert_eq!((host.phase(), fault(&host)), (Phase::Failed, Some(Fault::Policy)));
            assert!(reason(&host).contains("too far above 3"), "{}", reason(&host));
            assert_eq!((host.state.counter, host.running), (3, Some(3)), "nothing was counted or touched");
        }
        host.deploy(11, 4);
        assert_eq!((host.phase(), host.running), (Phase::Confirmed, Some(4)));
    }
}

#[test]
fn counters_go_down_only_by_rollback_to_what_was_confirmed_here() {
    let mut host = Host::on(3);
    host.must(Event::Assign(assign(9, 2)));
    assert_eq!((host.phase(), fault(&host)), (Phase::Failed, Some(Fault::Policy)));
    assert!(reason(&host).contains("counter 2"), "{}", reason(&host));
    assert_eq!(host.running, Some(3));

    host.must(Event::Assign(Assign { rollback: true, ..assign(10, 2) }));
    host.settle();
    host.permit(10);
    host.settle();
    host.confirm(10);
    assert_eq!((host.phase(), host.running), (Phase::Confirmed, Some(2)));
    assert_eq!(host.state.counter, 3);
    assert_eq!(host.state.watch, None, "a rollback is not watched: the way back is where it came from");

    let mut host = Host::new();
    host.deploy(1, 3);
    host.must(Event::Assign(Assign { rollback: true, ..assign(2, 2) }));
    assert_eq!((host.phase(), fault(&host)), (Phase::Failed, Some(Fault::Policy)));
}

/// Every case of the decision is in `windlass_proto::grant`; this is that the machine goes by it, and remembers that it did.
#[test]
fn a_grant_takes_a_host_to_a_release_that_it_missed() {
    let grant = |up_to| {
        let fleet = FleetName::new("prod").unwrap();
        let (app, digest, until) = (app(), release(2).digest, Timestamp(10));
        let grant = Grant { format: GRANT_FORMAT, fleet: fleet.clone(), app, digest, up_to, until };
        Some(Box::new(Presented { fleet, at: Timestamp(9), grant: Ok(grant) }))
    };
    for (rollback, up_to, taken) in [(true, 3, true), (false, 3, true), (true, 2, false), (false, 2, false)] {
        let mut host = Host::new();
        host.deploy(1, 3);
        host.must(Event::Assign(Assign { rollback, grant: grant(up_to), ..assign(2, 2) }));
        host.settle();
        if !taken {
            assert_eq!((host.phase(), fault(&host)), (Phase::Failed, Some(Fault::Policy)));
            assert!(reason(&host).contains("the grant is good up to counter 2"), "{}", reason(&host));
            continue;
        }
        assert_eq!(host.state.operation.as_ref().unwrap().leave, Leave::Granted);
        host.permit(2);
        host.settle();
        host.confirm(2);
        assert_eq!((host.phase(), host.running), (Phase::Confirmed, Some(2)));
        assert_eq!(
            host.state.past(),
            Past { seen: 3, confirmed: vec![release(2).digest, release(3).digest] }
        );
    }
}

#[test]
fn what_is_there_already_is_confirmed_at_once() {
    let mut host = Host::on(2);
    host.must(Event::Assign(assign(9, 2)));
    assert_eq!((host.phase(), outcome(&host)), (Phase::Confirmed, Some(Outcome::Confirmed)));
    assert!(host.log.is_empty());
}

#[test]
fn the_watch_window_reverts_once_and_never_again() {
    let mut host = Host::on(1);
    host.deploy(2, 2);
    host.settle();
    let dead = |host: &Host| Event::Health {
        turn: host.state.probe_turn,
        health: Health::LivenessFailed { why: "timeout".into() },
    };
    host.must(dead(&host));
    assert_eq!((host.phase(), host.confirmed_link), (Phase::Reverting, Some(1)));
    host.settle();
    assert_eq!(
        (host.phase(), host.running, outcome(&host)),
        (Phase::Reverted, Some(1), Some(Outcome::Reverted))
    );
    assert_eq!((host.state.confirmed.clone(), fault(&host)), (Some(release(1)), Some(Fault::App)));
    host.must(dead(&host));
    assert_eq!(host.phase(), Phase::Reverted);
    assert_eq!(host.state.supervision, Supervision::Stopping);
    host.settle();
    assert_eq!((host.phase(), host.running), (Phase::Reverted, Some(1)), "restarted");
}

#[test]
fn after_the_watch_window_the_app_is_restarted_with_backoff() {
    let mut host = Host::on(2);
    let mut waits = Vec::new();
    for _ in 0..4 {
        host.running = None;
        host.must(Event::AppExited { turn: host.state.run_turn, how: "killed by SIGSEGV".into() });
        waits.push(host.state.wake_at().unwrap().0 - host.boot);
        assert!(status(&host.state, Observed::default()).detail.contains("SIGSEGV") || !waits.is_empty());
        host.settle();
        assert_eq!((host.phase(), host.running), (Phase::Confirmed, Some(2)));
    }
    assert_eq!(waits, [1000, 2000, 4000, 8000]);
    host.boot += Span::secs(700).0;
    host.must(Event::AppExited { turn: host.state.run_turn, how: "exit code 0".into() });
    assert_eq!(host.state.wake_at().unwrap().0 - host.boot, 1000, "it had run long enough");
}

#[test]
fn crashing_thrice_within_the_watch_window_reverts() {
    let mut host = Host::on(1);
    host.deploy(2, 2);
    for _ in 0..3 {
        host.running = None;
        host.must(Event::AppExited { turn: host.state.run_turn, how: "exit code 1".into() });
        host.settle();
    }
    assert_eq!((host.phase(), host.running), (Phase::Reverted, Some(1)));
    assert!(reason(&host).contains("3 times"), "{}", reason(&host));
}

#[test]
fn an_abort_before_stopping_leaves_the_old_release_in_service() {
    for phase in [Phase::Assigned, Phase::Staging, Phase::Staged, Phase::Draining] {
        let mut host = at(phase);
        host.must(Event::Abort { op: op(2), epoch: 1, reason: "operator says so".into() });
        host.settle();
        assert_eq!(host.running, Some(1));
        let end = (host.phase(), outcome(&host), fault(&host));
        if phase == Phase::Draining {
            assert_eq!(end, (Phase::Failed, Some(Outcome::Failed), Some(Fault::Policy)));
            assert_eq!(reason(&host), "operator says so");
        } else {
            assert_eq!(end, (Phase::Idle, Some(Outcome::Skipped), None));
            assert_eq!(reason(&host), "not touched: operator says so");
        }
        assert!(!host.log.iter().any(|effect| effect.name() == "stop"));
    }
}

#[test]
fn a_reboot_on_trial_comes_up_on_the_old_release() {
    for phase in
        [Phase::Draining, Phase::Stopping, Phase::Switching, Phase::Starting, Phase::Verifying, Phase::Trial]
    {
        let mut host = at(phase);
        host.crash(true);
        assert_eq!(host.phase(), Phase::Reverting);
        host.settle();
        assert_eq!(
            (host.phase(), host.running, outcome(&host)),
            (Phase::Reverted, Some(1), Some(Outcome::Reverted))
        );
        assert!(reason(&host).contains("the host rebooted during"), "{}", reason(&host));
    }
    let mut host = at(Phase::Confirmed);
    host.crash(true);
    host.settle();
    assert_eq!((host.phase(), host.running, host.link), (Phase::Confirmed, Some(2), Some(2)));
}

#[test]
fn a_confirm_that_overtakes_the_search_for_the_process_leaves_it_watched() {
    let mut host = at(Phase::Trial);
    host.crash(false);
    let searching = host.state.turn;
    host.confirm(2);
    assert_eq!(host.phase(), Phase::Confirmed);
    host.must(Event::Done { turn: searching, done: Done::Adopted });
    assert_eq!(host.log.last().map(Effect::name), Some("probe"));
    assert_ne!(host.state.probe_turn, 0);
}

#[test]
fn quarantine_stays_until_a_person_releases_it() {
    let mut host = at(Phase::Quarantined);
    assert_eq!(host.running, None);
    host.must(Event::Assign(assign(3, 3)));
    assert_eq!((host.phase(), outcome(&host)), (Phase::Quarantined, Some(Outcome::Quarantined)));
    assert!(reason(&host).contains("release it first"), "{}", reason(&host));
    host.settle();
    host.weather = Weather::default();
    host.must(Event::ReleaseQuarantine { epoch: 1, leave_down: false });
    host.settle();
    assert_eq!((host.phase(), host.running), (Phase::Reverted, Some(1)));
}

#[test]
fn overtaken_outcomes_are_told_apart() {
    let mut host = at(Phase::Draining);
    let stale = host.state.turn;
    host.must(Event::Abort { op: op(2), epoch: 1, reason: "no".into() });
    let late = Event::Done { turn: stale, done: Done::Drained(windlass_proto::phase::Drained::default()) };
    assert_eq!(host.feed(late), Err(Refused::Overtaken { given: stale, current: host.state.turn }));
}

#[test]
fn an_order_for_another_app_is_refused() {
    let mut other = assign(1, 1);
    other.to.app = windlass_proto::id::AppName::new("api").unwrap();
    assert_eq!(Host::new().feed(Event::Assign(other)), Err(Refused::OtherApp));
    assert_eq!(State::new(app()).progress, Progress::Idle);
    let step = RevertStep::Stopping;
    assert!(
        !State {
            progress: Progress::Reverting { goal: RevertGoal::Back, step, attempt: 0 },
            ..State::new(app())
        }
        .is_settled()
    );
}

/// A hook of the new release that fails is a failure of its phase: before Stopping nothing was stopped, later it is a
/// revert. One of the old release holds nothing up.
#[test]
fn a_failing_hook_fails_its_phase_and_the_old_release_holds_nothing_up() {
    for hook in HookName::ALL {
        let old = if *hook == HookName::ApplicationStop { 1 } else { 2 };
        let mut host = Host::on(1);
        host.weather.hook_fails =
            vec![(old, *hook), (1, HookName::BeforeAllowTraffic), (1, HookName::ApplicationStart)];
        host.must(Event::Assign(assign(2, 2)));
        host.settle();
        host.permit(2);
        host.settle();
        let (phase, fault) = (host.phase(), fault(&host));
        match hook {
            HookName::ApplicationStop => {
                assert_eq!((phase, fault), (Phase::Trial, None), "{hook}");
                continue;
            }
            HookName::BeforeBlockTraffic | HookName::AfterBlockTraffic => {
                assert_eq!((phase, fault), (Phase::Failed, Some(Fault::App)), "{hook}");
                assert!(!host.log.iter().any(|effect| effect.name() == "stop"), "{hook}");
            }
            _ => assert_eq!((phase, fault), (Phase::Reverted, Some(Fault::App)), "{hook}"),
        }
        assert_eq!((host.running, host.in_traffic), (Some(1), true), "{hook}");
        assert!(reason(&host).contains(hook.word()), "{}", reason(&host));
        let back = [(1, HookName::BeforeAllowTraffic), (1, HookName::AfterAllowTraffic)];
        assert!(host.hooks.ends_with(&back), "{hook}: {:?}", host.hooks);
        let frozen = host.log.iter().any(|effect| effect.name() == "freeze_evidence");
        assert!(frozen, "{hook}");
    }
}

/// What a crash makes the machine ask again has the same round, so that it is not run twice; a new attempt has another.
#[test]
fn a_hook_that_is_asked_again_after_a_crash_is_known_by_its_round() {
    for phase in [Phase::Draining, Phase::Switching, Phase::Starting, Phase::Stopping] {
        let host = at(phase);
        let rounds = |effects: &[Effect]| -> Vec<u64> {
            let round = |effect: &Effect| match effect {
                Effect::Hook { round, .. } => Some(*round),
                _ => None,
            };
            effects.iter().filter_map(round).collect()
        };
        let asked = [host.before.clone(), host.after.clone()].concat();
        let again = step(&host.state, Event::Recovered { same_boot: true }, host.now()).unwrap();
        assert_eq!(rounds(&again.effects), rounds(&asked), "{phase}");
        assert!(!asked.is_empty(), "{phase}");
    }
    let mut host = at(Phase::Starting);
    host.must(Event::Hook { turn: host.state.turn, running: Some(HookName::AfterInstall) });
    assert_eq!(status(&host.state, Observed::default()).detail, "running hook after_install");
}
