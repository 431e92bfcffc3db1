//! Rolling out, failing, rolling back: as an operator does it.

use std::collections::BTreeMap;
use std::time::Duration;

use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;
use windlass_tests::needs;
use windlass_tests::wait::until;

/// The processes that serve, by host.
fn pids(fleet: &Fleet, app: &str) -> BTreeMap<String, i64> {
    let rows = fleet.versions(app);
    rows.into_iter().map(|(host, row)| (host, row["attested"]["pid"].as_i64().unwrap())).collect()
}

#[test]
fn a_release_that_fails_reverts_by_itself_and_touches_no_other_host() {
    let fleet = fleet::new().hosts(5).up();
    let app = App::new("web", free_port(5));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.serves(app.port, "1.0");
    let before = pids(&fleet, "web");

    let bad = fleet.deploy(&app.configured("version=1.1\nready=no\n"), "1.1").expect(3);
    assert!(bad.stderr.contains("readiness"), "the CLI says why:\n{}", bad.stderr);
    fleet.serves(app.port, "1.0");

    let rollout = fleet.newest_rollout().unwrap();
    let rollout = fleet.json(&["rollout", "show", rollout["id"].as_str().unwrap()]);
    let touched: Vec<&str> = rollout["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|host| host["outcome"] == "reverted")
        .map(|host| host["host"].as_str().unwrap())
        .collect();
    assert_eq!(touched.len(), 1, "only the first batch: {rollout}");
    let after = pids(&fleet, "web");
    for (host, pid) in &before {
        assert_eq!(after[host] == *pid, host != touched[0], "{host}: untouched hosts keep their process");
    }
    let why = fleet.json(&["why", touched[0]]);
    assert_eq!(why["fault"], "app");
    assert!(why["cause"].as_str().unwrap().contains("readiness"), "{why}");
    assert!(!why["evidence"].as_array().unwrap().is_empty(), "{why}");
    // One book: whoever asks is told the same.
    let hosts = rollout["hosts"].as_array().unwrap();
    let shown = hosts.iter().find(|host| host["host"] == touched[0]).unwrap();
    assert_eq!((&shown["reason"], &shown["fault"]), (&why["cause"], &why["fault"]));

    // A release that crashes at once, and one that dies on trial or before.
    fleet.deploy(&app.configured("version=1.2\ncrash=yes\n"), "1.2").expect(3);
    fleet.deploy(&app.configured("version=1.3\ndie_after_ms=200\n"), "1.3").expect(3);
    fleet.serves(app.port, "1.0");
}

#[test]
fn rollback_takes_the_fleet_to_the_release_before() {
    let fleet = fleet::new().hosts(3).up();
    let app = App::new("web", free_port(3));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.deploy(&app.version("2.0"), "2.0").expect(0);
    fleet.serves(app.port, "2.0");
    fleet.windlass(&["rollback", "web", "--yes"]).expect(0);
    fleet.serves(app.port, "1.0");
    for (host, row) in fleet.versions("web") {
        assert_eq!(row["version"], "1.0", "{host}");
        assert_eq!(row["attested"]["ok"], true, "{host}: {row}");
    }
}

/// After a rollout that did not succeed, however it failed, and after a rollback, nobody guesses which release is to be left.
#[test]
fn a_rollback_asks_where_its_target_is_not_certain() {
    let fleet = fleet::new().hosts(3).up();
    let mut app = App::new("web", free_port(3));
    for version in ["1.0", "2.0"] {
        fleet.deploy(&app.version(version), version).expect(0);
    }
    let port = app.port;
    let asks = |running: &str, other: &str| {
        let refused = fleet.windlass(&["rollback", "web", "--yes"]).expect(7);
        for version in [running, other] {
            assert!(
                refused.stderr.contains(&format!("windlass rollback web --to {version}")),
                "{}",
                refused.stderr
            );
        }
        assert!(refused.stderr.contains(&format!("{running} (all 3 hosts run it)")), "{}", refused.stderr);
        fleet.serves(port, running);
    };
    // One that fails before it disturbs anybody, one that fails in a batch.
    app.runtime = "    user: nosuchuser\n".into();
    fleet.deploy(&app.version("3.0"), "3.0").expect(3);
    app.runtime.clear();
    asks("2.0", "1.0");
    fleet.deploy(&app.configured("version=3.1\nready=no\n"), "3.1").expect(3);
    asks("2.0", "1.0");
    fleet.windlass(&["rollback", "web", "--to", "1.0", "--yes"]).expect(0);
    fleet.serves(app.port, "1.0");
    // Never back to what was taken away.
    let refused = fleet.windlass(&["rollback", "web", "--yes"]).expect(7);
    assert!(
        refused.stderr.contains("--to 1.0") && !refused.stderr.contains("--to 2.0"),
        "{}",
        refused.stderr
    );
    // The next success makes it certain again.
    fleet.deploy(&app.version("4.0"), "4.0").expect(0);
    fleet.windlass(&["rollback", "web", "--yes"]).expect(0);
    fleet.serves(app.port, "1.0");
}

/// One host serves alone, after a first release that failed on the way: what runs nothing is changed first, and nothing waits.
#[test]
fn the_only_host_that_serves_comes_last() {
    let fleet = fleet::new().hosts(3).up();
    let mut app = App::new("web", free_port(3));
    app.rollout = app.rollout.replace("max_unavailable: 2", "max_unavailable: 1");
    let spec = app.version("1.0");
    let grown = std::fs::read_to_string(&spec).unwrap();
    std::fs::write(&spec, grown.replace("selector: \"role=app\"", "selector: \"rack=r1\"")).unwrap();
    fleet.deploy(&spec, "1.0").expect(0);
    let spec = app.version("2.0");
    let path = spec.to_str().unwrap();
    let plan = fleet.json(&["plan", "-f", path, "--version", "2.0"]);
    assert_eq!(plan["batches"][1]["hosts"], serde_json::json!(["host-3", "host-1"]), "{plan}");
    let deployed = fleet.deploy(&spec, "2.0").expect(0);
    assert!(deployed.stderr.contains("host-1 is the only host that serves web"), "{}", deployed.stderr);
    fleet.serves(app.port, "2.0");
    let id = fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned();
    fleet.windlass(&["rollout", "resume", &id]).expect(7);
}

#[test]
fn versions_attests_what_runs_and_not_what_was_ordered() {
    let fleet = fleet::new().hosts(2).up();
    let app = App::new("web", free_port(2));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let row = fleet.versions("web")["host-2"].clone();
    let pid = row["attested"]["pid"].as_i64().unwrap();
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(row["attested"]["exe"], exe.to_str().unwrap());
    assert_eq!(row["attested"]["ok"], true);
    assert!(
        exe.to_str().unwrap().contains(row["digest"].as_str().unwrap().trim_start_matches("b3:")),
        "{row}"
    );

    // The app is killed behind the agent's back: it is started again, and the new process is attested.
    fleet::kill_hard(i32::try_from(pid).unwrap());
    until("another process is attested", Duration::from_secs(30), || {
        let row = fleet.versions("web")["host-2"].clone();
        (row["attested"]["ok"] == true && row["attested"]["pid"].as_i64() != Some(pid)).then_some(())
    });
}

#[test]
fn an_absent_host_never_wedges_a_rollout() {
    let fleet = fleet::new().hosts(3).up();
    let app = App::new("web", free_port(3));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.host(3).kill();
    until("the coordinator notices", Duration::from_secs(30), || {
        let hosts = fleet.json(&["host", "list"]);
        (hosts["hosts"][2]["state"] == "silent").then_some(())
    });
    fleet.deploy(&app.version("2.0"), "2.0").expect(0);
    let rollout = fleet.newest_rollout().unwrap();
    let rollout = fleet.json(&["rollout", "show", rollout["id"].as_str().unwrap()]);
    let outcome = |name: &str| {
        let hosts = rollout["hosts"].as_array().unwrap();
        hosts.iter().find(|h| h["host"] == name).map(|h| h["outcome"].clone())
    };
    assert_eq!(outcome("host-1"), Some("confirmed".into()));
    assert_eq!(outcome("host-3"), Some("skipped".into()), "excused by name: {rollout}");
}

#[test]
fn pause_resume_and_abort_steer_a_rollout() {
    let fleet = fleet::new().hosts(3).up();
    let mut app = App::new("web", free_port(3));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    app.rollout = app.rollout.replace("min_healthy_time: 300ms", "min_healthy_time: 1s");
    let deploy = fleet.deploy_start(&app.version("2.0"), "2.0");
    let id = until("the rollout begins", Duration::from_secs(20), || {
        let newest = fleet.newest_rollout()?;
        (newest["to"]["version"] == "2.0").then(|| newest["id"].as_str().unwrap().to_owned())
    });
    fleet.windlass(&["rollout", "pause", &id]).expect(0);
    let shown = fleet.json(&["rollout", "show", &id]);
    assert!(shown["conditions"].as_array().unwrap().contains(&"Manual".into()), "{shown}");
    // Whoever watches is told that it needs a person.
    deploy.finish().expect(9).says("paused");
    fleet.windlass(&["rollout", "resume", &id]).expect(0);
    // Nothing is paused now, and nobody is told that something resumed.
    fleet.windlass(&["rollout", "resume", &id]).expect(7).says("not paused");
    let aborted = fleet.windlass(&["rollout", "abort", &id, "--yes", "--wait"]).expect(0).says("Aborted");
    assert!(!aborted.stderr.contains("on the new release"), "{}", aborted.stderr);
    assert_ne!(fleet.json(&["rollout", "show", &id])["ended_at"], serde_json::Value::Null);
    fleet.windlass(&["rollout", "watch", &id]).expect(3);
    fleet.serves(app.port, "1.0");

    // Whoever does not want to wait any longer learns that it still goes back.
    let deploy = fleet.deploy_start(&app.version("3.0"), "3.0");
    let id = until("a host has it", Duration::from_secs(60), || {
        let newest = fleet.newest_rollout()?;
        let id = newest["id"].as_str()?.to_owned();
        let hosts = fleet.json(&["rollout", "show", &id])["hosts"].as_array()?.clone();
        let has = hosts.iter().any(|host| host["outcome"] == "confirmed");
        (newest["to"]["version"] == "3.0" && has).then_some(id)
    });
    let abort = ["rollout", "abort", &id, "--yes", "--timeout", "1ms"];
    fleet.windlass(&abort).expect(2).says("--wait");
    fleet.windlass(&[&abort[..], &["--wait"]].concat()).expect(6).says("still under way");
    deploy.finish().expect(3);
    fleet.serves(app.port, "1.0");
}

#[test]
fn on_a_terminal_deploy_shows_the_plan_and_asks() {
    if !needs::programs(&[("script", "bsdutils")]) {
        return;
    }
    let fleet = fleet::new().hosts(2).up();
    let app = App::new("web", free_port(2));
    let deploy = |version: &str| {
        let spec = app.version(version).to_str().unwrap().to_owned();
        ["deploy", "-f", &spec, "--version", version].map(str::to_owned)
    };
    let on_terminal = |version: &str, more: &[&str], answer: &str| {
        let args = deploy(version);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        fleet.windlass_on_terminal(&args, answer)
    };
    // Without a terminal nobody is asked.
    let args = deploy("1.0");
    let plain = fleet.windlass(&args.each_ref().map(String::as_str)).expect(0);
    assert!(!plain.stderr.contains("[y/N]"), "{}", plain.stderr);

    for (answer, what) in [("n\n", "no"), ("\n", "nothing")] {
        let shown = on_terminal("2.0", &[], answer).expect(1).stdout;
        for part in ["1.0 -> 2.0", "batch 1", "Deploy web 2.0 on 2 hosts now? [y/N]", "nothing was changed"] {
            assert!(shown.contains(part), "{what}: {part:?} is not in {shown}");
        }
    }
    assert_eq!(fleet.newest_rollout().unwrap()["to"]["version"], "1.0");
    fleet.serves(app.port, "1.0");

    let shown = on_terminal("2.0", &[], "y\n").expect(0).stdout;
    assert!(shown.contains("[y/N]"), "{shown}");
    fleet.serves(app.port, "2.0");
    let shown = on_terminal("3.0", &["--yes"], "n\n").expect(0).stdout;
    assert!(!shown.contains("[y/N]"), "{shown}");
    fleet.serves(app.port, "3.0");
}

#[test]
fn a_hotfix_supersedes_an_open_rollout_even_a_paused_one() {
    let fleet = fleet::new().hosts(3).up();
    let mut app = App::new("web", free_port(3));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    app.rollout = app.rollout.replace("min_healthy_time: 300ms", "min_healthy_time: 1s");
    let bad = fleet.deploy_start(&app.version("2.0"), "2.0");
    let id = until("the rollout begins", Duration::from_secs(20), || {
        let newest = fleet.newest_rollout()?;
        (newest["to"]["version"] == "2.0").then(|| newest["id"].as_str().unwrap().to_owned())
    });
    fleet.windlass(&["rollout", "pause", &id]).expect(0);
    bad.finish().expect(9);
    let hotfix = app.version("2.1");
    let hotfix = hotfix.to_str().unwrap();
    let plain = ["deploy", "-f", hotfix, "--version", "2.1", "--yes", "--reason", "CVE"];
    fleet.windlass(&plain).expect(7).says(&id);
    // What cannot work without the other rollout either takes nothing away from it.
    let impossible = [&plain[..], &["--supersede", "--set", "targets.selector=role=nobody"]].concat();
    fleet.windlass(&impossible).expect(1).says("matches none");
    assert_eq!(fleet.json(&["rollout", "show", &id])["ended_at"], serde_json::Value::Null);

    let ended = fleet.windlass(&[&plain[..], &["--supersede", "-o", "json"]].concat()).expect(0).says(&id);
    // Programs read of the one that they asked for.
    assert_eq!(ended.json()["to"]["version"], "2.1");
    fleet.serves(app.port, "2.1");
    let old = fleet.json(&["rollout", "show", &id]);
    assert!(old["failure"].as_str().unwrap().contains("superseded by web 2.1: CVE"), "{old}");
    let audit = fleet.windlass(&["audit"]).expect(0).stdout;
    let aborted = audit.lines().any(|line| line.contains("RolloutService/Abort") && line.contains(&id));
    assert!(aborted, "{audit}");
    // Where none is open it is a deploy.
    app.version("2.2");
    fleet.windlass(&["deploy", "-f", hotfix, "--version", "2.2", "--yes", "--supersede"]).expect(0);
    fleet.serves(app.port, "2.2");
}

#[test]
fn a_hotfix_goes_to_the_hosts_that_are_named_and_to_no_others() {
    let fleet = fleet::new().hosts(3).up();
    let app = App::new("web", free_port(3));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let spec = app.version("2.0");
    let order = |verb: &str, hosts: &[&str]| {
        let mut args = vec![verb, "-f", spec.to_str().unwrap(), "--version", "2.0"];
        hosts.iter().for_each(|host| args.extend(["--host", host]));
        args.extend(if verb == "deploy" { &["--yes"][..] } else { &[] });
        fleet.windlass(&args)
    };
    let planned = order("plan", &["host-2"]).expect(0);
    assert!(planned.stdout.contains("only host-2"), "{}", planned.stdout);
    let unknown = order("deploy", &["hots-2"]);
    assert_ne!(unknown.code, 0);
    assert!(unknown.stderr.contains("did you mean host-2"), "{}", unknown.stderr);
    fleet.windlass(&["host", "label", "host-3", "role=db"]).expect(0);
    let stranger = order("deploy", &["host-2", "host-3"]);
    assert_ne!(stranger.code, 0);
    assert!(stranger.stderr.contains("host-3: not among the hosts"), "{}", stranger.stderr);
    fleet.windlass(&["host", "label", "host-3", "role=app"]).expect(0);

    order("deploy", &["host-2"]).expect(0);
    let says = |versions: [&str; 3]| versions.map(|version| Some(version.to_owned())).to_vec();
    assert_eq!(fleet.says(app.port), says(["1.0", "2.0", "1.0"]));
    // The others follow with the next deploy, and the one that has it is left alone.
    let pid = fleet.versions("web")["host-2"]["attested"]["pid"].clone();
    let digest = fleet.versions("web")["host-2"]["digest"].as_str().unwrap().to_owned();
    let all = ["deploy", "-f", spec.to_str().unwrap(), "--bundle", &digest, "--yes"];
    fleet.windlass(&all).expect(0);
    assert_eq!(fleet.says(app.port), says(["2.0", "2.0", "2.0"]));
    assert_eq!(fleet.versions("web")["host-2"]["attested"]["pid"], pid);
}
