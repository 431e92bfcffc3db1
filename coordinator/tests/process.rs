//! The process itself: its words when it cannot start, and its end.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use std::net::TcpListener;
use std::process::Command;

use harness::{Coordinator, binary};

fn run(args: &[&str]) -> (bool, String) {
    let output = Command::new(binary()).args(args).env("WINDLASS_LOG", "error").output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_taken_port_is_named_with_the_option_that_changes_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state").display().to_string();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (option, other) in [("--agent-listen", "--operator-listen"), ("--operator-listen", "--agent-listen")]
    {
        let args = ["run", "--fleet", "t", "--state-dir", &state, option, &address, other, "127.0.0.1:0"];
        let (ok, words) = run(&args);
        assert!(!ok && words.contains(&address) && words.contains(option), "{words}");
        assert!(words.starts_with("error: ") && words.contains("Address already in use"), "{words}");
    }
}

#[test]
fn wrong_settings_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("coordinator.toml");
    std::fs::write(&file, "fleet = 'x'\nstate-dir = '/tmp'\n").unwrap();
    let file = file.display().to_string();
    for (args, word) in [
        (&["run", "--config", &file][..], "state-dir"),
        (&["run", "--fleet", "x"], "--state-dir"),
        (&["run", "--fleet", "X Y", "--state-dir", "/nowhere"], "invalid fleet name"),
        (
            &["issue-operator", "--state-dir", "/nowhere", "--name", "a", "--out", "/nowhere"],
            "windlass-coordinator run",
        ),
    ] {
        let (ok, words) = run(args);
        assert!(!ok && words.starts_with("error: ") && words.contains(word), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_a_second_process_is_told() {
    let mut coordinator = Coordinator::start().await;
    let state = coordinator.state().display().to_string();
    let any = "127.0.0.1:0";
    let args =
        ["run", "--fleet", "test", "--state-dir", &state, "--agent-listen", any, "--operator-listen", any];
    let (ok, words) = run(&args);
    assert!(!ok && words.contains("another coordinator runs"), "{words}");
    let mut operator = coordinator.operator().await;
    let follow = windlass_proto::rpc::EventsRequest { follow: true, ..Default::default() };
    let mut events = operator.fleet.events(follow).await.unwrap().into_inner();
    let started = std::time::Instant::now();
    assert_eq!(coordinator.stop().await, Some(0));
    assert!(started.elapsed().as_secs() < 10, "open streams do not hold the end up");
    while let Ok(Some(_)) = events.message().await {}
    let words = run(&[
        "run",
        "--fleet",
        "other",
        "--state-dir",
        &coordinator.state().display().to_string(),
        "--agent-listen",
        any,
        "--operator-listen",
        any,
    ])
    .1;
    assert!(words.contains("holds the state of fleet test"), "{words}");
}
