//! Owning the coordinator is not owning the fleet.

use std::process::Command;

use windlass_tests::app::App;
use windlass_tests::fleet;
use windlass_tests::http::free_port;
use windlass_tests::run::run;

#[test]
fn a_bundle_signed_by_a_foreign_key_runs_on_no_host() {
    let fleet = fleet::new().hosts(2).up();
    let app = App::new("web", free_port(2));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);

    // Somebody with full access to the coordinator, but another key than the one that the hosts trust.
    let key = fleet.dir().join("keys/author.key");
    std::fs::rename(&key, fleet.dir().join("keys/true.key")).unwrap();
    let foreign = windlass_proto::bundle::AuthorKey::generate().unwrap();
    std::fs::write(&key, foreign.to_pem().unwrap()).unwrap();
    let refused = fleet.deploy(&app.version("6.6.6"), "6.6.6").expect(3);
    assert!(refused.stderr.contains("signed") || refused.stderr.contains("signature"), "{}", refused.stderr);
    fleet.serves(app.port, "1.0");
    // Either host may be the first to refuse it; the other is then told to leave it.
    let rollout = fleet.newest_rollout().unwrap();
    let why = fleet.json(&["why", rollout["id"].as_str().unwrap()]);
    assert_eq!(why["fault"], "policy", "{why}");
}

#[test]
fn an_operator_without_a_certificate_of_this_fleet_is_refused() {
    let (fleet, other) = (fleet::new().hosts(1).up(), fleet::new().hosts(1).up());
    for file in ["admin.pem", "admin.key"] {
        std::fs::copy(other.dir().join(file), fleet.dir().join(file)).unwrap();
    }
    let refused = fleet.windlass(&["host", "list"]);
    assert!([4, 5].contains(&refused.code), "{}: {}", refused.code, refused.stderr);
    assert!(refused.stdout.is_empty(), "{}", refused.stdout);
}

#[test]
fn what_was_asked_for_cannot_be_taken_out_of_the_audit_log_unnoticed() {
    let fleet = fleet::new().hosts(1).up();
    fleet.windlass(&["host", "cordon", "host-1"]).expect(0);
    fleet.windlass(&["host", "cordon", "host-9"]).expect(1);
    let log = fleet.json(&["audit"]);
    let calls =
        log["records"].as_array().unwrap().iter().filter(|record| record["method"] != "issue-operator");
    let told = calls.map(|record| {
        let text = |field: &str| record[field].as_str().unwrap().to_owned();
        [text("who"), text("method"), text("outcome").chars().take(12).collect()]
    });
    let told: Vec<[String; 3]> = told.collect();
    let record = |who: &str, method: &str, outcome: &str| [who, method, outcome].map(str::to_owned);
    assert_eq!(
        told,
        [
            record("operator/admin", "FleetService/CreateToken", "done"),
            record("anonymous", "AgentService/Enroll", "done"),
            record("operator/admin", "FleetService/CordonHost", "done"),
            record("operator/admin", "FleetService/CordonHost", "unknown host"),
        ]
    );

    // Somebody uncordons the host and puts the coordinator's former state back.
    fleet.kill_coordinator();
    let state = fleet.dir().join("coordinator");
    let former = fleet.dir().join("former");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        run(Command::new("cp").arg("--archive").arg(from).arg(to)).expect(0);
    };
    copy(&state, &former);
    fleet.start();
    fleet.windlass(&["host", "uncordon", "host-1"]).expect(0);
    let known = fleet.json(&["audit", "--check"])["head"].as_str().unwrap().to_owned();
    fleet.windlass(&["audit", "--check", &known]).expect(0);
    fleet.kill_coordinator();
    std::fs::remove_dir_all(&state).unwrap();
    copy(&former, &state);
    fleet.start();
    // This machine knows; whoever comes from another has to be told.
    fleet.windlass(&["audit", "--check"]).expect(1).says("now the log ends with record 5");
    let missing = fleet.windlass(&["audit", "--check", &known]).expect(1);
    missing.says("ends with record 5, and record 6 was there");
    fleet.windlass(&["host", "release", "host-1", "--yes"]).expect(0);
    let replaced = fleet.windlass(&["audit", "--check", &known]).expect(1);
    replaced.says("record 6 is another one than the one you know");
}
