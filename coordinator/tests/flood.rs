//! A host whose key somebody has stolen says as much as it can.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use std::time::{Duration, Instant};

use harness::Coordinator;
use harness::agent::Identity;
use windlass_proto::rpc::agent_service_client::AgentServiceClient;
use windlass_proto::rpc::{self, Phase, agent_message};

/// The number of the newest status that the coordinator has of the host.
async fn heard(operator: &mut harness::Operator) -> u64 {
    let request = rpc::HostRequest { host: "web-1".into(), ..Default::default() };
    let host = operator.fleet.get_host(request).await.unwrap().into_inner();
    host.apps.first().map_or(0, |status| status.seq)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_statuses_is_read_at_the_coordinators_pace() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    let identity = Identity::new(&coordinator.agent, &join, "web-1").await;
    let mut client = AgentServiceClient::new(identity.channel(&coordinator.agent).await.unwrap());
    let hello =
        rpc::Hello { protocol: windlass_proto::version::Protocols::OURS.newest(), ..Default::default() };
    // Each differs from the one before, so that each is written down.
    let statuses = (1..=5000).map(|seq| {
        let mut status = rpc::AppStatus { app: "shop".into(), seq, ..Default::default() };
        status.set_phase(if seq % 2 == 0 { Phase::Idle } else { Phase::Confirmed });
        agent_message::Kind::Status(status)
    });
    let said = std::iter::once(agent_message::Kind::Hello(hello)).chain(statuses);
    let said = said.map(|kind| rpc::AgentMessage { kind: Some(kind) });
    let begun = Instant::now();
    let _session = client.session(tokio_stream::iter(said)).await.unwrap();
    loop {
        let newest = heard(&mut operator).await;
        let most = 200 + begun.elapsed().as_millis() as u64 / 50 + 2;
        assert!(newest <= most, "{newest} statuses within {:?}", begun.elapsed());
        if newest > 220 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "only {newest} were read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The burst is the host's, not the session's.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_dials_again_gets_no_new_burst() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    let identity = Identity::new(&coordinator.agent, &join, "web-1").await;
    let channel = identity.channel(&coordinator.agent).await.unwrap();
    let hello = |apps| {
        let hello = rpc::Hello {
            protocol: windlass_proto::version::Protocols::OURS.newest(),
            apps,
            ..Default::default()
        };
        rpc::AgentMessage { kind: Some(agent_message::Kind::Hello(hello)) }
    };
    let status = |app: &str, seq: u64| {
        let mut status = rpc::AppStatus { app: app.into(), seq, ..Default::default() };
        status.set_phase(if seq.is_multiple_of(2) { Phase::Idle } else { Phase::Confirmed });
        status
    };
    let begun = Instant::now();
    let (mut heard_before, mut refused, mut round) = (0, 0, 1);
    // Each greeting and each status is new, so each counts, whatever they come in.
    for _ in 0..20 {
        let greeting = hello((0..30).map(|n| status(&format!("app-{n}"), round)).collect());
        let statuses = (1..=50).map(|n| rpc::AgentMessage {
            kind: Some(agent_message::Kind::Status(status("shop", round * 1000 + n))),
        });
        let said: Vec<_> = std::iter::once(greeting).chain(statuses).collect();
        match AgentServiceClient::new(channel.clone()).session(tokio_stream::iter(said)).await {
            Ok(session) => {
                let mut session = session.into_inner();
                // To its end: all that it said has been heard, or another session has taken its place.
                let all = async { while let Ok(Some(_)) = session.message().await {} };
                let _ = tokio::time::timeout(Duration::from_secs(30), all).await;
                heard_before += 81;
                round += 1;
            }
            Err(status) => {
                assert!(status.message().contains("dial again in "), "{status}");
                refused += 1;
            }
        }
        let most = 200 + 31 + begun.elapsed().as_millis() as u64 / 50;
        assert!(heard_before <= most, "{heard_before} things were heard within {:?}", begun.elapsed());
        if begun.elapsed() > Duration::from_secs(20) {
            break;
        }
    }
    assert!(heard_before > 0 && refused > 0, "{heard_before} heard, {refused} refused");
    // Others are not touched.
    let join = operator.token().await;
    let other = Identity::new(&coordinator.agent, &join, "web-2").await;
    let channel = other.channel(&coordinator.agent).await.unwrap();
    AgentServiceClient::new(channel).session(tokio_stream::iter([hello(vec![])])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_removed_by_force_loses_its_session_and_gets_no_other() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    let identity = Identity::new(&coordinator.agent, &join, "web-1").await;
    let channel = identity.channel(&coordinator.agent).await.unwrap();
    let hello = || {
        let hello =
            rpc::Hello { protocol: windlass_proto::version::Protocols::OURS.newest(), ..Default::default() };
        rpc::AgentMessage { kind: Some(agent_message::Kind::Hello(hello)) }
    };
    let (up, said) = tokio::sync::mpsc::channel(1);
    up.send(hello()).await.unwrap();
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut session = AgentServiceClient::new(channel.clone()).session(said).await.unwrap().into_inner();
    assert!(session.message().await.unwrap().is_some(), "it is welcome");

    let remove = |force| rpc::HostRequest { host: "web-1".into(), force, ..Default::default() };
    let refused = operator.fleet.remove_host(remove(false)).await.unwrap_err();
    assert!(refused.message().contains("windlass host rm web-1 --force"), "{refused}");
    operator.fleet.remove_host(remove(true)).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(10), session.message()).await.unwrap();
    assert!(closed.is_err() || closed.unwrap().is_none(), "the session goes on");
    let again = AgentServiceClient::new(channel).session(tokio_stream::iter([hello()])).await.unwrap_err();
    assert_eq!(again.code(), tonic::Code::PermissionDenied, "{again}");
    let hosts = operator.fleet.list_hosts(rpc::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    assert_eq!(hosts, []);
}
