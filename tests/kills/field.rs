//! One host with one app, deployed to again and again while its agent is killed.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use windlass_proto::phase::Phase;
use windlass_release::State;
use windlass_tests::agent::{Agent, Ways};
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::{free_port, get};
use windlass_tests::programs::agent_with_failpoints;
use windlass_tests::properties::Properties;
use windlass_tests::wait::pass;

/// Longest that a deployment may take, kills and all.
const LIMIT: Duration = Duration::from_secs(60);

/// What runs the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Runtime {
    Process,
    Static,
}

/// What becomes of the deployment when nobody is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Story {
    Succeeds,
    /// It succeeds although the agent was killed while verifying: what is passed is the way back into it.
    Resumes,
    FailsProbes,
    AbortedStaging,
    /// It succeeds, and the staging of another one was aborted before.
    FollowsAbort,
    AbortedDraining,
    AbortedVerifying,
}

impl Runtime {
    pub(crate) const ALL: [Self; 2] = [Self::Process, Self::Static];
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Process => "process",
            Self::Static => "static",
        })
    }
}

impl Story {
    pub(crate) const ALL: [Self; 7] = [
        Self::Succeeds,
        Self::Resumes,
        Self::FailsProbes,
        Self::AbortedStaging,
        Self::FollowsAbort,
        Self::AbortedDraining,
        Self::AbortedVerifying,
    ];

    /// In which phase an operator aborts.
    const fn aborted_in(self) -> Option<Phase> {
        match self {
            Self::AbortedStaging => Some(Phase::Staging),
            Self::AbortedDraining => Some(Phase::Draining),
            Self::AbortedVerifying => Some(Phase::Verifying),
            _ => None,
        }
    }

    /// Where the host must end, killed or not.
    pub(crate) const fn end(self) -> Phase {
        match self {
            Self::Succeeds | Self::Resumes | Self::FollowsAbort => Phase::Confirmed,
            Self::FailsProbes | Self::AbortedVerifying => Phase::Reverted,
            Self::AbortedStaging => Phase::Idle,
            Self::AbortedDraining => Phase::Failed,
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Succeeds => "succeeds",
            Self::Resumes => "resumes",
            Self::FailsProbes => "fails probes",
            Self::AbortedStaging => "aborted staging",
            Self::FollowsAbort => "follows abort",
            Self::AbortedDraining => "aborted draining",
            Self::AbortedVerifying => "aborted verifying",
        })
    }
}

/// Where an agent is to be killed: at the N-th pass of a point, from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kill {
    pub(crate) point: String,
    pub(crate) pass: usize,
}

impl Kill {
    pub(crate) fn at(point: &str) -> Self {
        Self { point: point.to_owned(), pass: 1 }
    }

    fn order(&self) -> String {
        match self.pass {
            1 => format!("{}=return(kill)", self.point),
            n => format!("{}={}*off->return(kill)", self.point, n - 1),
        }
    }
}

/// What became of one deployment.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Kills that were real.
    pub(crate) kills: usize,
    /// The phase at the end.
    pub(crate) end: Option<Phase>,
    /// What is not as it must be.
    pub(crate) violations: Vec<String>,
    /// The points passed, in order; of the last agent only where one was killed.
    pub(crate) passed: Vec<String>,
}

/// The host, and what is deployed on it.
pub(crate) struct Field {
    // Ended before the fleet that it is of.
    agent: Agent,
    fleet: Fleet,
    runtime: Runtime,
    app: App,
    /// What is confirmed.
    version: String,
    deployments: u32,
    /// Long enough to be aborted meanwhile.
    drains_slowly: bool,
    points: tempfile::TempDir,
}

impl Field {
    /// A host on which the first release is confirmed.
    pub(crate) fn new(runtime: Runtime) -> Self {
        let fleet = fleet::new().hosts(1).up();
        let points = tempfile::tempdir().unwrap();
        let dir = points.path().to_str().unwrap().to_owned();
        let ways = Ways {
            program: Some(agent_with_failpoints()),
            variables: vec![("WINDLASS_FAILPOINTS_DIR".into(), dir)],
            ..Ways::default()
        };
        let agent = Agent::take(&fleet, 1, ways);
        let app = App::new("web", free_port(1));
        let mut field = Self {
            agent,
            fleet,
            runtime,
            app,
            version: String::new(),
            deployments: 0,
            drains_slowly: false,
            points,
        };
        let first = field.deploy(Story::Succeeds, &[]);
        assert_eq!(first.violations, [""; 0], "the first deployment");
        field
    }

    /// Has on the host what the story begins with. How it drains is up to the release that is drained.
    pub(crate) fn prepare(&mut self, story: Story) {
        let slowly = story == Story::AbortedDraining;
        if slowly != self.drains_slowly {
            self.drains_slowly = slowly;
            let seen = self.deploy(Story::Succeeds, &[]);
            assert_eq!(seen.violations, [""; 0], "in preparation");
        }
        if story == Story::FollowsAbort {
            let seen = self.deploy(Story::AbortedStaging, &[]);
            assert_eq!(seen.violations, [""; 0], "in preparation");
        }
    }

    /// Deploys the next release as the story goes; the agent is killed at the first of these points, the agent after that
    /// at the second, and so on.
    pub(crate) fn deploy(&mut self, story: Story, kills: &[Kill]) -> Seen {
        self.deployments += 1;
        let (old, new) = (self.version.clone(), format!("1.{}", self.deployments));
        self.write(story, &new);
        let mut kills = kills.iter();
        self.forget_passed();
        self.arm(kills.next());
        let (host, port) = (self.fleet.host(1), self.app.port);
        let fleet = &self.fleet;
        let mut properties = Properties::of(fleet, 1);
        let spec = self.app.dir().join("windlass.yaml");
        let order = ["deploy", "-f", spec.to_str().unwrap(), "--version", &new, "--yes", "--detach"];
        fleet.windlass(&order).expect(0);
        let rollout = fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned();

        let deadline = Instant::now() + LIMIT;
        let mut aborted = false;
        let mut killed = 0;
        let state = loop {
            if let Some(status) = self.agent.program.ended() {
                use std::os::unix::process::ExitStatusExt as _;
                assert_eq!(
                    status.signal(),
                    Some(9),
                    "the agent ended otherwise: {}",
                    tail(&self.agent.log())
                );
                killed += 1;
                self.forget_passed();
                self.arm(kills.next());
                self.agent.program.restart();
            }
            let state = properties.state(&self.app.name);
            let own = state.filter(|state| {
                state.operation.as_ref().is_some_and(|operation| operation.rollout.as_str() == rollout)
            });
            let phase = own.as_ref().map(State::phase);
            let in_it = |phase: &str| self.agent.phase(&self.app.name).as_deref() == Some(phase);
            if !aborted
                && own.is_some()
                && story.aborted_in().is_some_and(|at| phase == Some(at) || in_it(at.word()))
            {
                fleet.windlass(&["rollout", "abort", &rollout, "--yes"]).expect(0);
                aborted = true;
            }
            if own.as_ref().is_some_and(State::is_settled) && is_over(fleet, &rollout) {
                break own;
            }
            if Instant::now() > deadline {
                break own;
            }
            pass(Duration::from_millis(10));
        };
        let mut violations = properties.within(Duration::from_secs(20));
        // A kill after the end is seen only now.
        if self.agent.program.ended().is_some() {
            killed += 1;
            self.arm(None);
            self.agent.program.restart();
            violations = properties.within(Duration::from_secs(20));
        }
        let end = state.as_ref().map(State::phase);
        let expected = if end == Some(Phase::Confirmed) { &new } else { &old };
        let says = match self.runtime {
            Runtime::Process => get(&host.address, port, "/").and_then(|answer| answer.member("version")),
            Runtime::Static => {
                let dir = host.state_dir.parent().unwrap().join("run/web/current");
                std::fs::read_to_string(dir.join("version")).ok()
            }
        };
        if says.as_ref() != Some(expected) {
            violations.push(format!("P1: {says:?} is served and not {expected}"));
        }
        if end != Some(story.end()) {
            violations.push(format!("ends {end:?}"));
        }
        if end == Some(Phase::Confirmed) {
            self.version = new;
        }
        Seen { kills: killed, end, violations, passed: self.passed() }
    }

    fn passed_file(&self) -> PathBuf {
        self.points.path().join("passed")
    }

    fn passed(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.passed_file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn forget_passed(&self) {
        // There is none before the first.
        let _ = std::fs::remove_file(self.passed_file());
    }

    fn arm(&self, kill: Option<&Kill>) {
        let (file, next) = (self.points.path().join("arm"), self.points.path().join("next"));
        match kill {
            Some(kill) => {
                std::fs::write(&next, kill.order()).unwrap();
                std::fs::rename(next, file).unwrap();
            }
            None => {
                let _ = std::fs::remove_file(file);
            }
        }
    }

    /// What the story makes of the next release.
    fn write(&self, story: Story, version: &str) {
        let fails = story == Story::FailsProbes;
        let dir = self.app.dir().join("files");
        let conf = if fails { "healthy_for_ms=400\n" } else { "" };
        std::fs::write(dir.join("app.conf"), format!("version={version}\n{conf}")).unwrap();
        std::fs::write(dir.join("version"), version).unwrap();
        script(&dir.join("check"), if fails { "exit 1" } else { "exit 0" });
        script(&dir.join("hook"), "echo $WINDLASS_HOOK");
        let blob = dir.join("blob");
        if story == Story::AbortedStaging {
            // Something that takes a while to fetch, and is not here already.
            std::fs::write(&blob, noise(48 << 20, self.deployments)).unwrap();
        } else if blob.exists() {
            std::fs::remove_file(&blob).unwrap();
        }
        let (kind, probes) = match self.runtime {
            Runtime::Process => (
                r#"{ kind: process, command: [app, "{host.address}:{port.http}", app.conf] }"#,
                "    startup:   { http: {path: /health, port: http}, period: 50ms, timeout: 1s, failure_threshold: 40 }
    readiness: { http: {path: /ready, port: http}, period: 100ms, timeout: 1s, failure_threshold: 2 }
    liveness:  { http: {path: /health, port: http}, period: 100ms, timeout: 1s, failure_threshold: 2 }",
            ),
            Runtime::Static => (
                "{ kind: static, reload: [check] }",
                "    startup:   { exec: {command: [check]}, period: 50ms, timeout: 1s, failure_threshold: 3 }
    readiness: { exec: {command: [check]}, period: 200ms, timeout: 1s, failure_threshold: 2 }",
            ),
        };
        // Its reload would fail first.
        let kind = if fails { kind.replace(", reload: [check]", "") } else { kind.to_owned() };
        let smoke = match self.runtime {
            Runtime::Process => "{ http: {path: /ready, port: http}, timeout: 1s }",
            Runtime::Static => "{ exec: {command: [check]}, timeout: 1s }",
        };
        let healthy = match story {
            Story::FailsProbes => "1500ms",
            Story::AbortedVerifying => "5s",
            _ => "100ms",
        };
        let drain = if self.drains_slowly { "delay: 2s, " } else { "" };
        let spec = format!(
            "apiVersion: windlass/v1
app: web
release:
  files: ./files
  runtime: {kind}
  ports: {{ http: {port} }}
  probes:
{probes}
  smoke: [ {smoke} ]
  drain: {{ {drain}timeout: 0s }}
  stop: {{ grace: 3s }}
  hooks:
    after_block_traffic: [ {{ run: [hook], timeout: 5s, idempotent: true }} ]
    after_install: [ {{ run: [hook], timeout: 5s, idempotent: true }} ]
rollout:
  targets: {{ selector: \"role=app\" }}
  strategy: {{ max_parallel: 1, max_unavailable: 1, min_healthy_time: {healthy}, healthy_deadline: 30s, progress_deadline: 90s }}
  host: {{ confirm_timeout: 15s }}
",
            port = self.app.port,
        );
        std::fs::write(self.app.dir().join("windlass.yaml"), spec).unwrap();
    }
}

fn is_over(fleet: &Fleet, rollout: &str) -> bool {
    let shown = fleet.windlass(&["rollout", "show", rollout, "-o", "json"]);
    let over = ["Succeeded", "RolledBack", "RollbackFailed", "Failed", "Cancelled", "Superseded"];
    shown.code == 0 && over.contains(&shown.json()["state"].as_str().unwrap_or_default())
}

fn script(path: &std::path::Path, line: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{line}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Bytes that are like no others.
fn noise(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes / 8).flat_map(|_| next()).collect()
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
