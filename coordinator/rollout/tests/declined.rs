//! A host that would refuse its order because of a counter is not given it, and vetoes nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;

use windlass_proto::phase::{Outcome, Phase};
use windlass_proto::time::{Span, Timestamp};
use windlass_rollout::clock::RESEND;
use windlass_rollout::{Effect, Event, Rollout, State, step};

use fleet::{name, rolling, rollout, status};

struct Play {
    r: Rollout,
    now: Timestamp,
    seq: u64,
}

impl Play {
    fn feed(&mut self, event: Event) -> Vec<Effect> {
        let next = step(&self.r, event, self.now).unwrap();
        self.r = next.state;
        next.effects
    }

    /// Hosts that are given their order.
    fn assigned(&mut self, event: Event) -> Vec<String> {
        let assigned = self.feed(event).into_iter().filter_map(|effect| match effect {
            Effect::Assign { host, .. } => Some(host.to_string()),
            _ => None,
        });
        assigned.collect()
    }

    fn says(&mut self, host: usize, phase: Phase) -> Vec<Effect> {
        self.seq += 1;
        let host = name(host);
        let status = status(&self.r, &host, self.seq, phase);
        self.feed(Event::HostStatus { host, status: Box::new(status) })
    }

    fn declined(&self, host: usize) -> Event {
        let host = name(host);
        let op = self.r.hosts[&host].op.clone();
        Event::Declined { host, op, why: "its counter is below".into() }
    }
}

fn begin() -> Play {
    let spec = rolling(r#", "max_parallel": 1, "max_unavailable": 1"#, "", "");
    let mut play = Play { r: rollout(2, spec), now: Timestamp(1_000), seq: 0 };
    assert_eq!(play.assigned(Event::Start), ["host-1", "host-2"]);
    play
}

#[test]
fn the_others_go_on_without_it_and_it_is_excused_by_name() {
    let mut play = begin();
    let declined = play.declined(2);
    play.feed(declined);
    let host = &play.r.hosts[&name(2)];
    assert_eq!((host.outcome, host.reason.as_str()), (Some(Outcome::Skipped), "its counter is below"));
    play.now = play.now.after(RESEND).after(Span(1));
    assert_eq!(play.assigned(Event::Tick), ["host-1"], "not given the order again");
    for phase in [Phase::Staged, Phase::Trial, Phase::Confirmed] {
        play.says(1, phase);
    }
    assert_eq!(play.r.state, State::Succeeded);
    assert_eq!(play.r.hosts[&name(2)].outcome, Some(Outcome::Skipped));
}

#[test]
fn what_was_disturbed_is_not_left_out() {
    let mut play = begin();
    let stale = Event::Declined { host: name(2), op: "other".parse().unwrap(), why: "no".into() };
    play.feed(stale);
    assert_eq!(play.r.hosts[&name(2)].outcome, None, "about another operation");
    play.says(1, Phase::Staged);
    play.says(2, Phase::Staged);
    let touched = if play.r.hosts[&name(1)].touched { 1 } else { 2 };
    assert!(play.r.hosts[&name(touched)].touched);
    let declined = play.declined(touched);
    play.feed(declined);
    assert_eq!(play.r.hosts[&name(touched)].outcome, None);
}
