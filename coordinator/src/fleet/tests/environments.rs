//! One app in two environments: what one does is not the other's, and a host is of one of them.

use std::collections::BTreeMap;

use windlass_proto::id::{Environment, RolloutId};
use windlass_proto::limits::ENVIRONMENTS;
use windlass_proto::phase::{Fault, Phase};
use windlass_proto::rpc::ErrorKind;
use windlass_rollout::plan::Plan;
use windlass_rollout::{Event, State, WayBack};

use super::{EventFilter, OrderText, Removal, SPEC, World};

const STAGING: [&str; 2] = ["host-0", "host-1"];

/// Four hosts, two labelled for each environment, and four releases.
async fn world() -> World {
    let mut world = World::new(4).await;
    for version in ["1", "2", "3", "4"] {
        world.push(version);
    }
    for n in 0..4 {
        let of = if n < 2 { "staging" } else { "production" };
        label(&mut world, &format!("host-{n}"), of);
    }
    world
}

fn label(world: &mut World, host: &str, of: &str) {
    let labels = BTreeMap::from([("env".to_owned(), of.to_owned())]);
    world.fleet.label("operator/ana", host, labels, &[]).unwrap();
}

fn order(of: &str, version: &str) -> OrderText {
    let spec_json = SPEC.replace("role=app", &format!("env={of}"));
    OrderText { environment: of.into(), spec_json, ..World::order(version, false) }
}

fn back(of: &str) -> OrderText {
    OrderText { environment: of.into(), ..World::order("", true) }
}

async fn rolled(world: &mut World, of: &str, version: &str) {
    let id = format!("r-{of}-{version}");
    assert_eq!(world.roll(&order(of, version), &id, false).await, State::Succeeded);
}

fn hosts(plan: &Plan) -> Vec<String> {
    plan.batches.iter().flatten().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_rollback_takes_the_environments_own_release_and_spec() {
    let mut world = world().await;
    rolled(&mut world, "production", "1").await;
    rolled(&mut world, "production", "2").await;
    rolled(&mut world, "staging", "2").await;
    rolled(&mut world, "staging", "3").await;
    rolled(&mut world, "staging", "4").await;
    // Staging is what was rolled out last; production goes back to its own release, on its own hosts.
    let plan = world.fleet.plan(&back("production")).unwrap();
    assert_eq!((plan.order.to.version.as_str(), plan.order.revision), ("1", 3));
    assert_eq!(hosts(&plan), ["host-2", "host-3"]);
    let plan = world.fleet.plan(&back("staging")).unwrap();
    assert_eq!((plan.order.to.version.as_str(), plan.order.revision), ("3", 4));
    assert_eq!(hosts(&plan), STAGING);
    // What succeeded in the other one only has not succeeded here.
    let never = world.fleet.plan(&OrderText { target: "4".into(), ..back("production") }).unwrap_err();
    assert!(never.message.contains("has never succeeded in production"), "{never}");
    // And going back in one leaves the other as it was.
    assert_eq!(world.roll(&back("production"), "r-back", false).await, State::Succeeded);
    assert!(matches!(
        world.fleet.way_back(&"shop".parse().unwrap(), &"production".parse().unwrap()),
        WayBack::Ask(_)
    ));
    let WayBack::To(to) = world.fleet.way_back(&"shop".parse().unwrap(), &"staging".parse().unwrap()) else {
        panic!("staging knows where it came from");
    };
    assert_eq!(to.version.as_str(), "3");
}

#[tokio::test]
async fn two_environments_roll_out_at_the_same_time() {
    let mut world = world().await;
    let start = |world: &mut World, of: &str, reason: &str| {
        let id: RolloutId = format!("r-{of}").parse().unwrap();
        world
            .fleet
            .start("operator/bo", &order(of, "1"), reason, "", id, None)
            .map(|rollout| rollout.id.clone())
    };
    let staging = start(&mut world, "staging", "the spring sale").unwrap();
    let pause = Event::Pause { by: "operator/bo".into(), reason: String::new() };
    world.fleet.command("operator/bo", staging.as_str(), pause).unwrap();
    rolled(&mut world, "production", "1").await;
    assert!(!world.fleet.rollout("r-staging").unwrap().ended());
    let refused = world
        .fleet
        .start("operator/ana", &order("staging", "2"), "", "", "r-2".parse().unwrap(), None)
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Busy);
    for word in ["shop in staging is held by rollout r-staging", "operator/bo", "ago", "the spring sale"] {
        assert!(refused.message.contains(word), "{word}: {refused}");
    }
    world.settle().await;
}

#[tokio::test]
async fn who_names_no_environment_of_several_is_told_which_there_are() {
    let mut world = world().await;
    let unnamed = OrderText { environment: String::new(), ..order("staging", "1") };
    assert_eq!(world.fleet.plan(&unnamed).unwrap().order.environment, Environment::default());
    rolled(&mut world, "staging", "1").await;
    assert_eq!(world.fleet.plan(&unnamed).unwrap().order.environment.as_str(), "staging", "the only one");
    rolled(&mut world, "production", "1").await;
    for text in [unnamed, back("")] {
        let refused = world.fleet.plan(&text).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid);
        assert_eq!(
            refused.message,
            "shop has several environments: say which with --env: production, staging"
        );
    }
    let unknown = world.fleet.plan(&back("stagin")).unwrap_err();
    assert_eq!(
        (unknown.kind, unknown.message.as_str()),
        (
            ErrorKind::NotFound,
            "unknown environment of shop \"stagin\"; did you mean staging?; there are: production, staging"
        )
    );
    let odd = world.fleet.plan(&order("Stag ing", "1")).unwrap_err();
    assert!(odd.message.contains("invalid environment name \"Stag ing\""), "{odd}");
    let own = OrderText { take_from: "staging".into(), ..order("staging", "1") };
    assert!(world.fleet.plan(&own).unwrap_err().message.contains("is the environment that is rolled out to"));
}

#[tokio::test]
async fn a_host_moves_with_leave_and_is_then_of_the_other_environment() {
    let mut world = world().await;
    rolled(&mut world, "staging", "1").await;
    rolled(&mut world, "production", "1").await;
    label(&mut world, "host-1", "production");
    let refused =
        world.fleet.start("operator/ana", &order("production", "2"), "", "", "r-no".parse().unwrap(), None);
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::HostsElsewhere);
    assert!(
        refused.message.contains("host-1: of shop in staging")
            && refused.message.contains("--take-from staging")
    );
    let of = |world: &World, host: &str| {
        let host = world.fleet.host(host).unwrap();
        host.environment(&"shop".parse().unwrap()).map(ToString::to_string)
    };
    assert_eq!(of(&world, "host-1").as_deref(), Some("staging"));

    let taking = OrderText { take_from: "staging".into(), ..order("production", "2") };
    assert_eq!(world.roll(&taking, "r-taken", false).await, State::Succeeded);
    assert_eq!(of(&world, "host-1").as_deref(), Some("production"));
    let events = world.fleet.events(0, &EventFilter::default(), 1000, true);
    let moved: Vec<_> = events.iter().filter(|event| event.kind == "host.moved").collect();
    assert_eq!(moved.len(), 1);
    assert_eq!(
        (moved[0].who.as_str(), moved[0].host.as_str(), moved[0].rollout.as_str(), moved[0].message.as_str()),
        ("operator/ana", "host-1", "r-taken", "host-1 was taken from shop in staging, for production")
    );
    let app = "shop".parse().unwrap();
    let counted: Vec<_> = world
        .fleet
        .environments(Some(&app))
        .map(|(_, name, record, hosts)| (name.to_string(), record.revision, hosts))
        .collect();
    assert_eq!(counted, [("production".into(), 2, 3), ("staging".into(), 1, 1)]);
    let named = |world: &World, of: &str| {
        let hosts = world.fleet.hosts_with(&app, of, &[]).unwrap();
        hosts.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
    };
    assert_eq!(
        (named(&world, "staging"), named(&world, "")),
        (vec!["host-0".into()], vec!["host-0".to_owned(), "host-1".into(), "host-2".into(), "host-3".into()])
    );
    let stranger = world.fleet.hosts_with(&app, "staging", &["host-1".into()]).unwrap_err();
    assert!(stranger.message.contains("host host-1 is not of shop in staging"), "{stranger}");
    world.settle().await;
}

#[tokio::test]
async fn what_is_gone_is_of_no_environment() {
    let mut world = world().await;
    rolled(&mut world, "staging", "1").await;
    // A host that has forgotten the app is free.
    let host = world.hosts[0].clone();
    world.fleet.hosts.get_mut(&host).unwrap().statuses.clear();
    let id = world.fleet.hosts[&host].record.id.clone();
    let app: windlass_proto::id::AppName = "shop".parse().unwrap();
    let op = "op".parse().unwrap();
    let release = world.fleet.bundles(Some(&app))[0].release.clone();
    let status = world.status(&host, &"r-staging-1".parse().unwrap(), op, &release, Phase::Confirmed);
    assert!(world.fleet.report(&host, 1, status).unwrap());
    let statuses = std::mem::take(&mut world.fleet.hosts.get_mut(&id).unwrap().statuses);
    let greeting = super::Greeting {
        agent_version: "1".into(),
        address: "127.0.0.1".into(),
        facts: None,
        features: None,
        apps: vec![],
        authors: None,
    };
    world.fleet.hosts.get_mut(&id).unwrap().statuses = statuses;
    let (sender, _orders) = tokio::sync::mpsc::channel(64);
    world.fleet.connect(&id, 1, sender, greeting).unwrap();
    assert_eq!(world.fleet.hosts[&id].environment(&app), None);
    // One that left the fleet leaves nothing behind, and the environment and its history stay.
    world.fleet.remove_host("operator/ana", "host-1", Removal::EvenConnected).unwrap();
    world.hosts.remove(1);
    let counted: Vec<_> =
        world.fleet.environments(None).map(|(.., record, hosts)| (record.revision, hosts)).collect();
    assert_eq!(counted, [(1, 0)]);
    world.settle().await;
}

#[tokio::test]
async fn a_release_that_failed_in_one_environment_is_offered_in_none() {
    let mut world = world().await;
    rolled(&mut world, "staging", "1").await;
    rolled(&mut world, "production", "1").await;
    let mut strict = order("staging", "2");
    strict.spec_json = strict.spec_json.replacen('{', r#"{"failure":{"poison_after":1},"#, 1);
    assert!(matches!(world.roll(&strict, "r-bad", true).await, State::RolledBack | State::Failed));
    assert_eq!(world.fleet.why("r-bad", "staging").unwrap().fault, Some(Fault::App));
    let other = world.fleet.why("r-bad", "production").unwrap_err();
    assert!(other.message.contains("r-bad is of staging, not of production"), "{other}");
    for host in STAGING {
        assert!(world.fleet.why(host, "production").is_err(), "{host} failed in staging alone");
    }
    let plan = world.fleet.plan(&order("production", "2")).unwrap();
    assert_eq!(plan.refusal().map(|check| check.id), Some("poisoned"), "{:?}", plan.checks);
}

#[tokio::test]
async fn environments_are_bounded() {
    let mut world = world().await;
    for n in 0..ENVIRONMENTS {
        let id: RolloutId = format!("r-{n}").parse().unwrap();
        let of =
            OrderText { environment: format!("e{n}"), take_from: String::new(), ..order("staging", "1") };
        let of = match n {
            0 => of,
            n => OrderText { take_from: format!("e{}", n - 1), ..of },
        };
        world.fleet.start("operator/ana", &of, "", "", id.clone(), None).unwrap();
        let abort = Event::Abort { by: "ana".into(), reason: String::new() };
        world.fleet.command("operator/ana", id.as_str(), abort).unwrap();
        world.settle().await;
    }
    let more = OrderText {
        environment: "more".into(),
        take_from: format!("e{}", ENVIRONMENTS - 1),
        ..order("staging", "1")
    };
    let refused =
        world.fleet.start("operator/ana", &more, "", "", "r-more".parse().unwrap(), None).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::TooMuch, "{refused}");
    world.settle().await;
}
