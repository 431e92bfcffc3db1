//! What runs an application: the narrow interface that the driver knows, and the runtimes behind it.

pub mod barred;
pub mod data;
pub mod kill;
pub mod process;
pub mod statik;
pub mod surroundings;
pub mod systemd;
pub mod user;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use windlass_proto::id::HostName;
use windlass_proto::phase::Fault;
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::{ReleaseSpec, Runtime as RuntimeSpec};

use crate::config::{HostPolicy, Settings};
use crate::file::FileError;
use crate::shim::order::{Exited, Keeper, RunDir, Started};
use crate::variables::{ExpandError, Values};

/// What a runtime must know of the host.
#[derive(Debug, Clone)]
pub struct HostContext {
    /// The host's name.
    pub name: HostName,
    /// What applications bind and probes dial.
    pub address: IpAddr,
    /// The host's labels.
    pub labels: BTreeMap<String, String>,
    /// What the host allows.
    pub policy: HostPolicy,
}

impl HostContext {
    /// The part of the settings that is about running applications.
    pub fn new(settings: &Settings) -> Self {
        Self {
            name: settings.name.clone(),
            address: settings.address,
            labels: settings.labels.clone(),
            policy: settings.policy.clone(),
        }
    }

    /// What the variables of a release's spec stand for here.
    pub fn values(&self, launch: &Launch) -> Values {
        Values {
            host: self.name.clone(),
            address: self.address,
            labels: self.labels.clone(),
            ports: launch.spec.ports.clone(),
            release: launch.release.clone(),
            dir: launch.dir.clone(),
            data: launch.data.clone(),
        }
    }
}

/// One release of one application, complete on this host.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Which one.
    pub release: ReleaseRef,
    /// How it is run.
    pub spec: ReleaseSpec,
    /// Its tree: `.../releases/<hex>/tree`.
    pub dir: PathBuf,
    /// The application's run directory: `/run/windlass/APP`.
    pub run: RunDir,
    /// Where its output goes: `.../apps/APP/log`.
    pub logs: PathBuf,
    /// The application's own directory, the same for all its releases: `.../apps/APP/data`.
    pub data: PathBuf,
}

/// What stopping came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Something was running.
    pub ran: bool,
    /// How many processes did not end by themselves within the grace time.
    pub killed: usize,
    /// How the application ended, where known.
    pub exit: Option<Exited>,
}

/// Starts and stops applications. Every method may be repeated: it finds what a former call has done.
#[async_trait]
pub trait Runtime: std::fmt::Debug + Send + Sync {
    /// Starts a release, or finds it already running. `None` where the runtime has no process.
    async fn start(&self, launch: &Launch) -> Result<Option<Started>, RuntimeError>;

    /// Stops whatever runs of the application: its stop signal, then after the grace time SIGKILL to all of it.
    async fn stop(&self, launch: &Launch) -> Result<Stopped, RuntimeError>;

    /// What runs of the application, whoever started it; also after the agent was killed.
    async fn find(&self, launch: &Launch) -> Option<Started>;

    /// Rewrites what keeps a release running as this version of the agent writes it, without touching what runs.
    async fn renew(&self, _: &Launch) -> Result<(), RuntimeError> {
        Ok(())
    }
}

/// The runtimes of this host.
#[derive(Debug)]
pub struct Runtimes {
    process: process::ProcessRuntime,
    systemd: systemd::SystemdRuntime,
    statik: statik::StaticRuntime,
}

impl Runtimes {
    /// `shim` is the program that has the hidden verb: the agent itself. `program` is the same by a path that stays.
    pub fn new(host: HostContext, shim: PathBuf, program: PathBuf) -> Self {
        Self {
            process: process::ProcessRuntime::new(host.clone(), shim),
            systemd: systemd::SystemdRuntime::new(host.clone(), program),
            statik: statik::StaticRuntime::new(host),
        }
    }

    /// The runtime that a release's spec asks for.
    pub fn of(&self, spec: &RuntimeSpec) -> &dyn Runtime {
        match spec {
            RuntimeSpec::Process { .. } => &self.process,
            RuntimeSpec::Systemd { .. } => &self.systemd,
            RuntimeSpec::Static { .. } => &self.statik,
        }
    }
}

/// Grace for what is found running of another release when one is started: the machine has stopped it before, so
/// this is a remainder.
const REMAINDER_GRACE: Duration = Duration::from_secs(5);

/// Ends what still runs of an application, whichever runtime started it.
pub(crate) async fn end_remainder(run: &RunDir) -> Result<(), RuntimeError> {
    match run.read_started() {
        Some(former) => end(run, &former, Signal::SIGTERM, REMAINDER_GRACE).await.map(drop),
        None => Ok(()),
    }
}

/// Ends what was started, by its unit or by its shim; `first` is for the latter, a unit has its own stop signal.
pub async fn end(
    run: &RunDir,
    started: &Started,
    first: Signal,
    grace: Duration,
) -> Result<Stopped, RuntimeError> {
    match &started.keeper {
        Keeper::Shim(_) => kill::stop(run, started, first, grace).await,
        Keeper::Unit { name, .. } => systemd::stop(run, started, name, grace).await,
    }
}

/// Why an application could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A text of the spec cannot be expanded here.
    #[error("release.runtime: {0}")]
    Variable(#[source] ExpandError),
    /// The command is empty.
    #[error("release.runtime.command is empty")]
    NoCommand,
    /// The program does not exist.
    #[error("{} does not exist; release.runtime.command is relative to the release's files", .0.display())]
    NoProgram(PathBuf),
    /// It is no executable file.
    #[error("{} is not an executable file; set its executable bit before building the bundle", .0.display())]
    NotExecutable(PathBuf),
    /// `stop.signal` is no signal.
    #[error("unknown stop signal {0:?}; use a name as SIGTERM or SIGINT")]
    UnknownSignal(String),
    /// A user the host does not have.
    #[error("this host has no user {0:?}; create it, or change release.runtime.user")]
    NoUser(String),
    /// The users cannot be looked up.
    #[error("cannot look up user {0:?}")]
    UserLookup(String, #[source] std::io::Error),
    /// The host's policy refuses the user.
    #[error("this host's policy does not let applications run as {user}; {hint}")]
    UserRefused {
        /// Who.
        user: String,
        /// What to change.
        hint: &'static str,
    },
    /// The agent cannot become that user.
    #[error("the agent is not root and cannot run applications as {0:?}")]
    CannotSwitch(String),
    /// A port of the release is taken.
    #[error("port {port} of {address} is in use by {holder}; free it, or change release.ports.{name}")]
    PortInUse {
        /// The port's name in the spec.
        name: String,
        /// The port.
        port: u16,
        /// The host's address.
        address: IpAddr,
        /// Who has it, as far as can be seen.
        holder: String,
    },
    /// A file of the run directory.
    #[error("cannot prepare the start")]
    File(#[from] FileError),
    /// The shim could not be started, or did not answer.
    #[error("cannot start the shim {}", .0.display())]
    Shim(PathBuf, #[source] std::io::Error),
    /// The shim could not start the application.
    #[error("{reason}")]
    NotStarted {
        /// Why.
        reason: String,
        /// Whether the release is at fault.
        by_app: bool,
    },
    /// systemd.
    #[error(transparent)]
    Systemd(#[from] systemd::bus::BusError),
    /// A bundle's own unit is none.
    #[error("{} is not a unit: {}", .0.display(), .1)]
    NotAUnit(PathBuf, &'static str),
    /// A unit of the bundle where root is not allowed.
    #[error(
        "this host's policy does not let releases bring units of their own, for a unit can do anything; leave release.runtime.unit to the agent, or set policy.allow_root = true in agent.toml"
    )]
    UnitRefused,
    /// The unit ran, but what it is could not be written down.
    #[error("{unit} was started, but {} could not be written; it was stopped again", path.display())]
    Unrecorded {
        /// The unit.
        unit: String,
        /// The record.
        path: PathBuf,
    },
    /// What runs in a unit is not known for sure.
    #[error(transparent)]
    Record(#[from] systemd::record::RecordError),
    /// The host lets the user not run the program.
    #[error("cannot run {}: {why}", program.display())]
    Barred {
        /// The program.
        program: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// Processes outlive SIGKILL.
    #[error("processes {pids:?} do not end although they were killed; they may hang in the kernel")]
    Unkillable {
        /// Which.
        pids: Vec<u32>,
    },
    /// The reload command of a static release.
    #[error("reload {command:?} {what}")]
    Reload {
        /// The command.
        command: Vec<String>,
        /// What happened, with its last output.
        what: String,
    },
}

impl RuntimeError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NoCommand
            | Self::NoProgram(_)
            | Self::NotExecutable(_)
            | Self::UnknownSignal(_)
            | Self::NotAUnit(..)
            | Self::Reload { .. }
            | Self::NotStarted { by_app: true, .. } => Fault::App,
            Self::Variable(ExpandError::NoLabel { .. })
            | Self::NoUser(_)
            | Self::CannotSwitch(_)
            | Self::PortInUse { .. }
            | Self::Unkillable { .. }
            | Self::Barred { .. }
            | Self::File(_)
            | Self::NotStarted { by_app: false, .. } => Fault::Host,
            Self::Variable(_) => Fault::App,
            Self::Systemd(error) if error.by_app() => Fault::App,
            Self::Systemd(_) | Self::Record(_) | Self::Unrecorded { .. } => Fault::Host,
            Self::UserRefused { .. } | Self::UnitRefused => Fault::Policy,
            Self::UserLookup(..) | Self::Shim(..) => Fault::Agent,
        }
    }
}

/// How long a started process without any probe must stay alive before it counts as started.
pub const ALIVE_IS_STARTED: Duration = Duration::from_secs(1);
