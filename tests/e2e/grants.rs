//! The way back past hosts that missed a release, or no longer have it: by a grant of the authors, or not at all and with the
//! command that makes one.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use windlass_proto::bundle::AuthorKey;
use windlass_tests::agent::{Agent, Ways};
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;
use windlass_tests::needs;
use windlass_tests::operator::Operator;
use windlass_tests::wait::until;

use crate::clocks::{faked, library};

const ROLLBACK: &[&str] = &["rollback", "rb", "--yes"];

/// A fleet on 1.2.0 whose last host missed 1.1.0.
fn one_that_missed_a_release(hosts: u32) -> (Fleet, App) {
    let fleet = fleet::new().hosts(hosts).up();
    let app = App::new("rb", free_port(hosts));
    let last = format!("host-{hosts}");
    fleet.deploy(&app.version("1.0.0"), "1.0.0").expect(0);
    fleet.windlass(&["host", "cordon", &last]).expect(0);
    fleet.deploy(&app.version("1.1.0"), "1.1.0").expect(0);
    fleet.windlass(&["host", "uncordon", &last]).expect(0);
    fleet.deploy(&app.version("1.2.0"), "1.2.0").expect(0);
    fleet.serves(app.port, "1.2.0");
    (fleet, app)
}

/// Takes the author's key from the operator's machine; gives another machine that has it.
fn without_author_key(fleet: &Fleet) -> (tempfile::TempDir, Operator) {
    let elsewhere = tempfile::tempdir().unwrap();
    let key = Path::new("keys/author.key");
    for entry in std::fs::read_dir(fleet.dir()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), elsewhere.path().join(entry.file_name())).unwrap();
    }
    std::fs::create_dir(elsewhere.path().join("keys")).unwrap();
    std::fs::copy(fleet.dir().join(key), elsewhere.path().join(key)).unwrap();
    std::fs::remove_file(fleet.dir().join(key)).unwrap();
    let author = Operator::new(elsewhere.path().join("config.toml"));
    (elsewhere, author)
}

fn finding(plan: &Value) -> (String, String) {
    let checks = plan["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == "grant").unwrap_or_else(|| panic!("{plan}"));
    let text = |member: &str| check[member].as_str().unwrap().to_owned();
    (text("level"), text("message"))
}

/// The case of the issue. The operator has an author key: it is signed on the way.
#[test]
fn a_rollback_signs_for_the_host_that_missed_the_release() {
    let (fleet, app) = one_that_missed_a_release(3);
    let done = fleet.windlass(ROLLBACK).expect(0);
    assert!(done.stderr.contains("Granted") && done.stderr.contains("rb 1.1.0"), "{}", done.stderr);
    fleet.serves(app.port, "1.1.0");
    for (host, row) in fleet.versions("rb") {
        assert_eq!(row["version"], "1.1.0", "{host}");
        assert_eq!(row["attested"]["ok"], true, "{host}: {row}");
    }
    let audit = fleet.json(&["audit"]);
    let put = audit["records"].as_array().unwrap().iter().find(|it| it["method"] == "BundleService/PutGrant");
    assert!(put.is_some_and(|it| it["outcome"] == "done"), "{audit}");
}

/// Without an author key nothing is touched, the plan names host and command, and that command elsewhere is the way on. A grant
/// that is not for this, as one up to a lower counter, changes nothing; neither does one that is about to end.
#[test]
fn without_an_author_key_the_command_is_named_and_it_works_elsewhere() {
    let (fleet, app) = one_that_missed_a_release(2);
    let (_elsewhere, author) = without_author_key(&fleet);
    let before = fleet.newest_rollout().unwrap()["id"].clone();
    let refused = || {
        let refused = fleet.windlass(ROLLBACK).expect(7);
        assert!(refused.stderr.contains("host-2"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("host-1"), "{}", refused.stderr);
        assert!(refused.stderr.contains("windlass bundle grant rb 1.1.0"), "{}", refused.stderr);
        assert_eq!(fleet.newest_rollout().unwrap()["id"], before, "nothing was begun");
        refused.stderr
    };
    let said = refused();
    assert!(said.contains("0 of 1 needed signatures") && said.contains("ed25519:"), "{said}");
    fleet.windlass(&["bundle", "grant", "rb", "1.1.0"]).expect(2).says("author key");

    author.windlass(&["bundle", "grant", "rb", "1.1.0", "--up-to", "2"]).expect(0);
    let said = refused();
    assert!(said.contains("the grant is good up to counter 2, and 3 was seen"), "{said}");
    assert!(said.contains("windlass bundle grant rb 1.1.0 --up-to 3"), "{said}");
    author.windlass(&["bundle", "grant", "rb", "1.1.0", "--until", "30s"]).expect(2).says("ends within 1m");
    author
        .windlass(&["bundle", "grant", "rb", "1.1.0", "--until", "1999-01-01T00:00:00Z"])
        .expect(2)
        .says("past");
    author.windlass(&["bundle", "grant", "rb", "9.9.9"]).expect(1).says("9.9.9");

    let granted = author.json(&["bundle", "grant", "rb", "1.1.0"]);
    assert_eq!((granted["kind"].as_str(), granted["up_to"].as_u64()), (Some("Grant"), Some(3)), "{granted}");
    fleet.windlass(ROLLBACK).expect(0);
    fleet.serves(app.port, "1.1.0");
}

/// What a grant allows ends with it, and the plan knows it before any host does.
#[test]
fn a_grant_ends() {
    let (fleet, app) = one_that_missed_a_release(2);
    let (_elsewhere, author) = without_author_key(&fleet);
    let granted = author.json(&["bundle", "grant", "rb", "1.1.0", "--until", "75s"]);
    let spec = app.version("1.1.0");
    let plan = || {
        let args = [
            "plan",
            "-f",
            spec.to_str().unwrap(),
            "--bundle",
            granted["digest"].as_str().unwrap(),
            "-o",
            "json",
        ];
        let planned = fleet.windlass(&args);
        (planned.code, finding(&planned.json()))
    };
    let (code, (level, message)) = plan();
    assert_eq!((code, level.as_str()), (0, "ok"), "{message}");
    let message = until("the grant ends", Duration::from_secs(60), || match plan() {
        (7, (level, message)) if level == "error" => Some(message),
        _ => None,
    });
    assert!(message.contains("the grant that is stored is over, or nearly"), "{message}");
    fleet.windlass(ROLLBACK).expect(7).says("over, or nearly");
    fleet.serves(app.port, "1.2.0");
}

/// The host has the last word, whatever plan foresaw: by the clock of this one the grant is over, and nobody is touched.
#[test]
fn a_host_refuses_a_grant_that_is_over_by_its_own_clock() {
    if !needs::programs(&[("faketime", "faketime")]) {
        return;
    }
    let library = library().expect("faketime's library is where Debian puts it");
    let dir = tempfile::tempdir().unwrap();
    let clock = dir.path().join("clock");
    let (fleet, app) = one_that_missed_a_release(2);
    let mut agent = Agent::take(&fleet, 2, faked(&clock, &library));
    agent.program.kill();
    std::fs::write(&clock, "+3h\n").unwrap();
    let before = agent.sessions_so_far();
    agent.program.restart();
    agent.sessions(before);
    fleet.windlass(&["bundle", "grant", "rb", "1.1.0", "--until", "2h"]).expect(0);
    let (_elsewhere, _author) = without_author_key(&fleet);
    fleet.windlass(ROLLBACK).expect(3).says("the grant ended 1h").says("by this host's clock");
    fleet.serves(app.port, "1.2.0");
    let why = fleet.json(&["why", "host-2"]);
    assert_eq!(why["fault"], "policy", "{why}");
}

/// Hosts remember the three releases that were confirmed before; what is older is fetched again, and not without a word of
/// its authors.
#[test]
fn what_hosts_have_pruned_is_fetched_again_under_a_grant() {
    let fleet = fleet::new().hosts(1).up();
    let app = App::new("rb", free_port(1));
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0"] {
        fleet.deploy(&app.version(version), version).expect(0);
    }
    let bundles = fleet.json(&["bundle", "list", "--app", "rb"]);
    let first =
        bundles["bundles"].as_array().unwrap().iter().find(|bundle| bundle["version"] == "1.0.0").unwrap();
    let releases = fleet.host(1).state_dir.join("apps/rb/releases");
    let hex = first["digest"].as_str().unwrap().trim_start_matches("b3:").to_owned();
    let held = |hex: &str| {
        std::fs::read_dir(&releases)
            .unwrap()
            .flatten()
            .any(|it| it.file_name().to_string_lossy().contains(hex))
    };
    until("the first release is pruned", Duration::from_secs(20), || (!held(&hex)).then_some(()));
    fleet.windlass(&["rollback", "rb", "--to", "1.0.0", "--yes"]).expect(0).says("Granted");
    fleet.serves(app.port, "1.0.0");
    assert!(held(&hex));
}

/// A host that was away when the fleet went back follows under the same grant when it returns, though the author has left.
#[test]
fn a_host_that_was_away_follows_under_the_grant() {
    let (fleet, app) = one_that_missed_a_release(2);
    let mut agent = Agent::take(&fleet, 2, Ways::default());
    agent.program.kill();
    until("host-2 is silent", Duration::from_secs(40), || {
        (fleet.json(&["host", "show", "host-2"])["state"] == "silent").then_some(())
    });
    let done = fleet.windlass(ROLLBACK).expect(0);
    assert!(done.stderr.contains("Granted"), "{}", done.stderr);
    let id = fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned();
    let (_elsewhere, _author) = without_author_key(&fleet);
    agent.program.restart();
    until("host-2 is back", Duration::from_secs(30), || {
        (fleet.json(&["host", "show", "host-2"])["state"] == "ready").then_some(())
    });
    fleet.windlass(&["rollout", "retry", &id]).expect(0);
    fleet.serves(app.port, "1.1.0");
}

/// Two authors have to sign: one alone is told what is lacking, both together in one file are enough.
#[test]
fn of_two_authors_both_have_to_sign() {
    let fleet = fleet::new().hosts(1).up();
    let keys = fleet.dir().join("keys");
    let (one, two) =
        (std::fs::read_to_string(keys.join("author.key")).unwrap(), AuthorKey::generate().unwrap());
    let one = AuthorKey::from_pem(&one).unwrap();
    std::fs::write(keys.join("second.key"), two.to_pem().unwrap()).unwrap();
    let settings = format!(
        "[policy]\nauthor_keys = [\"{}\", \"{}\"]\nthreshold = 2\napps = [\"*\"]\nallow_root = {}\n",
        one.public(),
        two.public(),
        nix::unistd::geteuid().is_root()
    );
    let agent = Agent::take(&fleet, 1, Ways { settings, ..Ways::default() });
    let app = App::new("rb", free_port(1));
    let deploy = |version: &str| {
        let spec = app.version(version);
        let spec = spec.to_str().unwrap();
        fleet
            .windlass(&[
                "deploy",
                "-f",
                spec,
                "--version",
                version,
                "--yes",
                "--key",
                "author",
                "--key",
                "second",
            ])
            .expect(0);
    };
    // Six releases on, the first is forgotten.
    ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5"].into_iter().for_each(deploy);
    let second = fleet.dir().join("second.key");
    std::fs::rename(keys.join("second.key"), &second).unwrap();
    let rollback = ["rollback", "rb", "--to", "1.0", "--yes"];
    let refused = fleet.windlass(&rollback).expect(7).says("1 of 2 needed signatures");
    assert!(refused.stderr.contains(&two.public().to_string()), "{}", refused.stderr);
    fleet.windlass(&["bundle", "grant", "rb", "1.0"]).expect(7).says("bundle sign");
    let file = fleet.dir().join("grant.json");
    let file = file.to_str().unwrap();
    fleet
        .windlass(&["bundle", "grant", "rb", "1.0", "--out", file])
        .expect(0)
        .says("1 of 2 needed signatures");
    fleet.windlass(&["bundle", "push", file]).expect(0).says("1 of 2 needed signatures");
    let refused = fleet.windlass(&rollback).expect(7);
    assert!(refused.stderr.contains("the grant is not believed: it has 1 of 2"), "{}", refused.stderr);
    fleet
        .windlass(&["bundle", "sign", file, "--key", second.to_str().unwrap()])
        .expect(0)
        .says("2 signatures");
    let both = ["--key", &one.public().to_string(), "--key", &two.public().to_string(), "--threshold", "2"];
    fleet.windlass(&[&["bundle", "verify", file][..], &both].concat()).expect(0);
    let shown = fleet.windlass(&["bundle", "show", file]).expect(0).stdout;
    assert!(shown.contains("up to 6"), "{shown}");
    fleet.windlass(&["bundle", "push", file]).expect(0).says("Granted");
    fleet.windlass(&rollback).expect(0);
    fleet.serves(app.port, "1.0");
    drop(agent);
}
