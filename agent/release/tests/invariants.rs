//! Whatever happens, in whatever order: the host ends where it may, and never where it must not.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod shell;

use proptest::prelude::*;
use shell::{Crash, Host, Weather, assign, op};
use windlass_proto::phase::{Drained, Fault, HookName, Outcome, Phase};
use windlass_proto::spec::OnContactLost;
use windlass_release::{Assign, BootTime, Done, Event, Health, Staging};

/// Something that happens to a host, with its numbers relative to the state it meets.
#[derive(Debug, Clone)]
enum Happening {
    Answer,
    Observe,
    Tick,
    Wait(u64),
    Lease,
    Assign { n: u32, to: u8, epoch: u64, rollback: bool, policy: u8 },
    Permit { n: u32, epoch: u64 },
    Confirm { n: u32, epoch: u64, old_session: bool },
    Abort { n: u32, epoch: u64 },
    Done { which: u8, stale: bool },
    Failed { stale: bool },
    Health { which: u8, stale: bool },
    Exited { stale: bool },
    Staging { n: u32, which: u8 },
    ReleaseQuarantine,
    Crash { reboot: bool },
    Weather { which: u8, release: u8 },
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    let (n, epoch) = (1..5_u32, 0..3_u64);
    prop_oneof![
        12 => Just(H::Answer),
        10 => Just(H::Observe),
        5 => Just(H::Tick),
        3 => (0..200_000_u64).prop_map(H::Wait),
        6 => Just(H::Lease),
        5 => (n.clone(), 1..5_u8, epoch.clone(), any::<bool>(), 0..3_u8)
            .prop_map(|(n, to, epoch, rollback, policy)| H::Assign { n, to, epoch, rollback, policy }),
        8 => (n.clone(), epoch.clone()).prop_map(|(n, epoch)| H::Permit { n, epoch }),
        5 => (n.clone(), epoch.clone(), any::<bool>())
            .prop_map(|(n, epoch, old_session)| H::Confirm { n, epoch, old_session }),
        1 => (n.clone(), epoch).prop_map(|(n, epoch)| H::Abort { n, epoch }),
        2 => (0..10_u8, any::<bool>()).prop_map(|(which, stale)| H::Done { which, stale }),
        1 => any::<bool>().prop_map(|stale| H::Failed { stale }),
        2 => (0..5_u8, any::<bool>()).prop_map(|(which, stale)| H::Health { which, stale }),
        1 => any::<bool>().prop_map(|stale| H::Exited { stale }),
        1 => (n, 0..3_u8).prop_map(|(n, which)| H::Staging { n, which }),
        1 => Just(H::ReleaseQuarantine),
        2 => any::<bool>().prop_map(|reboot| H::Crash { reboot }),
        1 => (0..8_u8, 1..5_u8).prop_map(|(which, release)| H::Weather { which, release }),
    ]
}

fn meet(host: &mut Host, happening: Happening) {
    let turn = |stale: bool, turn: u64| if stale { turn.wrapping_sub(1) } else { turn };
    let drained = Drained { in_flight: 1, closed: 0, cut: 1 };
    let event = match happening {
        Happening::Answer => {
            host.answer();
            return;
        }
        Happening::Observe => {
            host.observe();
            return;
        }
        Happening::Wait(ms) => {
            host.boot += ms;
            return;
        }
        Happening::Lease => {
            host.contact = Some(host.boot);
            return;
        }
        Happening::Crash { reboot } => {
            host.crash(reboot);
            return;
        }
        Happening::Weather { which, release } => {
            let of = vec![release];
            host.weather = match which {
                0 => Weather { not_stageable: of, ..Weather::default() },
                1 => Weather { not_startable: of, ..Weather::default() },
                2 => Weather { no_startup: of, ..Weather::default() },
                3 => Weather { not_ready: of, ..Weather::default() },
                4 => Weather { smoke_fails: of, ..Weather::default() },
                5 => Weather { drain_hangs: true, ..Weather::default() },
                6 => Weather {
                    hook_fails: HookName::ALL.iter().map(|hook| (release, *hook)).collect(),
                    ..Weather::default()
                },
                _ => Weather::default(),
            };
            return;
        }
        Happening::Tick => Event::Tick,
        Happening::Assign { n, to, epoch, rollback, policy } => {
            let mut assign = Assign { epoch, rollback, ..assign(n, to) };
            assign.order.host.on_contact_lost =
                [OnContactLost::Revert, OnContactLost::HoldIfHealthy, OnContactLost::Stop]
                    [usize::from(policy)];
            Event::Assign(assign)
        }
        Happening::Permit { n, epoch } => {
            Event::Permit { op: op(n), epoch, expires: BootTime(host.boot + 1000) }
        }
        Happening::Confirm { n, epoch, old_session } => {
            let session_opened_at = BootTime(if old_session { 0 } else { host.boot });
            Event::Confirm { op: op(n), epoch, session_opened_at }
        }
        Happening::Abort { n, epoch } => Event::Abort { op: op(n), epoch, reason: "stop".into() },
        // An outcome comes only of what is in flight; the rest must be refused as overtaken or unexpected.
        Happening::Done { which, stale } => {
            let done = match which {
                0 => Done::Drained(drained),
                1 => Done::DrainTimedOut(drained),
                2 => Done::Undrained,
                3 => Done::SmokePassed,
                4 => Done::SmokeFailed { why: "no".into() },
                5 => Done::Admitted,
                _ => Done::Adopted,
            };
            let in_flight = host.pending.as_ref().is_some_and(|(_, effect)| {
                matches!(
                    (effect.name(), &done),
                    ("drain", Done::Drained(_) | Done::DrainTimedOut(_))
                        | ("undrain", Done::Undrained)
                        | ("smoke", Done::SmokePassed | Done::SmokeFailed { .. })
                        | ("admit", Done::Admitted)
                )
            });
            if !in_flight {
                return;
            }
            Event::Done { turn: turn(stale, host.state.turn), done }
        }
        Happening::Failed { stale } => {
            if host.pending.is_none() {
                return;
            }
            Event::Failed { turn: turn(stale, host.state.turn), fault: Fault::Host, reason: "broken".into() }
        }
        Happening::Health { which, stale } => {
            let why = "no".to_owned();
            let health = match which {
                0 => Health::StartupPassed,
                1 => Health::StartupFailed { why },
                2 => Health::Ready,
                3 => Health::NotReady { why },
                _ => Health::LivenessFailed { why },
            };
            Event::Health { turn: turn(stale, host.state.probe_turn), health }
        }
        Happening::Exited { stale } => {
            // The shell tells of an end after it told of the start.
            let starting = host.pending.as_ref().is_some_and(|(_, effect)| effect.name() == "start");
            if (host.running.is_none() || starting) && !stale {
                return;
            }
            if !stale {
                host.running = None;
            }
            Event::AppExited { turn: turn(stale, host.state.run_turn), how: "exit code 1".into() }
        }
        Happening::Staging { n, which } => {
            let news = match which {
                0 => Staging::Started,
                1 => Staging::Done,
                _ => Staging::Failed { fault: Fault::Transport, reason: "cut off".into() },
            };
            Event::Staging { op: op(n), news }
        }
        Happening::ReleaseQuarantine => Event::ReleaseQuarantine { epoch: 9, leave_down: false },
    };
    let answered = matches!(event, Event::Done { .. } | Event::Failed { .. });
    let before = host.state.turn;
    if host.feed(event).is_ok() && answered && host.state.turn == before {
        host.pending = None;
    }
}

fn is_at_rest(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Idle | Phase::Staged | Phase::Confirmed | Phase::Reverted | Phase::Quarantined | Phase::Failed
    )
}

/// Staged waits for the coordinator with no effect on service; all else must end by timers and outcomes alone.
fn must_come_to_rest(host: &mut Host) {
    host.weather = Weather::default();
    host.crash(false);
    host.exhaust();
    assert!(is_at_rest(host.phase()), "{}", host.phase());
    if matches!(host.phase(), Phase::Quarantined) {
        assert_eq!((host.running, host.in_traffic), (None, false), "out of service: {:?}", host.state);
    } else {
        let wanted = host.state.current.as_ref().map(|release| release.digest.as_bytes()[0]);
        assert_eq!((host.running, host.link), (wanted, wanted), "{}: {:?}", host.phase(), host.state);
        assert_eq!(host.confirmed_link, wanted);
        assert_eq!(host.in_traffic, wanted.is_some(), "{}: {:?}", host.phase(), host.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_comes_to_rest(events in prop::collection::vec(happening(), 1..120), n in 0..3_u8) {
        let mut host = Host::on(n);
        for happening in events {
            meet(&mut host, happening);
        }
        must_come_to_rest(&mut host);
    }
}

/// Runs a deployment of release 2 on a host with release 1 to its end, confirming when on trial.
fn run(mut host: Host) -> Host {
    let _ = host.feed(Event::Assign(assign(2, 2)));
    for _ in 0..10 {
        host.settle();
        match host.phase() {
            Phase::Staged => {
                host.contact = Some(host.boot);
                let expires = BootTime(host.boot + 30_000);
                let _ = host.feed(Event::Permit { op: op(2), epoch: 1, expires });
            }
            Phase::Trial => {
                host.boot += 10;
                let session_opened_at = BootTime(host.boot);
                let _ = host.feed(Event::Confirm { op: op(2), epoch: 1, session_opened_at });
            }
            _ => break,
        }
    }
    host.settle();
    host
}

/// The agent is killed (or the host loses power) after each step, with each number of the step's effects performed:
/// the end is one of the two releases, whole, and the same that the host reports.
#[test]
fn killed_at_every_point_it_ends_on_one_release() {
    let weathers = [
        Weather::default(),
        Weather { not_stageable: vec![2], ..Weather::default() },
        Weather { drain_hangs: true, ..Weather::default() },
        Weather { not_startable: vec![2], ..Weather::default() },
        Weather { not_ready: vec![2], ..Weather::default() },
        Weather { smoke_fails: vec![2], ..Weather::default() },
        Weather { hook_fails: vec![(2, HookName::AfterBlockTraffic)], ..Weather::default() },
        Weather { hook_fails: vec![(2, HookName::ApplicationStart)], ..Weather::default() },
    ];
    let mut points = 0;
    for weather in weathers {
        for reboot in [false, true] {
            for steps in 0..60 {
                for effects in 0..6 {
                    let mut host = Host::on(1);
                    host.weather = weather.clone();
                    host.crash_in = Some(Crash { steps, effects, reboot });
                    let host = run(host);
                    if !host.crashed {
                        continue;
                    }
                    points += 1;
                    let outcome = host.state.operation.as_ref().unwrap().outcome;
                    let expected = match (host.phase(), outcome) {
                        (Phase::Confirmed, Some(Outcome::Confirmed)) => 2,
                        (Phase::Reverted, Some(Outcome::Reverted))
                        | (Phase::Failed, Some(Outcome::Failed)) => 1,
                        other => {
                            panic!("{other:?} after {steps} steps and {effects} effects, reboot {reboot}")
                        }
                    };
                    let there = (host.link, host.confirmed_link, host.running);
                    assert_eq!(there, (Some(expected), Some(expected), Some(expected)), "{:?}", host.state);
                    if !reboot
                        && weather.not_stageable.is_empty()
                        && weather.not_ready.is_empty()
                        && weather.not_startable.is_empty()
                        && weather.smoke_fails.is_empty()
                        && !weather.drain_hangs
                        && weather.hook_fails.is_empty()
                    {
                        assert_eq!(expected, 2, "killing the agent alone loses nothing: {steps} {effects}");
                    }
                }
            }
        }
    }
    assert!(points > 500, "{points} points");
}

/// Nothing runs and nothing is in traffic in quarantine, whatever of the way there was not done when the agent died.
#[test]
fn killed_at_every_point_on_the_way_into_quarantine_it_is_out_of_service() {
    let weather = Weather { not_ready: vec![2], no_startup: vec![1], ..Weather::default() };
    let mut points = 0;
    for steps in 0..80 {
        for effects in 0..6 {
            let mut host = Host::on(1);
            host.must(Event::Assign(assign(2, 2)));
            host.settle();
            host.permit(2);
            host.weather = weather.clone();
            host.crash_in = Some(Crash { steps, effects, reboot: false });
            host.settle();
            if !host.crashed {
                continue;
            }
            points += 1;
            assert_eq!(host.phase(), Phase::Quarantined, "after {steps} steps and {effects} effects");
            assert_eq!((host.running, host.in_traffic), (None, false), "{steps} steps, {effects} effects");
        }
    }
    assert!(points > 50, "{points} points");
}
