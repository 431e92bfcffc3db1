//! What becomes of a deployment, and the release that makes it so.

use std::fmt;

use windlass_proto::phase::Phase;
use windlass_tests::app::App;

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
    pub(crate) const fn aborted_in(self) -> Option<Phase> {
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

/// How the next release is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Make<'a> {
    pub(crate) runtime: Runtime,
    pub(crate) story: Story,
    pub(crate) version: &'a str,
    /// Whether draining it takes long enough to be aborted meanwhile.
    pub(crate) drains_slowly: bool,
}

impl Make<'_> {
    /// What the story makes of the next release.
    pub(crate) fn write(self, app: &App) {
        let Self { runtime, story, version, drains_slowly } = self;
        let fails = story == Story::FailsProbes;
        let dir = app.dir().join("files");
        let conf = if fails { "healthy_for_ms=400\n" } else { "" };
        std::fs::write(dir.join("app.conf"), format!("version={version}\n{conf}")).unwrap();
        std::fs::write(dir.join("version"), version).unwrap();
        app.script("check", if fails { "exit 1" } else { "exit 0" });
        app.script("hook", "echo $WINDLASS_HOOK");
        let blob = dir.join("blob");
        if story == Story::AbortedStaging {
            // Something that takes a while to fetch, and is not here already.
            std::fs::write(&blob, noise(48 << 20, version)).unwrap();
        } else if blob.exists() {
            std::fs::remove_file(&blob).unwrap();
        }
        let (kind, probes) = match runtime {
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
        let smoke = match runtime {
            Runtime::Process => "{ http: {path: /ready, port: http}, timeout: 1s }",
            Runtime::Static => "{ exec: {command: [check]}, timeout: 1s }",
        };
        let healthy = match story {
            Story::FailsProbes => "1500ms",
            Story::AbortedVerifying => "5s",
            _ => "100ms",
        };
        let drain = if drains_slowly { "delay: 2s, " } else { "" };
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
            port = app.port,
        );
        std::fs::write(app.dir().join("windlass.yaml"), spec).unwrap();
    }
}

/// Bytes that are like no others.
fn noise(bytes: usize, seed: &str) -> Vec<u8> {
    // FNV-1, never 0.
    let step = |state: u64, byte| state.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325, step).max(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes / 8).flat_map(|_| next()).collect()
}
