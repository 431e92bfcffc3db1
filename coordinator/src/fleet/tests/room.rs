//! How many apps a host has, and what becomes of what it refuses.

use windlass_proto::digest::Digest;
use windlass_proto::limits::{APPS, APPS_TOLD};
use windlass_proto::phase::{AppStatus, Fault, Phase};
use windlass_proto::refused::OrderRefused;
use windlass_proto::release::ReleaseRef;
use windlass_proto::rpc::ErrorKind;

use super::{EventFilter, OrderText, SPEC, World};

#[tokio::test]
async fn a_host_without_a_free_place_is_refused_by_the_plan_and_by_name() {
    let mut world = World::new(2).await;
    world.push("1");
    let host = world.hosts[1].clone();
    let release = |n: usize| ReleaseRef {
        app: format!("app-{n}").parse().unwrap(),
        version: "1".parse().unwrap(),
        digest: Digest::of(b"1"),
        counter: 1,
    };
    let report = |world: &mut World, n: usize, phase| {
        let status = world.status(&host, &"r-1".parse().unwrap(), "op".parse().unwrap(), &release(n), phase);
        let status = AppStatus { confirmed: status.confirmed.filter(|_| phase != Phase::Failed), ..status };
        assert!(world.fleet.report(&host, 1, status).unwrap());
    };
    for n in 0..APPS - 1 {
        report(&mut world, n, Phase::Trial);
    }
    // First releases that failed have no place.
    for n in APPS..APPS + 10 {
        report(&mut world, n, Phase::Failed);
    }
    let refusal = |world: &World| {
        let plan = world.fleet.plan(&World::order("1", false)).unwrap();
        plan.refusal().map(|check| (check.id, check.message.clone()))
    };
    assert_eq!(refusal(&world), None);
    report(&mut world, APPS, Phase::Trial);
    let (id, message) = refusal(&world).unwrap();
    assert!(id == "apps" && message.starts_with("host-1: has 64 apps"), "{id}: {message}");
}

#[tokio::test]
async fn a_refusal_that_no_rollout_waits_for_is_an_event_and_the_same_again_is_none() {
    let mut world = World::new(1).await;
    let host = world.hosts[0].clone();
    let refused = |reason: &str| OrderRefused {
        op: None,
        app: Some("shop".parse().unwrap()),
        fault: Fault::Agent,
        reason: reason.into(),
        not_yet: false,
    };
    for reason in ["unknown", "unknown", "busy"] {
        assert!(world.fleet.refused(&host, 1, refused(reason)));
    }
    assert!(!world.fleet.refused(&host, 2, refused("of another session")));
    let events = world.fleet.events(0, &EventFilter::default(), 100, true);
    let told: Vec<_> = events.iter().filter(|event| event.kind == "host.refused").collect();
    let words: Vec<_> = told.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(words, ["host-0 refused an order: unknown", "host-0 refused an order: busy"]);
    world.settle().await;
}

#[tokio::test]
async fn what_does_not_fit_a_row_is_refused_or_cut() {
    let mut world = World::new(1).await;
    let release = world.push("1");
    let mut record = world.fleet.bundles[&release.digest].clone();
    record.release.version = "2".parse().unwrap();
    record.release.digest = Digest::of(b"2");
    record.spec.runtime =
        serde_json::from_value(serde_json::json!({"kind": "process", "command": ["x".repeat(2 << 20)]}))
            .unwrap();
    assert_eq!(world.fleet.add_bundle(record).unwrap_err().kind, ErrorKind::TooMuch);
    let spec_json = format!("{SPEC}{}", " ".repeat(2 << 20));
    let order = OrderText { spec_json, ..World::order("1", false) };
    assert_eq!(world.fleet.plan(&order).unwrap_err().kind, ErrorKind::TooMuch);
    let host = world.hosts[0].clone();
    for n in 0..APPS_TOLD + 5 {
        let app = ReleaseRef { app: format!("app-{n}").parse().unwrap(), ..release.clone() };
        let mut status =
            world.status(&host, &"r-1".parse().unwrap(), "op".parse().unwrap(), &app, Phase::Idle);
        status.attested.exe = "x".repeat(if n == 0 { 2 << 20 } else { 1 });
        let told = world.fleet.report(&host, 1, status);
        assert_eq!(told.is_ok(), n < APPS_TOLD, "app {n}: {told:?}");
    }
    assert_eq!(world.fleet.hosts[&host].statuses.len(), APPS_TOLD);
    world.settle().await;
}
