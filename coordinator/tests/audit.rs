//! Whoever changes something leaves one record, in a chain that survives the coordinator.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use std::collections::BTreeMap;

use harness::{Coordinator, Operator, bundle, fleet, spec};
use windlass_coordinator::rpc::auth::{Does, Role, TABLE};
use windlass_proto::digest::Digest;
use windlass_proto::rpc::audit::Head;
use windlass_proto::rpc::{self, AuditRecord, AuditRequest};

/// All records, which are a whole chain.
async fn whole(operator: &mut Operator) -> Vec<AuditRecord> {
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
    coordinator.issue("ben");
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
