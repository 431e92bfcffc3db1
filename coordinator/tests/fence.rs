//! What a coordinator makes of what a host shows: a lying one, one that was led by another, and the way back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::agent::Identity;
use harness::{Coordinator, Operator, fleet, spec, until};
use tonic::Status;
use windlass_proto::fence::{Fence, LeaderId, Obeyed, Offer, SignedFence};
use windlass_proto::rpc::agent_service_client::AgentServiceClient;
use windlass_proto::rpc::{self, agent_message, coordinator_message};
use windlass_proto::tls::Ca;

/// Greets as a host that has obeyed this, and gives back what the coordinator shows.
async fn greet(
    coordinator: &Coordinator,
    host: &Identity,
    obeyed: Option<&Obeyed>,
    highest_epoch: u64,
) -> Result<Offer, Status> {
    let hello = rpc::Hello {
        agent_version: "0.1.0".into(),
        protocol: windlass_proto::version::Protocols::OURS.newest(),
        address: "127.0.1.1".into(),
        highest_epoch,
        obeyed: obeyed.map(Into::into),
        ..Default::default()
    };
    let hello = rpc::AgentMessage { kind: Some(agent_message::Kind::Hello(hello)) };
    let channel = until("a channel", async || host.channel(&coordinator.agent).await).await;
    let mut down = AgentServiceClient::new(channel).session(tokio_stream::iter([hello])).await?.into_inner();
    let Some(rpc::CoordinatorMessage { kind: Some(coordinator_message::Kind::Welcome(welcome)) }) =
        down.message().await?
    else {
        panic!("no welcome");
    };
    Ok(Offer::from_welcome(&welcome).unwrap().unwrap())
}

fn obeyed(epoch: u64, leader: u8, signature: Vec<u8>) -> Obeyed {
    let fence = Fence { epoch, leader: LeaderId([leader; 16]) };
    Obeyed { signed: SignedFence { fence, signature }, mark: 1 }
}

async fn host(operator: &mut Operator, name: &str) -> rpc::Host {
    let request = rpc::HostRequest { host: name.into(), ..Default::default() };
    operator.fleet.get_host(request).await.unwrap().into_inner()
}

fn ca(coordinator: &Coordinator) -> Ca {
    let read = |file: &str| std::fs::read_to_string(coordinator.state().join("pki").join(file)).unwrap();
    Ca::load(&read("agents.pem"), &read("agents.key")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_host_keeps_itself_out_and_deposes_nobody() {
    let mut coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let agents = fleet(&coordinator, &mut operator, 2).await;
    let join = operator.token().await;
    let liar = Identity::new(&coordinator.agent, &join, "liar").await;
    let other = Ca::generate("agents", "test").unwrap();
    let foreign = other.sign_fence(Fence { epoch: 50, leader: LeaderId([5; 16]) }).unwrap();
    let lies = [
        (Some(obeyed(u64::MAX, 9, vec![])), u64::MAX),
        (Some(obeyed(1, 9, vec![1; 70])), 1),
        (Some(obeyed(50, 5, foreign.signature)), 50),
        (None, 99),
    ];
    for (lie, highest) in &lies {
        let refused = greet(&coordinator, &liar, lie.as_ref(), *highest).await.unwrap_err();
        assert!(refused.message().contains("host liar is not led: it has obeyed epoch"), "{refused}");
        let shown = host(&mut operator, "liar").await;
        assert_eq!(shown.state, "foreign", "{lie:?}");
        assert!(!shown.foreign.is_empty());
    }
    let refused = greet(&coordinator, &liar, Some(&obeyed(1, 1, vec![0; 300])), 1).await.unwrap_err();
    assert!(refused.message().contains("hello.obeyed.signature"), "{refused}");

    // The others are led as before; what would be ordered for the liar, too, is not begun.
    let digest = operator.push("shop", "1.0", b"one").await;
    let refused = operator.start("shop", &digest.to_string(), &spec(1)).await.unwrap_err();
    assert!(refused.message().contains("liar: obeys another coordinator"), "{refused}");
    let cordon = rpc::HostRequest { host: "liar".into(), ..Default::default() };
    operator.fleet.cordon_host(cordon).await.unwrap();
    let rollout = operator.start("shop", &digest.to_string(), &spec(1)).await.unwrap();
    assert_eq!(operator.ended(&rollout.id).await.state, "Succeeded");
    assert_eq!(agents[0].current("shop").as_deref(), Some("1.0"));

    // A host that says nothing untrue any more is led again, also after a start.
    coordinator.kill();
    coordinator.restart().await;
    let mut operator = coordinator.operator().await;
    let offer = greet(&coordinator, &liar, None, 0).await.unwrap();
    assert!(ca(&coordinator).has_signed(&offer.signed));
    assert_eq!(host(&mut operator, "liar").await.foreign, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_leaders_signature_deposes_for_good_and_a_restore_leads_above_it() {
    let mut coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    let web = Identity::new(&coordinator.agent, &join, "web-1").await;
    let ca = ca(&coordinator);
    let first = greet(&coordinator, &web, None, 0).await.unwrap();
    let sign = |epoch, leader| {
        let signed = ca.sign_fence(Fence { epoch, leader: LeaderId([leader; 16]) }).unwrap();
        Obeyed { signed, mark: 3 }
    };
    // A lower one deposes nobody; this one leads on and says so.
    coordinator.kill();
    coordinator.restart().await;
    let lower = sign(first.signed.fence.epoch, 8);
    let refused = greet(&coordinator, &web, Some(&lower), 1).await.unwrap_err();
    assert!(refused.message().contains("not led"), "{refused}");
    greet(&coordinator, &web, None, 0).await.unwrap();

    let higher = sign(7, 9);
    let refused = greet(&coordinator, &web, Some(&higher), 7).await.unwrap_err();
    assert!(refused.message().contains("deposed"), "{refused}");
    assert_eq!(coordinator.ended().await, Some(2));
    for _ in 0..2 {
        assert_eq!(coordinator.start_in_vain().await, Some(2));
    }

    coordinator.restart_with(&["--after-restore"]).await;
    let offer = greet(&coordinator, &web, Some(&higher), 7).await.unwrap();
    assert!(offer.signed.fence.epoch > 1000, "{offer:?}");
    assert_eq!(offer.follows, Some(higher.led()));
    // Another one that came further than was known is led above, by this very process.
    let further = sign(5000, 4);
    let above =
        until("it leads above", async || greet(&coordinator, &web, Some(&further), 5000).await.ok()).await;
    assert!(above.signed.fence.epoch > 6000, "{above:?}");
    assert_eq!(above.follows, Some(further.led()));
    // But nobody follows it to the end of the numbers.
    let end = sign(u64::MAX, 4);
    greet(&coordinator, &web, Some(&end), u64::MAX).await.unwrap_err();

    // Hosts of that time may return after an ordinary start.
    coordinator.kill();
    coordinator.restart().await;
    let late = sign(4000, 6);
    let offer = greet(&coordinator, &web, Some(&late), 4000).await.unwrap();
    assert_eq!(offer.signed.fence.epoch, above.signed.fence.epoch + 1);
    assert_eq!(offer.follows, Some(late.led()));
}
