//! The release part of a spec: what the authors say of the app; signed with the bundle.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, CpuQuota, EnvName, Hooks};
use crate::time::Span;

/// How the app is run, probed, drained and stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseSpec {
    /// What goes into the bundle: a directory or one file, relative to windlass.yaml. Not part of the manifest.
    #[serde(default, skip_serializing)]
    pub files: String,
    /// What runs the app on a host.
    pub runtime: Runtime,
    /// Named ports, for `{port.NAME}` and the probes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// When the app counts as started, ready and alive.
    #[serde(default)]
    pub probes: Probes,
    /// Checks that must pass once, after readiness and before traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub smoke: Vec<Probe>,
    /// How the app is taken out of traffic.
    #[serde(default)]
    pub drain: Drain,
    /// How the app is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// Commands on the way from one release to the next.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
}

impl ReleaseSpec {
    /// The manifest format that this spec needs: a later one only where it says what an earlier reader does not know.
    pub fn format(&self) -> u32 {
        let systemd = matches!(self.runtime, Runtime::Systemd { .. });
        if systemd || !self.hooks.is_empty() { 2 } else { 1 }
    }
}

/// What runs the app on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Runtime {
    /// A process in its own session, found again by pid, start time and boot id.
    Process {
        /// Program and arguments; the program is relative to the release directory unless absolute.
        command: Vec<String>,
        /// The user to run as; the agent's own when absent (only then without root).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// Environment; values may hold variables in braces.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<EnvName, String>,
        /// Limits of the process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resources: Option<Resources>,
    },
    /// A unit of systemd, which also starts it at boot and when it fails. Give a command, and the agent writes the unit; or a
    /// unit of your own.
    Systemd {
        /// Program and arguments; the program is relative to the release directory unless absolute.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        command: Vec<String>,
        /// A service file of the bundle, taken as it is; the release is /run/windlass/APP/current. Only where the host's policy
        /// allows root, for a unit can do anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
        /// The user to run as.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// Environment; values may hold variables in braces.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<EnvName, String>,
        /// Limits of the unit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resources: Option<Resources>,
    },
    /// Nothing runs; switching the link is the deployment.
    Static {
        /// Run in the release directory after the link moved.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reload: Vec<String>,
    },
}

impl Runtime {
    /// Whether there is a process while a release is in service.
    pub const fn has_process(&self) -> bool {
        !matches!(self, Self::Static { .. })
    }

    /// The user to run as, where one is named.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Process { user, .. } | Self::Systemd { user, .. } => user.as_deref(),
            Self::Static { .. } => None,
        }
    }

    /// Variables of the app's environment.
    pub fn env(&self) -> impl Iterator<Item = (&EnvName, &String)> {
        let env = match self {
            Self::Process { env, .. } | Self::Systemd { env, .. } => Some(env),
            Self::Static { .. } => None,
        };
        env.into_iter().flatten()
    }

    /// Limits of the app.
    pub const fn resources(&self) -> Option<&Resources> {
        match self {
            Self::Process { resources, .. } | Self::Systemd { resources, .. } => resources.as_ref(),
            Self::Static { .. } => None,
        }
    }
}

/// Limits of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Most memory: of the whole unit (MemoryMax=); the process runtime enforces it as address space (RLIMIT_AS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<ByteSize>,
    /// Most open files (RLIMIT_NOFILE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Most processor time, as a share of one processor (CPUQuota=); only with systemd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<CpuQuota>,
}

/// The three probes, with Kubernetes' names and meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probes {
    /// Passes once when the app has started; the others wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Probe>,
    /// Says whether the app may have traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Probe>,
    /// Says whether the app is alive; failing past its threshold restarts it, or reverts it in trial and watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Probe>,
}

/// One check and how often it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// HTTP GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// TCP connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// A command of the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecProbe>,
    /// Wait before the first check.
    #[serde(default)]
    pub initial_delay: Span,
    /// Time from one check to the next.
    #[serde(default = "five_seconds")]
    pub period: Span,
    /// Longest that one check may take.
    #[serde(default = "three_seconds")]
    pub timeout: Span,
    /// Failures in a row that make the probe fail.
    #[serde(default = "three")]
    pub failure_threshold: u32,
    /// Passes in a row that make it pass.
    #[serde(default = "one")]
    pub success_threshold: u32,
}

/// The one kind of check that a probe makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind<'a> {
    /// HTTP GET.
    Http(&'a HttpProbe),
    /// TCP connect.
    Tcp(&'a TcpProbe),
    /// Command.
    Exec(&'a ExecProbe),
}

impl Probe {
    /// The probe's check; `None` unless exactly one kind is given.
    pub fn kind(&self) -> Option<ProbeKind<'_>> {
        match (&self.http, &self.tcp, &self.exec) {
            (Some(http), None, None) => Some(ProbeKind::Http(http)),
            (None, Some(tcp), None) => Some(ProbeKind::Tcp(tcp)),
            (None, None, Some(exec)) => Some(ProbeKind::Exec(exec)),
            _ => None,
        }
    }
}

/// A named port of the spec, or a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PortRef {
    /// The port itself.
    Number(u16),
    /// A key of `ports`.
    Name(String),
}

/// HTTP GET against the host's address; a status from 200 to 399 passes unless more is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// Path and query.
    pub path: String,
    /// Port by name or number.
    pub port: PortRef,
    /// The one status that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_status: Option<u16>,
    /// A text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_body: Option<String>,
    /// Top-level JSON members that the body must have; values may hold variables in braces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect_json: BTreeMap<String, String>,
}

/// TCP connect to the host's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {
    /// Port by name or number.
    pub port: PortRef,
}

/// A command in the release directory; exit 0 passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecProbe {
    /// Program and arguments, as in `runtime.command`.
    pub command: Vec<String>,
}

/// How the app is taken out of traffic before it stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Time for load balancers to notice.
    #[serde(default)]
    pub delay: Span,
    /// Longest wait for connections to end.
    #[serde(default = "sixty_seconds")]
    pub timeout: Span,
    /// What happens when they do not.
    #[serde(default)]
    pub on_timeout: OnDrainTimeout,
}

/// What happens when connections outlive the drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDrainTimeout {
    /// Cut and count them.
    #[default]
    Continue,
    /// Give up: back into traffic on the old release.
    Abort,
}

/// How the app is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Sent first.
    #[serde(default = "sigterm")]
    pub signal: String,
    /// Then SIGKILL to the whole session after so long.
    #[serde(default = "thirty_seconds")]
    pub grace: Span,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: Span(0), timeout: sixty_seconds(), on_timeout: OnDrainTimeout::default() }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: sigterm(), grace: thirty_seconds() }
    }
}

const fn one() -> u32 {
    1
}
const fn three() -> u32 {
    3
}
const fn three_seconds() -> Span {
    Span::secs(3)
}
const fn five_seconds() -> Span {
    Span::secs(5)
}
const fn thirty_seconds() -> Span {
    Span::secs(30)
}
const fn sixty_seconds() -> Span {
    Span::secs(60)
}
fn sigterm() -> String {
    "SIGTERM".into()
}
