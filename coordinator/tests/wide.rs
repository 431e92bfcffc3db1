//! More hosts than one transaction holds rows: the rollout is whole again after the coordinator was killed in it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use harness::agent::Agent;
use harness::{Coordinator, spec, until};
use windlass_proto::rpc;

const HOSTS: usize = 150;

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_150_hosts() {
    let mut coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let mut agents = Vec::new();
    for n in 1..=HOSTS {
        let join = operator.token().await;
        agents.push(Agent::start(&coordinator.agent, &join, &format!("host-{n}")).await);
    }
    until("all sessions", async || {
        let info = operator.fleet.info(rpc::InfoRequest {}).await.unwrap().into_inner();
        (info.sessions as usize == HOSTS).then_some(())
    })
    .await;
    for (version, parallel) in [("1.0", 75), ("1.1", 10)] {
        operator.push("shop", version, version.as_bytes()).await;
        let rollout = operator.start("shop", version, &spec(parallel)).await.unwrap();
        coordinator.kill();
        coordinator.restart().await;
        operator = coordinator.operator().await;
        let ended = operator.ended(&rollout.id).await;
        assert_eq!((ended.state.as_str(), ended.hosts.len()), ("Succeeded", HOSTS), "{}", ended.failure);
        assert!(agents.iter().all(|agent| agent.current("shop").as_deref() == Some(version)));
    }
    assert!(agents.iter().all(|agent| agent.confirms() == 2));
}
