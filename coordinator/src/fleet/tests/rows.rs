//! What is written for what hosts say: rows that changed, and nothing where nothing did.

use windlass_proto::digest::Digest;
use windlass_proto::id::RolloutId;
use windlass_proto::phase::{AppStatus, Evidence, Phase};
use windlass_proto::time::{Span, Timestamp};
use windlass_rollout::state::Part;

use super::World;
use crate::store::Write;

/// Keys of the rows that would be written now, by their kind; they are written.
async fn written(world: &mut World) -> Vec<String> {
    let (writes, _) = world.fleet.take_changes();
    let kinds = writes.iter().map(|write| match write {
        Write::Put(key, _) | Write::Delete(key) => key.as_str().split('/').next().unwrap().to_owned(),
    });
    let kinds = kinds.collect();
    let txn = crate::store::Txn { conditions: vec![], writes };
    crate::store::StateStore::commit(&world.store, &world.fence, txn).await.unwrap();
    kinds
}

#[tokio::test]
async fn a_status_writes_the_rows_that_it_changes() {
    let mut world = World::new(4).await;
    world.push("1");
    world.settle().await;
    let (host, id) = (world.hosts[0].clone(), RolloutId::new("r-1").unwrap());
    for _ in 0..1000 {
        assert!(world.fleet.heartbeat(&host, 1, None));
    }
    assert_eq!(written(&mut world).await, [""; 0], "heartbeats change nothing");

    world.fleet.start("operator/ana", &World::order("1", false), "", "", id.clone(), None).unwrap();
    world.settle().await;
    let say = |world: &mut World, phase| {
        let rollout = &world.fleet.rollouts[&id].rollout;
        let (to, op) = (rollout.to.clone(), rollout.hosts.values().next().unwrap().op.clone());
        let status = world.status(&host, &id, op, &to, phase);
        world.fleet.now = world.fleet.now.after(Span(100));
        assert!(world.fleet.report(&host, 1, status.clone()).unwrap());
        status
    };
    say(&mut world, Phase::Staging);
    assert_eq!(written(&mut world).await, ["rollout-host", "status"]);
    let status = say(&mut world, Phase::Staging);
    assert_eq!(written(&mut world).await, [""; 0], "nothing is new but its number");
    for percent in 0..1000 {
        let detail = format!("{percent} of 1000 chunks");
        let status = AppStatus { seq: status.seq + percent, detail, ..status.clone() };
        assert!(world.fleet.report(&host, 1, status).unwrap());
    }
    assert_eq!(written(&mut world).await, [""; 0], "progress is told, not kept");
    world.seq += 1000;

    // All are staged: the first one may go, and that is the rollout's own.
    for host in world.hosts.clone() {
        let name = world.fleet.hosts[&host].record.name.clone();
        let rollout = &world.fleet.rollouts[&id].rollout;
        let (to, op) = (rollout.to.clone(), rollout.hosts[&name].op.clone());
        let status = world.status(&host, &id, op, &to, Phase::Staged);
        assert!(world.fleet.report(&host, 1, status).unwrap());
    }
    let kinds = written(&mut world).await;
    assert!(kinds.contains(&"rollout".to_owned()), "{kinds:?}");
    let rollout = &world.fleet.rollouts[&id].rollout;
    let went = rollout.hosts.values().position(|host| host.part == Part::Go);
    assert_eq!(went, Some(0));
    // A phase of one host is two rows, and none that names the others.
    for phase in [Phase::Switching, Phase::Starting] {
        say(&mut world, phase);
        assert_eq!(written(&mut world).await, ["rollout-host", "status"], "{phase:?}");
    }
    world.settle().await;
}

/// Whatever a host says, a status is a few kilobytes on disk.
#[tokio::test]
async fn a_status_is_a_small_row() {
    let mut world = World::new(1).await;
    let (host, release) = (world.hosts[0].clone(), world.push("1"));
    world.settle().await;
    let status = world.status(&host, &"r-1".parse().unwrap(), "op".parse().unwrap(), &release, Phase::Failed);
    let long = "x".repeat(100_000);
    let mut status = AppStatus { reason: long.clone(), detail: long.clone(), ..status };
    (status.attested.exe, status.attested.link) = (long.clone(), long.clone());
    status.held = (0..10_000_u32).map(|n| Digest::of(&n.to_le_bytes())).collect();
    let evidence = Evidence { kind: "log".into(), at: Timestamp(1), text: long };
    status.evidence = vec![evidence; 100];
    assert!(world.fleet.report(&host, 1, status).unwrap());
    let bytes: usize = world.fleet.take_changes().0.iter().map(Write::bytes).sum();
    assert!(bytes < 20_000, "{bytes} bytes");
}
