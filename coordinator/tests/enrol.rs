//! Join tokens and certificates over real sockets.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use std::time::{Duration, Instant};

use harness::Coordinator;
use harness::agent::{Identity, enrol, enrol_over, labels};
use tonic::Code;
use windlass_proto::rpc::agent_service_client::AgentServiceClient;
use windlass_proto::rpc::{self};
use windlass_proto::tls::{self, Key};

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_uses_of_one_token_exactly_one_wins() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..100 {
        let (address, join) = (coordinator.agent.clone(), join.clone());
        tries.spawn(
            async move { enrol(&address, &join, &format!("host-{n}"), &Key::generate().unwrap()).await },
        );
    }
    let mut won = 0;
    while let Some(tried) = tries.join_next().await {
        match tried.unwrap() {
            Ok(_) => won += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::Unauthenticated);
                assert!(status.message().contains("was used already"), "{status}");
            }
        }
    }
    assert_eq!(won, 1);
    let hosts = operator.fleet.list_hosts(rpc::ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    assert_eq!(hosts.len(), 1);
    let tokens = operator.fleet.list_tokens(rpc::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert_eq!((tokens[0].state.as_str(), &tokens[0].used_by), ("used", &hosts[0].name));
    assert!(tokens[0].join.is_empty(), "the secret is shown once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_serves_one_key_and_a_name_one_key() {
    let mut coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    let key = Key::generate().unwrap();
    let first = enrol(&coordinator.agent, &join, "web-1", &key).await.unwrap();
    coordinator.kill();
    coordinator.restart().await;
    // The answer was lost, the coordinator died: the same key asks again.
    let again = enrol(&coordinator.agent, &join, "web-1", &key).await.unwrap();
    assert_eq!(first.host_id, again.host_id);
    let mut operator = coordinator.operator().await;
    let other = enrol(&coordinator.agent, &operator.token().await, "web-1", &Key::generate().unwrap()).await;
    let other = other.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    assert!(other.message().contains("windlass host rm web-1"), "{other}");
    // Off for weeks: the enrolled key alone is proof.
    let channel =
        tls::connect(&coordinator.agent, tls::client_config(&first.ca_pem, None).unwrap()).await.unwrap();
    let back = rpc::EnrollRequest { name: "web-1".into(), ..Default::default() };
    assert_eq!(enrol_over(&channel, back.clone(), &key).await.unwrap().host_id, first.host_id);
    // Without a token a name that another host has is as unknown as one that nobody has.
    let stranger = Key::generate().unwrap();
    let mut told = Vec::new();
    for name in ["web-1", "web-2"] {
        let back = rpc::EnrollRequest { name: name.into(), ..back.clone() };
        let unknown = enrol_over(&channel, back, &stranger).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unauthenticated, "{unknown}");
        told.push(unknown.message().replace(name, "NAME"));
    }
    assert_eq!(told[0], told[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_refused_by_what_is_wrong() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let key = Key::generate().unwrap();
    let bound = rpc::CreateTokenRequest {
        host: "db-1".into(),
        labels: [("rack".to_owned(), "r1".to_owned())].into(),
        ttl_seconds: 3600,
    };
    let bound = operator.fleet.create_token(bound).await.unwrap().into_inner();
    let refusal = enrol(&coordinator.agent, &bound.join, "web-1", &key).await.unwrap_err();
    assert!(refusal.message().contains("is for host db-1"), "{refusal}");
    enrol(&coordinator.agent, &bound.join, "db-1", &key).await.unwrap();
    let host = rpc::HostRequest { host: "db-1".into(), ..Default::default() };
    let mut all = labels();
    all.insert("rack".into(), "r1".into());
    assert_eq!(operator.fleet.get_host(host).await.unwrap().into_inner().labels, all);

    let brief = rpc::CreateTokenRequest { ttl_seconds: 1, ..Default::default() };
    let brief = operator.fleet.create_token(brief).await.unwrap().into_inner().join;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1100) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let revoked = operator.fleet.create_token(rpc::CreateTokenRequest::default()).await.unwrap().into_inner();
    operator.fleet.revoke_token(rpc::RevokeTokenRequest { id: revoked.id.clone() }).await.unwrap();
    let pin = &revoked.join.rsplit('.').next().unwrap();
    let unknown = format!("wl1.00000000.{}.{pin}", "A".repeat(32));
    for (join, why) in
        [(brief, "has expired"), (revoked.join.clone(), "was revoked"), (unknown, "is not known here")]
    {
        let refusal = enrol(&coordinator.agent, &join, "web-9", &key).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated);
        assert!(refusal.message().contains(why), "{refusal}");
    }
    let long = rpc::CreateTokenRequest { ttl_seconds: 90_000, ..Default::default() };
    assert_eq!(operator.fleet.create_token(long).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_for_the_enrolled_key_only() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    let identity = Identity::new(&coordinator.agent, &join, "web-1").await;
    let mut client = AgentServiceClient::new(identity.channel(&coordinator.agent).await.unwrap());
    let key = Key::from_pem(&identity.own.key_pem).unwrap();
    let renewed =
        client.renew(rpc::RenewRequest { csr_pem: key.csr_pem().unwrap() }).await.unwrap().into_inner();
    assert_eq!(renewed.host_id, identity.host_id);
    let foreign = Key::generate().unwrap().csr_pem().unwrap();
    assert_eq!(
        client.renew(rpc::RenewRequest { csr_pem: foreign }).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let mut greet = async |protocol_oldest, protocol| {
        let hello =
            rpc::Hello { protocol_oldest, protocol, agent_version: "9.9".into(), ..Default::default() };
        let hello = rpc::AgentMessage { kind: Some(rpc::agent_message::Kind::Hello(hello)) };
        client.session(tokio_stream::iter([hello])).await
    };
    // A newer agent that still speaks what this coordinator does is led; one that does not is refused, with who is too old.
    let mut session = greet(1, 99).await.unwrap().into_inner();
    let Some(rpc::coordinator_message::Kind::Welcome(welcome)) =
        session.message().await.unwrap().unwrap().kind
    else {
        panic!("no welcome")
    };
    assert_eq!(welcome.protocol, 1);
    let refusal = greet(98, 99).await.unwrap_err();
    let expected = format!(
        "agent 9.9 speaks protocol 98 to 99, this coordinator {} speaks 1; install a newer coordinator",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!((refusal.code(), refusal.message()), (Code::Unimplemented, expected.as_str()));
    assert_eq!(greet(3, 2).await.unwrap_err().code(), Code::InvalidArgument);
}
