//! Whoever changes something leaves one record, in a chain that survives the coordinator.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use std::collections::BTreeMap;

use harness::{Coordinator, Operator, bundle, fleet, spec};
use windlass_coordinator::rpc::auth::{Does, Role, TABLE};
use windlass_proto::digest::Digest;
use windlass_proto::rpc::audit::{HEAD_HEADER, Head};
use windlass_proto::rpc::{self, AuditRecord, AuditRequest};

/// All records of calls, of a whole chain.
async fn whole(operator: &mut Operator) -> Vec<AuditRecord> {
    let mut records = chain(operator).await;
    records.retain(|record| record.method != "issue-operator");
    records
}

/// All records, which are a whole chain.
async fn chain(operator: &mut Operator) -> Vec<AuditRecord> {
    let mut stream = operator.fleet.audit(AuditRequest::default()).await.unwrap().into_inner();
    let (mut records, mut head) = (Vec::new(), Head::default());
    while let Some(record) = stream.message().await.unwrap() {
        head.follow(&record).unwrap();
        records.push(record);
    }
    records
}

/// Method, subject and outcome of each record.
fn told(records: &[AuditRecord]) -> Vec<(&str, &str, &str)> {
    records.iter().map(|r| (r.method.as_str(), r.about.as_str(), r.outcome.as_str())).collect()
}

fn host(host: &str) -> rpc::HostRequest {
    rpc::HostRequest { host: host.into(), reason: "why not".into(), force: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_for_what_and_what_came_of_it() {
    let mut coordinator = Coordinator::start().await;
    let mut ana = coordinator.operator().await;
    coordinator.issue("ben").await;
    let mut ben = Operator::new(coordinator.channel("ben").await);
    let _agents = fleet(&coordinator, &mut ana, 1).await;
    let labels = BTreeMap::from([("rack".to_owned(), "r1".to_owned())]);
    let label = rpc::LabelHostRequest { host: "host-1".into(), set: labels, remove: vec![] };
    ana.fleet.label_host(label.clone()).await.unwrap();
    let made = bundle("shop", "1.0", b"one");
    ana.push_bundle(&made).await.unwrap();
    let started =
        ben.start("shop", &made.digest.to_string(), &spec(1).replace(r#":"0s""#, r#":"25s""#)).await.unwrap();
    let abort = rpc::RolloutRequest { id: started.id.clone(), reason: String::new() };
    ben.rollouts.abort(abort).await.unwrap();
    let again = ana.fleet.uncordon_host(host("host-2")).await.unwrap_err();

    let records = whole(&mut ana).await;
    let (token, release) = (format!("token {}", &records[0].about[6..]), records[3].about.clone());
    assert!(release.starts_with("shop 1.0"), "{release}");
    let rollout = format!("rollout {}", started.id);
    assert_eq!(
        told(&records),
        [
            ("FleetService/CreateToken", token.as_str(), "done"),
            ("AgentService/Enroll", "host host-1", "done"),
            ("FleetService/LabelHost", "host host-1", "done"),
            ("BundleService/PutBundle", &release, "done"),
            ("RolloutService/Start", "app shop", "done"),
            ("RolloutService/Abort", &rollout, "done"),
            ("FleetService/UncordonHost", "host host-2", again.message()),
        ]
    );
    let who: Vec<&str> = records.iter().map(|record| record.who.as_str()).collect();
    let (a, b) = ("operator/ana", "operator/ben");
    assert_eq!(who, [a, "anonymous", a, a, b, b, a]);
    // One certificate each, and the request as it was sent.
    assert!(records[0].certificate.len() >= 16 && records[1].certificate.is_empty());
    assert_eq!(records[0].certificate, records[6].certificate);
    assert_ne!(records[0].certificate, records[4].certificate);
    let request = Digest::of(&prost::Message::encode_to_vec(&label));
    assert_eq!(records[2].request, request.as_bytes());
    assert_eq!(records[3].request, Digest::of(&made.envelope).as_bytes());
    assert!(records.iter().all(|record| record.address.starts_with("127.0.0.1:")));

    // What was answered is on disk.
    coordinator.kill();
    coordinator.restart().await;
    let mut ana = coordinator.operator().await;
    assert_eq!(whole(&mut ana).await, records);
    ana.token().await;
    let more = whole(&mut ana).await;
    assert_eq!((more.len(), &more[..7]), (8, &records[..]));
    let last = AuditRequest { last: 3, ..AuditRequest::default() };
    let mut stream = ana.fleet.audit(last).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap(), more[5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_that_changes_something_leaves_one_record() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let channel = coordinator.channel("ana").await;
    let mut expected = Vec::new();
    for (method, roles, does) in TABLE {
        if !roles.contains(&Role::Operator) || method.starts_with("/grpc.") {
            continue;
        }
        // Of an empty request something else is wrong each time; that it was asked is on record.
        let _ = harness::call(channel.clone(), method).await;
        if *does == Does::Acts {
            expected.push(method.trim_start_matches("/windlass.v1.").to_owned());
        }
        let records = whole(&mut operator).await;
        let seen: Vec<&String> = records.iter().map(|record| &record.method).collect();
        assert_eq!(seen, expected.iter().collect::<Vec<_>>(), "after {method}");
    }
    assert!(expected.len() > 10, "{expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_issued_beside_the_coordinator_is_on_record_once() {
    let mut coordinator = Coordinator::start().await;
    let mut ana = coordinator.operator().await;
    let issued = async |ana: &mut Operator| {
        let mut records = chain(ana).await;
        records.retain(|record| record.method == "issue-operator");
        records
    };
    let first = issued(&mut ana).await;
    let ana_s = |record: &AuditRecord| record.about.starts_with("operator ana, certificate ");
    assert!(first.len() == 1 && ana_s(&first[0]), "{first:?}");
    assert!(first[0].who.starts_with("local/"), "{first:?}");
    // The certificate is the one that she calls with.
    ana.token().await;
    let serial = chain(&mut ana).await.last().unwrap().certificate.clone();
    assert!(first[0].about.contains(&serial), "{first:?}");

    // While it is off, it waits; what nobody understands stays, and holds nothing up.
    coordinator.kill();
    let (state, out) = (coordinator.state(), coordinator.dir.path().join("ben"));
    let word = |name: &str| state.join("issued").join(name);
    std::process::Command::new(harness::binary())
        .args(["issue-operator", "--name", "ben", "--state-dir"])
        .arg(&state)
        .arg("--out")
        .arg(&out)
        .status()
        .unwrap();
    std::fs::write(word("0bad.json"), b"{").unwrap();
    let waits = || {
        let entries = std::fs::read_dir(state.join("issued")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| !path.ends_with("0bad.json")).collect::<Vec<_>>()
    };
    assert_eq!(waits().len(), 1);
    coordinator.restart().await;
    let mut ana = coordinator.operator().await;
    harness::until("ben's on record", async || (issued(&mut ana).await.len() == 2).then_some(())).await;
    harness::until("its word is removed", async || waits().is_empty().then_some(())).await;
    assert!(word("0bad.json").exists());
    let request = rpc::EventsRequest::default();
    harness::until("the log names what is not understood", async || {
        let mut events = ana.fleet.events(request.clone()).await.unwrap().into_inner();
        while let Some(event) = events.message().await.unwrap() {
            if event.kind == "audit.unread" && event.message.contains("0bad.json") {
                return Some(());
            }
        }
        None
    })
    .await;
}

/// Whoever changes something is told the log's head with the answer, done or refused; others are not.
#[tokio::test(flavor = "multi_thread")]
async fn the_head_comes_with_each_answer_that_is_on_record() {
    let coordinator = Coordinator::start().await;
    let mut ana = coordinator.operator().await;
    let told = |metadata: &tonic::metadata::MetadataMap| -> Option<Head> {
        metadata.get(HEAD_HEADER).map(|head| head.to_str().unwrap().parse().unwrap())
    };
    let newest = async |ana: &mut Operator| {
        let last = chain(ana).await.pop().unwrap();
        Head { seq: last.seq, digest: Digest::try_from(last.digest.as_slice()).unwrap() }
    };
    let made = ana.fleet.create_token(rpc::CreateTokenRequest::default()).await.unwrap();
    assert_eq!(told(made.metadata()), Some(newest(&mut ana).await));
    let refused = ana.fleet.cordon_host(host("host-9")).await.unwrap_err();
    assert_eq!(told(refused.metadata()), Some(newest(&mut ana).await));
    let read = ana.fleet.list_hosts(rpc::ListHostsRequest::default()).await.unwrap();
    assert_eq!(told(read.metadata()), None);
}
