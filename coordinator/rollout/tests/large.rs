//! Ten thousand hosts: what a step and a view cost grows with the fleet, not with its square. What does not shows as a
//! test that takes minutes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;

use fleet::{name, rolling, rollout, status};
use windlass_proto::phase::Phase;
use windlass_proto::time::Timestamp;
use windlass_rollout::{Effect, Event, step};

const HOSTS: usize = 10_000;

#[test]
fn ten_thousand_hosts_are_permitted_and_shown() {
    let strategy = r#", "max_parallel": "50%", "max_unavailable": 50"#;
    let mut spec = rolling(strategy, "", "");
    spec.failure.rollback.deadline = windlass_proto::time::Span::secs(24 * 60 * 60);
    let mut rollout = rollout(HOSTS, spec);
    let staged: Vec<_> =
        (1..=HOSTS).map(|n| (name(n), status(&rollout, &name(n), 1, Phase::Staged))).collect();
    rollout = step(&rollout, Event::Start, Timestamp(1)).unwrap().state;
    for (host, status) in staged {
        let own = rollout.hosts.get_mut(&host).unwrap();
        (own.heard_op, own.phase) = (status.op, status.phase);
    }
    let ticked = step(&rollout, Event::Tick, Timestamp(2)).unwrap();
    let permits = ticked.effects.iter().filter(|effect| matches!(effect, Effect::Permit { .. })).count();
    assert_eq!(permits, 50);
    let again = step(&ticked.state, Event::Tick, Timestamp(3)).unwrap().state;
    let view = again.view();
    assert_eq!((view.hosts.len(), view.batches.len()), (HOSTS, 2));
    assert!(view.waiting_for.contains("and 47 more"), "{}", view.waiting_for);
}
