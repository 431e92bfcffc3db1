//! The main job over real sockets: enrol, push, roll out, fail, go back, survive.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use std::time::Duration;

use harness::{Coordinator, fleet, spec, until};
use tonic::Code;
use windlass_proto::rpc::{self, Outcome, Phase};

fn outcomes(rollout: &rpc::Rollout) -> Vec<Outcome> {
    rollout.hosts.iter().map(rpc::HostProgress::outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_rolled_out_fails_and_goes_back() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let agents = fleet(&coordinator, &mut operator, 5).await;
    operator.push("shop", "1.0", b"one").await;
    operator.push("shop", "1.1", b"two").await;
    operator.push("shop", "1.2", b"three").await;

    let first = operator.start("shop", "1.0", &spec(2)).await.unwrap();
    let first = operator.ended(&first.id).await;
    assert_eq!(first.state, "Succeeded", "{first:?}");
    assert_eq!(first.started_by, "operator/ana");
    assert_eq!(outcomes(&first), vec![Outcome::Confirmed; 5]);
    assert!(agents.iter().all(|agent| agent.current("shop").as_deref() == Some("1.0")));

    let second = operator.start("shop", "1.1", &spec(2)).await.unwrap();
    let second = operator.ended(&second.id).await;
    assert_eq!((second.state.as_str(), second.revision), ("Succeeded", 2));

    for agent in &agents {
        agent.breaks_on("1.2");
    }
    let third = operator.start("shop", "1.2", &spec(2)).await.unwrap();
    let third = operator.ended(&third.id).await;
    assert!(matches!(third.state.as_str(), "Failed" | "RolledBack"), "{third:?}");
    assert!(third.failure.contains("readiness failed"), "{}", third.failure);
    assert!(agents.iter().all(|agent| agent.current("shop").as_deref() == Some("1.1")));
    assert!(third.hosts.iter().filter(|host| host.outcome() == Outcome::Reverted).count() <= 2);

    let failed = third.hosts.iter().find(|host| host.outcome() == Outcome::Reverted).unwrap();
    for subject in [&third.id, &failed.host] {
        let why = operator
            .fleet
            .why(rpc::WhyRequest { subject: subject.clone(), ..Default::default() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!((why.rollout.as_str(), why.fault()), (third.id.as_str(), rpc::Fault::App));
        assert!(why.cause.contains("readiness failed"), "{why:?}");
        assert_eq!(why.evidence[0].text, "panic: bad configuration");
    }

    let order = rpc::OrderRequest { app: "shop".into(), rollback: true, ..Default::default() };
    // After a failure it asks, in the plan and in the order alike.
    let asked = operator.rollouts.start(order.clone()).await.unwrap_err();
    assert_eq!(rpc::ErrorKind::of(&asked), rpc::ErrorKind::WrongState);
    for part in ["1.1 (all 5 hosts run it)", "1.0 (no host runs it)", "windlass rollback shop --to 1.0"] {
        assert!(asked.message().contains(part), "{asked}");
    }
    let planned = operator.rollouts.plan(order.clone()).await.unwrap().into_inner();
    let candidates = planned.candidates.iter().map(|one| one.release.clone().unwrap().version);
    assert_eq!(candidates.collect::<Vec<_>>(), ["1.1", "1.0"]);
    assert_eq!((planned.checks[0].id.as_str(), planned.batches.len()), ("undecided", 0));
    let named = rpc::OrderRequest { target: "1.0".into(), ..order.clone() };
    let back = operator.rollouts.start(named).await.unwrap().into_inner();
    assert_eq!((back.to.as_ref().unwrap().version.as_str(), back.kind.as_str()), ("1.0", "rollback"));
    let back = operator.ended(&back.id).await;
    assert_eq!(back.state, "Succeeded", "{back:?}");
    assert!(agents.iter().all(|agent| agent.current("shop").as_deref() == Some("1.0")));
    let none = operator.rollouts.start(order).await.unwrap_err();
    assert!(none.message().contains("the only stable release is 1.0"), "{none}");

    let versions = operator
        .fleet
        .versions(rpc::VersionsRequest { app: "shop".into(), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(versions.rows.len(), 5);
    let events = rpc::EventsRequest { rollout: first.id.clone(), ..Default::default() };
    let mut events = operator.fleet.events(events).await.unwrap().into_inner();
    let mut kinds = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        assert_eq!(event.rollout, first.id);
        kinds.push(event.kind);
    }
    assert!(kinds.len() > 5 && kinds[0].starts_with("rollout."), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_digest_is_offered_to_nobody() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let agents = fleet(&coordinator, &mut operator, 4).await;
    operator.push("shop", "1.0", b"one").await;
    operator.push("shop", "1.1", b"two").await;
    let first = operator.start("shop", "1.0", &spec(2)).await.unwrap();
    operator.ended(&first.id).await;
    for agent in &agents {
        agent.breaks_on("1.1");
    }
    let failed = operator.start("shop", "1.1", &spec(2)).await.unwrap();
    let failed = operator.ended(&failed.id).await;
    let reverted = failed.hosts.iter().filter(|host| host.outcome() == Outcome::Reverted).count();
    if reverted < 2 {
        let again = operator.start("shop", "1.1", &spec(2)).await.unwrap();
        operator.ended(&again.id).await;
    }
    let refused = operator.start("shop", "1.1", &spec(2)).await.unwrap_err();
    assert_eq!(rpc::ErrorKind::of(&refused), rpc::ErrorKind::Poisoned, "{refused}");
    assert!(refused.message().contains("windlass app parole shop 1.1 --reason"), "{refused}");
    // No order sets the threshold higher than the one under which it failed.
    let mut lenient: serde_json::Value = serde_json::from_str(&spec(2)).unwrap();
    lenient["failure"]["poison_after"] = 99.into();
    let refused = operator.start("shop", "1.1", &lenient.to_string()).await.unwrap_err();
    assert_eq!(rpc::ErrorKind::of(&refused), rpc::ErrorKind::Poisoned, "{refused}");

    // A named operator lets it be tried once more.
    let parole = |release: &str, reason: &str| rpc::ParoleRequest {
        app: "shop".into(),
        release: release.into(),
        reason: reason.into(),
    };
    let nameless = operator.fleet.parole(parole("1.1", " ")).await.unwrap_err();
    assert_eq!(nameless.code(), Code::InvalidArgument, "{nameless}");
    let sound = operator.fleet.parole(parole("1.0", "why not")).await.unwrap_err();
    assert!(sound.message().contains("needs no parole"), "{sound}");
    let unknown = operator.fleet.parole(parole("9.9", "why not")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    let paroled = operator.fleet.parole(parole("1.1", "the disks were full")).await.unwrap().into_inner();
    assert_eq!(paroled.release.unwrap().version, "1.1");
    assert!(paroled.failed_on.len() >= 2, "{:?}", paroled.failed_on);
    let request = rpc::EventsRequest { app: "shop".into(), ..Default::default() };
    let mut events = operator.fleet.events(request).await.unwrap().into_inner();
    let mut said = None;
    while let Some(event) = events.message().await.unwrap() {
        said = Some(event).filter(|event| event.kind == "release.paroled").or(said);
    }
    let said = said.unwrap();
    assert!(said.who == "operator/ana" && said.message.contains("the disks were full"), "{said:?}");
    let request = rpc::AuditRequest { last: 1, ..Default::default() };
    let mut audit = operator.fleet.audit(request).await.unwrap().into_inner();
    let record = audit.message().await.unwrap().unwrap();
    assert!(format!("{record:?}").contains("FleetService/Parole"), "{record:?}");

    let once = operator.start("shop", "1.1", &spec(2)).await.unwrap();
    operator.ended(&once.id).await;
    let refused = operator.start("shop", "1.1", &spec(2)).await.unwrap_err();
    assert_eq!(rpc::ErrorKind::of(&refused), rpc::ErrorKind::Poisoned, "good for one try: {refused}");
    // Tried once more and well, it is poisoned no longer.
    for agent in &agents {
        agent.is_mended();
    }
    operator.fleet.parole(parole("1.1", "mended")).await.unwrap();
    let well = operator.start("shop", "1.1", &spec(2)).await.unwrap();
    assert_eq!(operator.ended(&well.id).await.state, "Succeeded");
    let sound = operator.fleet.parole(parole("1.1", "why not")).await.unwrap_err();
    assert!(sound.message().contains("needs no parole"), "{sound}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_app_has_one_rollout_and_one_key_one_start() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let agents = fleet(&coordinator, &mut operator, 2).await;
    for agent in &agents {
        agent.sticks_in(&[Phase::Staging]);
    }
    operator.push("shop", "1.0", b"one").await;
    let order = rpc::OrderRequest {
        app: "shop".into(),
        target: "1.0".into(),
        spec_json: spec(1),
        idempotency_key: "key".into(),
        ..Default::default()
    };
    let first = operator.rollouts.start(order.clone()).await.unwrap().into_inner();
    let again = operator.rollouts.start(order.clone()).await.unwrap().into_inner();
    assert_eq!(first.id, again.id);
    let busy = operator.start("shop", "1.0", &spec(1)).await.unwrap_err();
    assert_eq!(busy.code(), Code::Aborted, "{busy}");
    assert!(busy.message().contains(&first.id) && busy.message().contains("operator/ana"), "{busy}");

    let paused = rpc::RolloutRequest { id: first.id.clone(), reason: "wait".into() };
    let paused = operator.rollouts.pause(paused).await.unwrap().into_inner();
    assert!(paused.conditions.contains(&"Manual".to_owned()), "{paused:?}");
    let abort = rpc::RolloutRequest { id: first.id.clone(), reason: "changed my mind".into() };
    operator.rollouts.abort(abort).await.unwrap();
    let ended = operator.ended(&first.id).await;
    assert!(ended.state == "Cancelled" || ended.state == "RolledBack", "{ended:?}");

    let wrong = rpc::OrderRequest { expect_revision: 9, idempotency_key: String::new(), ..order };
    let moved = operator.rollouts.start(wrong).await.unwrap_err();
    assert_eq!(rpc::ErrorKind::of(&moved), rpc::ErrorKind::StateMoved, "{moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_are_named_with_near_ones() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let _agents = fleet(&coordinator, &mut operator, 1).await;
    let digest = operator.push("shop", "1.0", b"one").await;
    let asked = [
        operator.fleet.get_host(rpc::HostRequest { host: "hots-1".into(), ..Default::default() }).await.err(),
        operator
            .fleet
            .versions(rpc::VersionsRequest { app: "shpo".into(), ..Default::default() })
            .await
            .err(),
        operator.start("shop", "1.00", &spec(1)).await.err(),
        operator.start("shpo", "1.0", &spec(1)).await.err(),
        operator.rollout("r-00000000").await.err(),
    ];
    let near = ["host-1", "shop", "1.0", "shop", ""];
    for (status, near) in asked.into_iter().zip(near) {
        let status = status.unwrap();
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(near.is_empty() || status.message().contains(&format!("did you mean {near}")), "{status}");
    }
    let by_prefix = rpc::GetBundleRequest { digest: digest.short(), ..Default::default() };
    let found = operator.bundles.get_bundle(by_prefix).await.unwrap().into_inner();
    assert_eq!(found.release.unwrap().digest, digest.to_string());
    let bad = operator.start("shop", "1.0", r#"{"targets":{"selector":""}}"#).await.unwrap_err();
    assert!(matches!(bad.code(), Code::InvalidArgument | Code::FailedPrecondition), "{bad}");
    let bad = operator.start("shop", "1.0", "{nonsense").await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument, "{bad}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_labelled_cordoned_and_removed() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let mut agents = fleet(&coordinator, &mut operator, 2).await;
    let host = || "host-1".to_owned();
    let set = [("zone".to_owned(), "eu-1".to_owned())].into();
    let label = rpc::LabelHostRequest { host: host(), set, remove: vec!["role".into()] };
    let labelled = operator.fleet.label_host(label).await.unwrap().into_inner();
    assert_eq!(labelled.labels, [("zone".to_owned(), "eu-1".to_owned())].into());
    let set = [("zo ne".to_owned(), "x".to_owned())].into();
    let bad = operator.fleet.label_host(rpc::LabelHostRequest { host: host(), set, remove: vec![] }).await;
    assert_eq!(bad.unwrap_err().code(), Code::InvalidArgument);
    let by_label = rpc::ListHostsRequest { selector: "zone in (eu-1,eu-2)".into() };
    assert_eq!(operator.fleet.list_hosts(by_label).await.unwrap().into_inner().hosts.len(), 1);

    let request = || rpc::HostRequest { host: host(), reason: "disk".into(), force: false };
    assert_eq!(operator.fleet.cordon_host(request()).await.unwrap().into_inner().state, "cordoned");
    assert_eq!(operator.fleet.uncordon_host(request()).await.unwrap().into_inner().state, "ready");
    let release = |app: &str| rpc::ReleaseHostRequest { host: host(), app: app.into(), ..Default::default() };
    let released = operator.fleet.release_host(release("")).await.unwrap().into_inner();
    assert!(released.apps.is_empty(), "nothing is quarantined: {released:?}");
    assert_eq!(operator.fleet.release_host(release("blog")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(operator.fleet.remove_host(request()).await.unwrap_err().code(), Code::FailedPrecondition);
    let identity = agents[0].identity.clone();
    drop(agents.remove(0));
    until("the host can be removed", async || operator.fleet.remove_host(request()).await.ok()).await;
    let channel = identity.channel(&coordinator.agent).await.unwrap();
    let mut client = rpc::agent_service_client::AgentServiceClient::new(channel);
    let fetch = rpc::FetchEnvelopeRequest {
        digest: windlass_proto::digest::Digest::from_bytes([1; 32]).to_string(),
        ..Default::default()
    };
    assert_eq!(client.fetch_envelope(fetch).await.unwrap_err().code(), Code::PermissionDenied);
}

/// Killed at many moments; each rollout is finished by whoever comes next, and no host is confirmed twice.
#[tokio::test(flavor = "multi_thread")]
async fn sigkill_at_any_moment_and_go_on() {
    let mut coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let agents = fleet(&coordinator, &mut operator, 4).await;
    for round in 1..=6_u64 {
        let version = format!("1.{round}");
        operator.push("shop", &version, version.as_bytes()).await;
        let rollout = operator.start("shop", &version, &spec(2)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(round * round * 7)).await;
        coordinator.kill();
        coordinator.restart().await;
        operator = coordinator.operator().await;
        let ended = operator.ended(&rollout.id).await;
        assert_eq!(ended.state, "Succeeded", "round {round}: {ended:?}");
        for agent in &agents {
            assert_eq!(agent.current("shop").as_deref(), Some(version.as_str()));
            assert_eq!(agent.confirms(), round, "{}", agent.name);
        }
    }
    let info = operator.fleet.info(rpc::InfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.epoch, info.caller.as_str()), (7, "operator/ana"));
    assert_eq!(coordinator.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_a_host_refuses_is_its_failure_at_once_and_why_says_it() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let agents = fleet(&coordinator, &mut operator, 2).await;
    operator.push("shop", "1.0", b"one").await;
    let reason = "agent 0.0.1 does not understand the order: unknown field `x`";
    agents[1].refuses(rpc::Fault::Agent, reason);
    let begun = std::time::Instant::now();
    let rollout = operator.start("shop", "1.0", &spec(2)).await.unwrap();
    let rollout = operator.ended(&rollout.id).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "no deadline was waited for");
    assert_eq!(rollout.state, "Failed", "{rollout:?}");
    let host = rollout.hosts.iter().find(|host| host.host == agents[1].name).unwrap();
    assert_eq!((host.outcome(), host.fault()), (Outcome::Failed, rpc::Fault::Agent));
    for subject in [&rollout.id, &agents[1].name] {
        let why = operator
            .fleet
            .why(rpc::WhyRequest { subject: subject.clone(), ..Default::default() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!((why.fault(), why.cause.as_str()), (rpc::Fault::Agent, &*format!("refused: {reason}")));
    }
}
