//! Of several things that went wrong in a rollout, the cause is told and not what followed from it.

use windlass_proto::id::RolloutId;
use windlass_proto::phase::{AppStatus, Fault, Outcome, Phase};
use windlass_proto::time::Span;

use super::World;

/// One host refuses the release, which ends the rollout while the other one still fetches; nothing is there for it any more.
#[tokio::test]
async fn what_a_host_lacks_after_the_end_is_no_cause() {
    let mut world = World::new(2).await;
    world.push("1");
    let id = RolloutId::new("r-1").unwrap();
    world.fleet.start("operator/ana", &World::order("1", false), "", "", id.clone(), None).unwrap();
    world.settle().await;
    let says =
        [(1, Fault::Policy, "no trusted author signed it"), (0, Fault::Transport, "it is not assigned")];
    for (n, fault, reason) in says {
        let host = world.hosts[n].clone();
        let rollout = &world.fleet.rollouts[&id].rollout;
        let name = world.fleet.hosts[&host].record.name.clone();
        let (to, op) = (rollout.to.clone(), rollout.hosts[&name].op.clone());
        let status = world.status(&host, &id, op, &to, Phase::Failed);
        let status =
            AppStatus { outcome: Some(Outcome::Failed), fault: Some(fault), reason: reason.into(), ..status };
        world.fleet.now = world.fleet.now.after(Span(10));
        world.fleet.report(&host, 1, status).unwrap();
        assert!(world.fleet.rollouts[&id].rollout.ended(), "the first one ends it");
    }
    let both = world.fleet.rollouts[&id].rollout.hosts.values().filter(|host| host.first_cause().is_some());
    assert_eq!(both.count(), 2);
    let why = world.fleet.why("r-1", "").unwrap();
    assert_eq!((why.fault, why.host.unwrap().as_str()), (Some(Fault::Policy), "host-1"));
}
