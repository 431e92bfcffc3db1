//! What bad input gets, on the command line: named, with a way out, and nothing changed.

use std::time::Duration;

use windlass_tests::app::App;
use windlass_tests::fleet;
use windlass_tests::http::free_port;
use windlass_tests::wait::until;

#[test]
fn unknown_things_are_named_with_near_matches() {
    let fleet = fleet::new().hosts(2).up();
    let app = App::new("shop-api", free_port(2));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.windlass(&["host", "show", "host-11"]).expect(1).says("host-11").says("host-1");
    fleet.windlass(&["rollback", "shop-apo", "--yes"]).expect(1).says("shop-apo").says("shop-api");
    fleet.windlass(&["bundle", "show", "b3:000000"]).expect(1).says("b3:000000");
    fleet.windlass(&["rollout", "show", "r-nope"]).expect(1).says("r-nope");
    fleet.windlass(&["why", "host-9"]).expect(1).says("host-9");
    fleet.windlass(&["--context", "prod", "host", "list"]).expect(2).says("prod");
    fleet.windlass(&["bundle", "push", "/nonexistent.wlb"]).expect(2).says("/nonexistent.wlb");
}

#[test]
fn a_coordinator_that_is_away_is_exit_5_and_how_to_reach_it() {
    let fleet = fleet::new().hosts(1).up();
    let address = fleet.record()["coordinator"]["address"].as_str().unwrap().to_owned();
    fleet.kill_coordinator();
    fleet.windlass(&["host", "list"]).expect(5).says(&address).says("hint:");
}

#[test]
fn the_second_deploy_of_an_app_is_told_who_holds_it() {
    let fleet = fleet::new().hosts(2).up();
    let mut app = App::new("web", free_port(2));
    app.rollout = app.rollout.replace("min_healthy_time: 300ms", "min_healthy_time: 4s");
    let first = fleet.deploy_start(&app.version("1.0"), "1.0");
    let id = until("the first rollout begins", Duration::from_secs(20), || {
        Some(fleet.newest_rollout()?["id"].as_str()?.to_owned())
    });
    let other = App::new("web", app.port);
    fleet.deploy(&other.version("2.0"), "2.0").expect(7).says(&id);
    first.finish().expect(0);
    fleet.serves(app.port, "1.0");
}

#[test]
fn a_spec_with_several_errors_gets_all_of_them_with_their_lines() {
    let fleet = fleet::new().hosts(1).up();
    let app = App::new("web", free_port(1));
    let path = app.version("1.0");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace("grace: 3s", "grace: soon")
        .replace("role=app", "role=")
        .replace("readiness:", "readyness:");
    std::fs::write(&path, text).unwrap();
    let refused = fleet.deploy(&path, "1.0").expect(2);
    for part in ["soon", "readyness", "windlass.yaml:"] {
        assert!(refused.stderr.contains(part), "{part:?} is not in\n{}", refused.stderr);
    }
}

#[test]
fn a_rollout_that_cannot_work_is_refused_before_it_touches_a_host() {
    let fleet = fleet::new().hosts(2).up();
    let mut app = App::new("web", free_port(2));
    app.rollout = "  strategy: { max_parallel: 1 }\n".into();
    let path = app.version("1.0");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("role=app", "role=database")).unwrap();
    let refused = fleet.deploy(&path, "1.0");
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("role=database"), "{}", refused.stderr);
    assert_eq!(fleet.says(app.port), [None, None]);
}

#[test]
fn an_agent_that_cannot_have_its_address_says_so() {
    let fleet = fleet::new().hosts(1).up();
    let record = fleet.record();
    let coordinator = windlass_tests::programs::program("windlass-coordinator");
    let dir = tempfile::tempdir().unwrap();
    let taken = record["coordinator"]["address"].as_str().unwrap();
    let mut second = std::process::Command::new(coordinator);
    second.arg("run").arg("--state-dir").arg(dir.path()).args([
        "--fleet",
        "x",
        "--agent-listen",
        "127.0.0.1:0",
    ]);
    let ended = windlass_tests::run::run(second.args(["--operator-listen", taken]));
    assert_ne!(ended.code, 0);
    let ended = ended.says(taken);
    assert!(ended.stderr.contains("operator-listen"), "{}", ended.stderr);
}
