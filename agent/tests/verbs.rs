//! The agent's binary as people and service managers use it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use windlass_agent::control::{AgentStatus, Question, ask};
use windlass_agent::layout::Layout;
use windlass_proto::digest::Digest;
use windlass_proto::tls::JoinToken;

/// Any public key.
const KEY: &str = "A0kASSEyLhEnDaOQ2AY34Eex4Yz8jMpUdQNcd595yX4=";

const DEADLINE: Duration = Duration::from_secs(20);

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// A host whose coordinator nobody answers for.
    fn new(token: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nobody: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "name = \"host-1\"\naddress = \"127.0.1.1\"\nstate_dir = \"state\"\nrun_dir = \"run\"\n\
             coordinators = [\"{nobody}\"]\njoin_token = \"{token}\"\n[policy]\nallow_root = true\nauthor_keys = [\"ed25519:{KEY}\"]\n"
        );
        fs::write(dir.path().join("agent.toml"), text).unwrap();
        Self { dir }
    }

    fn config(&self) -> String {
        self.dir.path().join("agent.toml").display().to_string()
    }

    fn state(&self) -> String {
        self.dir.path().join("state").display().to_string()
    }

    fn layout(&self) -> Layout {
        Layout::new(self.dir.path().join("state"), self.dir.path().join("run")).unwrap()
    }
}

fn good_token() -> String {
    JoinToken::generate(Digest::from_bytes([1; 32])).unwrap().to_string()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass-agent"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn agent(args: &[&str]) -> Output {
    timeout(DEADLINE, command(args).output()).await.unwrap().unwrap()
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn status(layout: &Layout) -> AgentStatus {
    let begun = Instant::now();
    loop {
        let layout = layout.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&layout, Question::Status));
        if let Ok(Ok(Some(status))) = asked.await {
            return status;
        }
        assert!(begun.elapsed() < DEADLINE, "the agent does not answer");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn end(mut child: Child, signal: Signal) -> Option<i32> {
    kill(Pid::from_raw(child.id().unwrap().cast_signed()), signal).unwrap();
    timeout(DEADLINE, child.wait()).await.unwrap().unwrap().code()
}

#[tokio::test]
async fn bad_configuration_ends_with_2_and_says_what_to_write() {
    let place = Place::new(&good_token());
    let text = fs::read_to_string(place.config()).unwrap();
    fs::write(place.config(), text.replace("127.0.1.1", "everywhere")).unwrap();
    let output = agent(&["run", "--config", &place.config()]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(says(&output).contains("address: \"everywhere\" is not an IP address"), "{}", says(&output));
    let output = agent(&["run", "--config", "/nonexistent/agent.toml"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(says(&output).contains("/nonexistent/agent.toml"), "{}", says(&output));
}

#[tokio::test]
async fn an_unusable_token_ends_a_host_that_was_never_enrolled() {
    let place = Place::new("wl1.not-a-token");
    let output = agent(&["run", "--config", &place.config()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(says(&output).contains("windlass token create"), "{}", says(&output));
    assert!(!says(&output).contains("not-a-token"), "the token is in the log: {}", says(&output));
}

#[tokio::test]
async fn an_agent_without_a_coordinator_answers_and_ends_when_told() {
    let place = Place::new(&good_token());
    let run = command(&["run", "--config", &place.config()]).spawn().unwrap();
    let seen = status(&place.layout()).await;
    assert_eq!(seen.pid, run.id().unwrap());
    assert!(seen.link.starts_with("not connected"), "{}", seen.link);

    let second = agent(&["run", "--config", &place.config()]).await;
    assert_eq!(second.status.code(), Some(1));
    assert!(says(&second).contains("journal"), "{}", says(&second));
    let refused = agent(&["stop-apps", "--config", &place.config()]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(says(&refused).contains(&format!("pid {}", seen.pid)), "{}", says(&refused));
    for verb in ["releases", "inspect"] {
        let answer = agent(&[verb, "--state-dir", &place.state(), "--json"]).await;
        assert!(answer.status.success(), "{}", says(&answer));
        assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "[]");
    }

    assert_eq!(end(run, Signal::SIGTERM).await, Some(0));
    assert!(!Path::new(&place.layout().control_socket()).exists());
    let answer = agent(&["releases", "--state-dir", &place.state()]).await;
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "no releases on this host");

    // A killed one leaves its socket, which does not stand in the next one's way.
    let run = command(&["run", "--config", &place.config()]).spawn().unwrap();
    let seen = status(&place.layout()).await;
    assert_eq!(end(run, Signal::SIGKILL).await, None);
    let run = command(&["run", "--config", &place.config()]).spawn().unwrap();
    assert_ne!(status(&place.layout()).await.pid, seen.pid);
    assert_eq!(end(run, Signal::SIGINT).await, Some(0));
}

#[tokio::test]
async fn a_state_directory_that_is_not_there_is_named() {
    let output = agent(&["releases", "--state-dir", "/nonexistent/state"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(says(&output).contains("/nonexistent/state"), "{}", says(&output));
}
