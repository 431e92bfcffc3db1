//! The audit log against whoever has the coordinator's state: an older copy shows, on the operator's machine and on the hosts.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::programs::program;
use windlass_tests::run::run;
use windlass_tests::wait::until;

use crate::fork::{Door, copy, lead, state_of};

const LIMIT: Duration = Duration::from_secs(60);

fn records(fleet: &Fleet) -> Vec<Value> {
    fleet.json(&["audit", "--last", "0"])["records"].as_array().unwrap().clone()
}

/// Waits until the host has heard of this record.
#[track_caller]
fn has_heard(fleet: &Fleet, seq: u64) {
    let file = fleet.host(1).state_dir.join("audit-seen.json");
    until(&format!("host-1 has heard of record {seq}"), LIMIT, || {
        let kept: Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
        kept["head"].as_str()?.starts_with(&format!("{seq}:")).then_some(())
    });
}

/// What the host says of the log, through the coordinator.
fn problem(fleet: &Fleet) -> Option<String> {
    let shown = fleet.windlass(&["host", "show", "host-1", "-o", "json"]);
    if shown.code != 0 {
        return None;
    }
    let problems = shown.json()["facts"]["problems"].as_array()?.clone();
    let all = problems.iter().filter_map(Value::as_str);
    all.filter(|problem| problem.contains("audit log")).map(str::to_owned).next()
}

fn is_led(fleet: &Fleet) {
    until("host-1 is led", LIMIT, || {
        let list = fleet.windlass(&["host", "list", "-o", "json"]);
        let ready = list.code == 0 && list.json()["hosts"][0]["state"] == "ready";
        ready.then_some(())
    });
}

#[test]
fn an_older_state_shows_and_so_does_who_was_issued_a_certificate() {
    let fleet = fleet::new().hosts(1).up();
    let (state, door) = (state_of(&fleet), Door::of(&fleet));
    // Nobody has called the coordinator for it.
    let first = records(&fleet).into_iter().find(|record| record["method"] == "issue-operator").unwrap();
    assert_eq!(first["outcome"], "done");
    assert!(first["about"].as_str().unwrap().starts_with("operator admin, certificate "), "{first}");
    assert!(first["who"].as_str().unwrap().starts_with("local/"), "{first}");
    issue(&state, fleet.dir(), "eve");
    fleet.has_taken_in();
    let newest = records(&fleet).pop().unwrap();
    assert!(newest["about"].as_str().unwrap().starts_with("operator eve, "), "{newest}");

    fleet.kill_coordinator();
    let old = copy(&state, "old");
    let original = lead(&state, &door, &[]);
    is_led(&fleet);
    let label = ["host", "label", "host-1", "rack=r9"];
    fleet.windlass(&label).expect(0);
    fleet.windlass(&["host", "cordon", "host-1"]).expect(0);
    fleet.windlass(&["host", "uncordon", "host-1"]).expect(0);
    let last = records(&fleet).len() as u64;
    // Each verb that acted has left what it was told.
    let kept = std::fs::read_to_string(fleet.dir().join("audit-heads.json")).unwrap();
    assert!(kept.contains(&format!("\"{last}:b3:")), "{kept}");
    drop(original);
    let original = lead(&state, &door, &[]);
    is_led(&fleet);
    has_heard(&fleet, last);
    fleet.windlass(&["audit", "--check"]).expect(0);
    assert_eq!(problem(&fleet), None);
    drop(original);

    // The three acts are undone with the state that knew of them. The chain itself is whole.
    let restored = lead(&old, &door, &[]);
    is_led(&fleet);
    let before = last - 3;
    for verb in [&["audit", "--check"][..], &["audit"]] {
        let refused = fleet.windlass(verb).expect(1);
        let refused = refused.says("the audit log is not the one that this machine has seen");
        let refused = refused.says(&format!("its last record was {last} (b3:"));
        refused.says(&format!("now the log ends with record {before}")).says("--accept-restored");
    }
    let told = until("the host tells", LIMIT, || problem(&fleet));
    assert!(told.contains(&format!("its last record was {last} (b3:")), "{told}");
    assert!(told.contains(&format!("now it ends with record {before}")), "{told}");
    let agent = || {
        let state = fleet.host(1).state_dir;
        run(Command::new(program("windlass-agent")).arg("inspect").arg("--state-dir").arg(state)).expect(0)
    };
    assert!(agent().stdout.starts_with("the coordinator's audit log is not the one"), "{}", agent().stdout);
    // The host goes on to work, and that the log grows past what was seen hides nothing.
    for rack in 0..5 {
        fleet.windlass(&["host", "label", "host-1", &format!("rack=r{rack}")]).expect(0);
    }
    let refused = fleet.windlass(&["audit", "--check"]).expect(1);
    refused.says(&format!("now record {last} is another one"));
    drop(restored);
    let restored = lead(&old, &door, &[]);
    is_led(&fleet);
    assert!(problem(&fleet).is_some(), "also to a coordinator that started again");
    drop(restored);

    // Where it was meant, it is said, to the coordinator for the hosts and to this machine.
    let _restored = lead(&old, &door, &["--after-restore"]);
    is_led(&fleet);
    until("the host says no more of it", LIMIT, || problem(&fleet).is_none().then_some(()));
    let restore = |record: &Value| record["method"] == "run --after-restore";
    let accepted = fleet.windlass(&["audit", "--check", "--accept-restored"]).expect(0);
    accepted.says("accepted as restored: ").says(&format!("its last record was {last} "));
    fleet.windlass(&["audit", "--check"]).expect(0);
    assert_eq!(records(&fleet).iter().filter(|record| restore(record)).count(), 1);
    assert!(!agent().stdout.contains("audit log"), "{}", agent().stdout);
}

fn issue(state: &Path, dir: &Path, name: &str) {
    let mut command = Command::new(program("windlass-coordinator"));
    command
        .args(["issue-operator", "--name", name, "--state-dir"])
        .arg(state)
        .arg("--out")
        .arg(dir.join(name));
    run(&mut command).expect(0);
}
