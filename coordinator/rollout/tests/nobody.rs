//! A rollout that was to change hosts and changed none has not succeeded, whoever is excused.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod fleet;

use windlass_proto::phase::{Fault, Outcome, Phase};
use windlass_proto::time::{Span, Timestamp};
use windlass_rollout::plan::HostState;
use windlass_rollout::{Event, Rollout, State, make_plan, step};

use fleet::{fleet, name, order, release, rolling, rollout_of, status};

/// What becomes of each host.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It has the release already.
    Current,
    /// It comes to it.
    Comes,
    /// It falls silent before anything is done.
    Silent,
    /// It is away when the rollout is planned.
    Away,
    /// Nothing arrives, as often as it is tried.
    CutOff,
}

struct Run {
    r: Rollout,
    now: Timestamp,
    seq: u64,
}

impl Run {
    fn give(&mut self, event: Event) {
        self.now = self.now.after(Span(10));
        self.r = step(&self.r, event, self.now).unwrap().state;
    }

    fn says(&mut self, host: usize, phase: Phase, fault: Option<Fault>) {
        self.seq += 1;
        let mut said = status(&self.r, &name(host), self.seq, phase);
        if fault.is_some() {
            (said.fault, said.reason) = (fault, "nothing arrived".into());
        }
        self.give(Event::HostStatus { host: name(host), status: Box::new(said) });
    }
}

/// The end of a rollout to hosts with these fates.
fn end(fates: &[Fate]) -> Rollout {
    let mut fleet = fleet(fates.len());
    for (host, fate) in fleet.hosts.iter_mut().zip(fates) {
        match fate {
            Fate::Current => (host.current, host.confirmed) = (Some(release(2)), Some(release(2))),
            Fate::Away => host.state = HostState::Silent,
            _ => {}
        }
    }
    let spec = rolling(r#", "type": "all_at_once""#, r#", "absent": "skip""#, "");
    let plan = make_plan(order(spec), &fleet);
    assert_eq!(plan.refusal(), None, "{fates:?}");
    let mut run = Run { r: rollout_of(&plan, Timestamp(0)), now: Timestamp(0), seq: 0 };
    run.give(Event::Start);
    let hosts = || (1..).zip(fates);
    for (host, fate) in hosts() {
        match fate {
            Fate::Silent => run.give(Event::HostSilent { host: name(host) }),
            Fate::Comes => run.says(host, Phase::Staged, None),
            Fate::Current | Fate::Away | Fate::CutOff => {}
        }
    }
    for _ in 0..3 {
        run.now = run.now.after(Span::secs(30));
        for (host, _) in hosts().filter(|(_, fate)| **fate == Fate::CutOff) {
            run.says(host, Phase::Failed, Some(Fault::Transport));
        }
    }
    for _ in 0..20 {
        if run.r.ended() {
            break;
        }
        run.now = run.now.after(Span::secs(20));
        for (host, _) in hosts().filter(|(_, fate)| **fate == Fate::Comes) {
            let flying = run.r.hosts[&name(host)].permit_at.is_some();
            if flying && run.r.hosts[&name(host)].outcome.is_none() {
                run.says(host, Phase::Trial, None);
                run.says(host, Phase::Confirmed, None);
            }
        }
        run.give(Event::Tick);
    }
    run.r
}

#[test]
fn zero_hosts_done_is_not_success() {
    use Fate::{Away, Comes, Current, CutOff, Silent};
    for fates in [
        &[Silent][..],
        &[CutOff],
        &[Silent, CutOff],
        &[CutOff, CutOff, CutOff],
        &[Away, CutOff],
        // Those that had it before do not make it a success for the one that was asked for.
        &[Current, CutOff],
        &[Current, Current, Silent],
    ] {
        let r = end(fates);
        assert_eq!(r.state, State::Failed, "{fates:?}");
        assert!(r.failure.starts_with("no host was changed: host-"), "{fates:?}: {}", r.failure);
        let why = if fates.contains(&CutOff) { "nothing arrived" } else { "silent" };
        assert!(r.failure.contains(why), "{fates:?}: {}", r.failure);
        assert!(r.left_behind().unwrap().len() >= fates.iter().filter(|fate| **fate != Current).count());
        assert!(r.hosts.values().all(|host| host.outcome != Some(Outcome::Failed)), "nobody is blamed");
    }
    for fates in [
        &[Comes][..],
        &[Comes, Silent],
        &[Comes, CutOff],
        &[Current, Comes, Away],
        // Nothing was to be done.
        &[Current, Current],
        &[Current, Away],
    ] {
        let r = end(fates);
        assert_eq!(r.state, State::Succeeded, "{fates:?}: {}", r.failure);
    }
}
