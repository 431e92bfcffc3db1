//! Hooks of a release, from its spec to what the operator is told.

use std::time::Duration;

use serde_json::Value;
use windlass_tests::app::App;
use windlass_tests::fleet;
use windlass_tests::http::free_port;
use windlass_tests::wait::until;

const HOOKS: [&str; 9] = [
    "before_block_traffic",
    "after_block_traffic",
    "application_stop",
    "before_install",
    "after_install",
    "application_start",
    "validate_service",
    "before_allow_traffic",
    "after_allow_traffic",
];

/// An app with all nine hooks in one script, which ends as `hook.conf` says.
fn app(hosts: u32) -> App {
    let mut app = App::new("web", free_port(hosts));
    let hooks = HOOKS.map(|hook| format!("    {hook}: [ {{ run: [hook, {hook}], timeout: 3s }} ]\n"));
    app.release = format!("  hooks:\n{}", hooks.concat());
    app.rollout = "  strategy: { max_parallel: 1, min_healthy_time: 300ms, healthy_deadline: 60s, \
                   progress_deadline: 90s }\n  host: { confirm_timeout: 10s }\n"
        .into();
    app.script("hook", "echo $WINDLASS_HOOK from $WINDLASS_VERSION\n. ./hook.conf");
    behave(&app, "true");
    app
}

fn behave(app: &App, script: &str) {
    std::fs::write(app.dir().join("files/hook.conf"), format!("{script}\n")).unwrap();
}

fn hooks(host: &Value) -> Vec<(String, String, i64)> {
    let run = |run: &Value| {
        let text = |key: &str| run[key].as_str().unwrap().to_owned();
        (text("name"), text("version"), run["exit"].as_i64().unwrap_or(-1))
    };
    host["hooks"].as_array().unwrap().iter().map(run).collect()
}

#[test]
fn hooks_run_in_order_are_shown_and_a_failing_one_takes_the_host_back() {
    let fleet = fleet::new().hosts(2).up();
    let app = app(2);
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);

    let second = fleet.deploy(&app.version("2.0"), "2.0").expect(0);
    assert!(second.stderr.contains("validate_service of 2.0: hook: exit code 0"), "{}", second.stderr);
    assert!(second.stderr.contains("| validate_service from 2.0"), "{}", second.stderr);
    let expected: Vec<_> = HOOKS
        .iter()
        .map(|hook| {
            let of = if *hook == "application_stop" { "1.0" } else { "2.0" };
            ((*hook).to_owned(), of.to_owned(), 0)
        })
        .collect();
    let rollout = fleet.newest_rollout().unwrap();
    let id = rollout["id"].as_str().unwrap();
    let watched = fleet.windlass(&["rollout", "watch", id, "-o", "jsonl"]).expect(0);
    let last: Value = serde_json::from_str(watched.stdout.lines().next_back().unwrap()).unwrap();
    for host in last["hosts"].as_array().unwrap() {
        assert_eq!(hooks(host), expected, "{host}");
        assert_eq!(host["hooks"][6]["output_tail"], "validate_service from 2.0");
    }
    let events = fleet.windlass(&["events", "--rollout", id]).expect(0);
    assert!(events.stdout.contains("after_allow_traffic of 2.0: hook: exit code 0"), "{}", events.stdout);

    behave(&app, "[ $1 != validate_service ] || { echo wrong answer; exit 7; }; [ $1 != application_stop ]");
    let bad = fleet.deploy(&app.version("3.0"), "3.0").expect(3);
    assert!(bad.stderr.contains("validate_service"), "{}", bad.stderr);
    fleet.serves(app.port, "2.0");
    let why = fleet.json(&["why", "host-1"]);
    assert_eq!(why["fault"], "app");
    assert_eq!(why["cause"], "hook validate_service (hook): exit code 7: wrong answer");
    let evidence = why["evidence"].as_array().unwrap();
    let about = |text: &str| {
        evidence.iter().any(|e| e["kind"] == "hook" && e["text"].as_str().unwrap().contains(text))
    };
    assert!(about("validate_service of 3.0: hook: exit code 7") && about("\nwrong answer"), "{why}");
    // What its own application_stop said (1) is only noted, and the old release came back with its hooks.
    let rollout = fleet.newest_rollout().unwrap();
    let rollout = fleet.json(&["rollout", "show", rollout["id"].as_str().unwrap()]);
    let host = rollout["hosts"].as_array().unwrap().iter().find(|host| host["host"] == "host-1").unwrap();
    let told = hooks(host);
    assert!(told.contains(&("application_stop".into(), "3.0".into(), 1)), "{told:?}");
    assert_eq!(told.last().unwrap(), &("after_allow_traffic".into(), "2.0".into(), 0), "{told:?}");

    // Before anything was stopped, the old release stays in service.
    behave(&app, "[ $1 != before_block_traffic ] || exit 1");
    fleet.deploy(&app.version("4.0"), "4.0").expect(3);
    let why = fleet.json(&["why", "host-1"]);
    assert!(why["cause"].as_str().unwrap().starts_with("hook before_block_traffic"), "{why}");
    assert!(why["evidence"].to_string().contains("before_block_traffic of 4.0"), "{why}");
    fleet.serves(app.port, "2.0");
}

#[test]
fn an_agent_killed_during_a_hook_takes_it_up_again() {
    let fleet = fleet::new().hosts(1).up();
    let app = app(1);
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    behave(&app, "[ $1 != after_install ] || { echo once >> $WINDLASS_DATA/runs; sleep 2; }");
    let deploy = fleet.deploy_start(&app.version("2.0"), "2.0");
    let runs = fleet.host(1).state_dir.join("apps/web/data/runs");
    until("the hook runs", Duration::from_secs(30), || runs.exists().then_some(()));
    fleet.host(1).kill();
    fleet.start();
    deploy.finish().expect(0);
    fleet.serves(app.port, "2.0");
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "once\n", "it was not run twice");
}
