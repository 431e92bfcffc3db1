//! SIGKILL at many moments of a deployment: of an agent, of the coordinator. It always ends on a complete release.

use std::time::Duration;

use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::{free_port, get};
use windlass_tests::wait::{pass, until};

/// Every host serves one of the versions and attests exactly what it serves.
fn every_host_is_on_one_of(fleet: &Fleet, app: &App, versions: &[&str]) {
    until(&format!("every host serves one of {versions:?} and attests it"), Duration::from_secs(60), || {
        let rows = fleet.versions(&app.name);
        let good = fleet.all().iter().all(|host| {
            let Some(says) = get(&host.address, app.port, "/").and_then(|answer| answer.member("version"))
            else {
                return false;
            };
            let Some(row) = rows.get(&host.name) else { return false };
            versions.contains(&says.as_str())
                && row["version"] == says.as_str()
                && row["attested"]["ok"] == true
        });
        good.then_some(())
    });
}

/// Moments after the order at which to kill, in milliseconds: staging, stopping, starting, verifying, trial, after.
const MOMENTS: [u64; 8] = [20, 120, 250, 400, 600, 850, 1200, 2000];

#[test]
fn an_agent_killed_at_any_moment_ends_in_a_right_state() {
    let fleet = fleet::new().hosts(2).up();
    let mut app = App::new("web", free_port(2));
    app.rollout =
        "  strategy: { max_parallel: 2, max_unavailable: 2, min_healthy_time: 300ms, healthy_deadline: 10s, \
                   progress_deadline: 20s }\n  host: { confirm_timeout: 4s }\n"
            .into();
    fleet.deploy(&app.version("v0"), "v0").expect(0);
    let mut last = "v0".to_owned();
    for (round, moment) in MOMENTS.into_iter().enumerate() {
        let version = format!("v{}", round + 1);
        let deploy = fleet.deploy_start(&app.version(&version), &version);
        until("the rollout begins", Duration::from_secs(20), || {
            (fleet.newest_rollout()?["to"]["version"] == version.as_str()).then_some(())
        });
        pass(Duration::from_millis(moment));
        fleet.host(1).kill();
        fleet.start();
        let code = deploy.finish().code;
        assert!([0, 3].contains(&code), "killed after {moment} ms: deploy ended with {code}");
        every_host_is_on_one_of(&fleet, &app, &[&last, &version]);
        // Whatever the outcome was, the next order works.
        let again = fleet.deploy(&app.version(&version), &version);
        assert!([0, 7].contains(&again.code), "{}", again.stderr);
        if again.code == 0 {
            fleet.serves(app.port, &version);
            last = version;
        } else {
            fleet.deploy(&app.version(&last), &format!("{last}.{round}")).expect(0);
        }
    }
}

#[test]
fn the_coordinator_killed_at_any_moment_goes_on() {
    let fleet = fleet::new().hosts(3).up();
    let mut app = App::new("web", free_port(3));
    app.rollout = app.rollout.replace("confirm_timeout: 5s", "confirm_timeout: 20s");
    fleet.deploy(&app.version("v0"), "v0").expect(0);
    for (round, moment) in [10, 150, 400, 800, 1500].into_iter().enumerate() {
        let version = format!("v{}", round + 1);
        let spec = app.version(&version);
        fleet
            .windlass(&["deploy", "-f", spec.to_str().unwrap(), "--version", &version, "--yes", "--detach"])
            .expect(0);
        let id = fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned();
        pass(Duration::from_millis(moment));
        fleet.kill_coordinator();
        fleet.start();
        fleet.windlass(&["rollout", "watch", &id, "--timeout", "90s"]).expect(0);
        fleet.serves(app.port, &version);
        every_host_is_on_one_of(&fleet, &app, &[&version]);
    }
}

#[test]
fn confirmed_hosts_stay_when_the_coordinator_dies() {
    let fleet = fleet::new().hosts(3).up();
    let app = App::new("web", free_port(3));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let before: Vec<_> = fleet.all().iter().map(|host| get(&host.address, app.port, "/")).collect();
    fleet.kill_coordinator();
    // Longer than the confirm timeout of the spec, which is 5 s.
    pass(Duration::from_secs(7));
    let after: Vec<_> = fleet.all().iter().map(|host| get(&host.address, app.port, "/")).collect();
    assert_eq!(before, after, "the same processes say the same");
    fleet.windlass(&["host", "list"]).expect(5).says("windlass dev up");
    fleet.start();
    fleet.serves(app.port, "1.0");
}

#[test]
fn agents_and_coordinator_killed_together_come_back_to_a_complete_release() {
    let fleet = fleet::new().hosts(3).up();
    let app = App::new("web", free_port(3));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let spec = app.version("2.0");
    fleet
        .windlass(&["deploy", "-f", spec.to_str().unwrap(), "--version", "2.0", "--yes", "--detach"])
        .expect(0);
    pass(Duration::from_millis(500));
    let hosts = fleet.all();
    fleet.kill_coordinator();
    hosts.iter().for_each(fleet::Host::kill);
    fleet.start();
    let id = fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned();
    let watched = fleet.windlass(&["rollout", "watch", &id, "--timeout", "90s"]);
    assert!([0, 3].contains(&watched.code), "{}", watched.stderr);
    every_host_is_on_one_of(&fleet, &app, &["1.0", "2.0"]);
}
