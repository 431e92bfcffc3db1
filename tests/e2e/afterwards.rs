//! What hosts do by themselves after a rollout has ended, and what the fleet's books make of it.

use std::time::Duration;

use serde_json::Value;
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;
use windlass_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Three hosts that change together and watch what they confirmed.
fn three_hosts() -> (Fleet, App) {
    let fleet = fleet::new().hosts(3).up();
    let mut app = App::new("web", free_port(3));
    app.drain = "{ timeout: 0s }".into();
    app.liveness = "period: 200ms, timeout: 1s, failure_threshold: 2".into();
    app.rollout = "  strategy: { batches: [100%], max_unavailable: 100%, min_healthy_time: 300ms, \
         healthy_deadline: 20s, progress_deadline: 60s }\n  host: { confirm_timeout: 5s, watch: { window: 1h } }\n"
        .into();
    (fleet, app)
}

/// Healthy until after it was confirmed.
fn sick(app: &App, version: &str, healthy_for_ms: u32) -> std::path::PathBuf {
    app.configured(&format!("version={version}\nhealthy_for_ms={healthy_for_ms}\n"))
}

fn rollout_to(fleet: &Fleet, version: &str) -> Value {
    let list = fleet.json(&["rollout", "list"]);
    let all = list["rollouts"].as_array().unwrap().clone();
    let of = all.into_iter().find(|rollout| rollout["to"]["version"] == version).unwrap();
    fleet.json(&["rollout", "show", of["id"].as_str().unwrap()])
}

/// Waits until the rollout to this version says that all hosts left it.
fn left(fleet: &Fleet, version: &str) -> Value {
    until("the coordinator has heard it", LIMIT, || {
        let rollout = rollout_to(fleet, version);
        let hosts = rollout["hosts"].as_array().unwrap();
        hosts.iter().all(|host| host["outcome"] == "reverted").then_some(rollout.clone())
    })
}

fn reverts(fleet: &Fleet, rollout: &Value) -> usize {
    let events = fleet.json(&["events", "--rollout", rollout["id"].as_str().unwrap()]);
    let all = events["events"].as_array().unwrap();
    all.iter().filter(|event| event["type"] == "host.reverted").count()
}

#[test]
fn a_release_that_hosts_leave_after_the_end_is_no_good_one() {
    let (fleet, app) = three_hosts();
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.deploy(&sick(&app, "1.1", 4000), "1.1").expect(0);
    fleet.serves(app.port, "1.0");
    let rollout = left(&fleet, "1.1");
    assert_eq!(rollout["state"], "RolledBack", "{rollout}");
    for host in rollout["hosts"].as_array().unwrap() {
        assert_eq!(host["fault"], "app");
        assert!(host["reason"].as_str().unwrap().contains("watch window"), "{host}");
    }
    assert_eq!(reverts(&fleet, &rollout), 3);
    let status = fleet.windlass(&["status"]).expect(0).stdout;
    assert!(status.contains("3 hosts went back from 1.1") && status.contains("RolledBack"), "{status}");
    let history = fleet.windlass(&["rollout", "history", "web"]).expect(0).stdout;
    assert!(history.contains("RolledBack"), "{history}");

    // It is poisoned, and nobody's way back.
    fleet.deploy(&sick(&app, "1.1", 4000), "1.1").expect(7).says("host-1, host-2, host-3");
    fleet.deploy(&app.version("1.2"), "1.2").expect(0);
    fleet.serves(app.port, "1.2");
    fleet.windlass(&["rollback", "web", "--yes"]).expect(0);
    fleet.serves(app.port, "1.0");
}

#[test]
fn what_hosts_did_while_the_coordinator_was_away_is_heard_when_it_is_back() {
    let (fleet, app) = three_hosts();
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.deploy(&sick(&app, "1.1", 6000), "1.1").expect(0);
    fleet.kill_coordinator();
    fleet.serves(app.port, "1.0");
    fleet.start();
    let rollout = left(&fleet, "1.1");
    assert_eq!(rollout["state"], "RolledBack", "{rollout}");
    assert_eq!(reverts(&fleet, &rollout), 3);
    // Once more, and nothing is said twice.
    fleet.kill_coordinator();
    fleet.start();
    until("all hosts are back", LIMIT, || {
        let hosts = fleet.json(&["host", "list"]);
        hosts["hosts"].as_array()?.iter().all(|host| host["state"] == "ready").then_some(())
    });
    assert_eq!(reverts(&fleet, &rollout), 3);
    fleet.deploy(&sick(&app, "1.1", 6000), "1.1").expect(7);
}

#[test]
fn a_release_that_one_host_left_is_watched_again_when_it_is_tried_again() {
    let fleet = fleet::new().hosts(1).up();
    let mut app = App::new("web", free_port(1));
    app.liveness = "period: 200ms, timeout: 1s, failure_threshold: 2".into();
    app.rollout = app.rollout.replace("confirm_timeout: 5s", "confirm_timeout: 5s, watch: { window: 1h }");
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    // One host is not enough to poison it; the second time it goes back as it did the first time.
    for _ in 0..2 {
        fleet.deploy(&sick(&app, "1.1", 4000), "1.1").expect(0);
        fleet.serves(app.port, "1.0");
        left(&fleet, "1.1");
    }
}
