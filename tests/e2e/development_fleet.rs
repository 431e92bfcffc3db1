//! `windlass dev`: the contract of design/CLI.md.

use std::net::TcpListener;
use std::time::Duration;

use windlass_tests::app::App;
use windlass_tests::fleet::{self, kill_hard};
use windlass_tests::http::free_port;
use windlass_tests::wait::until;

#[test]
fn up_writes_the_record_and_a_context_and_enrols_hosts_with_labels() {
    let fleet = fleet::new().hosts(4).up();
    let record = fleet.record();
    assert_eq!(record["hosts"].as_array().unwrap().len(), 4);
    assert_eq!(record["config"], fleet.dir().join("config.toml").to_str().unwrap());
    for member in ["pid", "address", "state_dir"] {
        assert!(!record["coordinator"][member].is_null(), "{member}");
        assert!(!record["hosts"][3][member].is_null(), "{member}");
    }
    let hosts = fleet.json(&["host", "list"]);
    assert_eq!(hosts["apiVersion"], "windlass/v1");
    assert_eq!(hosts["kind"], "HostList");
    for (host, rack) in hosts["hosts"].as_array().unwrap().iter().zip(["r1", "r2", "r3", "r1"]) {
        assert_eq!(host["state"], "ready", "{host}");
        assert_eq!(host["labels"]["role"], "app");
        assert_eq!(host["labels"]["rack"], rack);
    }
    assert_eq!(fleet.host(4).address, "127.0.1.4");
}

#[test]
fn up_starts_again_only_what_is_not_running() {
    let fleet = fleet::new().hosts(2).up();
    let app = App::new("web", free_port(2));
    fleet.deploy(&app.version("1"), "1").expect(0);
    let (coordinator, first, second) = (fleet.coordinator_pid(), fleet.host(1), fleet.host(2));
    let pids = fleet.versions("web");

    second.kill();
    fleet.start();
    assert_eq!(fleet.coordinator_pid(), coordinator);
    assert_eq!(fleet.host(1).pid, first.pid);
    assert_ne!(fleet.host(2).pid, second.pid);

    fleet.kill_coordinator();
    let address = fleet.record()["coordinator"]["address"].clone();
    fleet.start();
    assert_eq!(fleet.record()["coordinator"]["address"], address, "the same port again");
    until("both hosts are heard of again", Duration::from_secs(20), || {
        let now = fleet.versions("web");
        let same = |host: &str| now[host]["attested"]["pid"] == pids[host]["attested"]["pid"];
        (now.len() == 2 && same("host-1") && same("host-2")).then_some(())
    });
    fleet.serves(app.port, "1");
}

#[test]
fn down_stops_everything_and_state_stays() {
    let fleet = fleet::new().hosts(2).up();
    let app = App::new("web", free_port(2));
    fleet.deploy(&app.version("1"), "1").expect(0);
    let ids = |fleet: &fleet::Fleet| {
        let list = fleet.json(&["host", "list"]);
        list["hosts"].as_array().unwrap().iter().map(|h| h["id"].clone()).collect::<Vec<_>>()
    };
    let before = ids(&fleet);
    let pids: Vec<i64> =
        fleet.versions("web").values().map(|row| row["attested"]["pid"].as_i64().unwrap()).collect();
    fleet.stop().expect(0);
    fleet.stop().expect(0);
    assert_eq!(fleet.says(app.port), [None, None], "apps are stopped");
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists(), "app process {pid} is gone");
    }
    fleet.start();
    assert_eq!(ids(&fleet), before, "hosts are the same hosts");
    fleet.serves(app.port, "1");
}

#[test]
fn wrong_use_is_refused_with_a_way_out() {
    let fleet = fleet::new().hosts(2).up();
    let dir = fleet.dir().to_str().unwrap();
    fleet.windlass(&["dev", "up", "--dir", dir, "--hosts", "1", "--detach"]).expect(2).says("cannot shrink");
    fleet.windlass(&["dev", "up", "--dir", dir, "--hosts", "0", "--detach"]).expect(2).says("1 to 250");
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("thesis.txt"), "x").unwrap();
    let other = other.path().to_str().unwrap();
    fleet
        .windlass(&["dev", "up", "--dir", other, "--detach"])
        .expect(2)
        .says("neither empty nor a development fleet");
    fleet.windlass(&["dev", "down", "--dir", other]).expect(2).says("no development fleet");

    // The coordinator's port is taken by somebody else while it is away.
    let address = fleet.record()["coordinator"]["address"].as_str().unwrap().to_owned();
    kill_hard(fleet.coordinator_pid());
    // An agent that dials may have been given that very number for its own end.
    let squatter = until("the port is free", Duration::from_secs(10), || TcpListener::bind(&address).ok());
    let refused = fleet.windlass(&["dev", "up", "--dir", dir, "--detach"]).expect(7);
    let refused = refused.says(&address).says("taken by another program").says("ss -ltnp");
    assert!(refused.stderr.contains("moves to new ports"), "{}", refused.stderr);
    drop(squatter);
    fleet.start();
}
