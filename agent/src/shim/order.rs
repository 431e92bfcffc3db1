//! What agent and shim tell each other through files in the application's run directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::Timestamp;

use super::ends::Output;
use crate::file::{FileError, read_bounded};
use crate::processes::ProcessId;

/// Largest of these files.
const FILE_BYTES: u64 = 1024 * 1024;

/// Name of the environment variable that marks every process of one start.
pub const MARK: &str = "WINDLASS_START";

/// What the shim shall run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The release it belongs to.
    pub release: ReleaseRef,
    /// A random name of this start; stands in the environment of all that comes from it.
    pub mark: String,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments, without the program.
    pub args: Vec<String>,
    /// Working directory: the release's tree.
    pub dir: PathBuf,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The user to become; absent: stay who we are.
    pub user: Option<UserIds>,
    /// Most address space in bytes.
    pub memory_max: Option<u64>,
    /// Most open files.
    pub open_files: Option<u64>,
    /// Where output goes; without it, its two ends are told with the exit.
    pub log: Option<PathBuf>,
}

/// A user by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIds {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// What all that an application begins is found by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeper {
    /// The shim: parent of the application, leader of its session and subreaper.
    Shim(ProcessId),
    /// A unit of systemd.
    Unit {
        /// Its name.
        name: String,
        /// Its control group, as /proc/PID/cgroup has it.
        cgroup: String,
    },
}

/// `started.json`: what was started. Enough to find it again, and to know that it is no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// What keeps it.
    pub keeper: Keeper,
    /// The application: leader of its process group.
    pub app: ProcessId,
    /// The boot in which both exist.
    pub boot_id: String,
    /// The release.
    pub release: ReleaseRef,
    /// The order's mark; of a unit, the invocation's id.
    pub mark: String,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The release's tree.
    pub dir: PathBuf,
    /// Where output goes.
    pub log: Option<PathBuf>,
    /// When it was started, by the wall clock.
    pub at: Timestamp,
}

impl Started {
    /// The shim, where there is one.
    pub const fn shim(&self) -> Option<ProcessId> {
        match self.keeper {
            Keeper::Shim(shim) => Some(shim),
            Keeper::Unit { .. } => None,
        }
    }
}

/// `exit.json`: how the application ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// The mark of the start that ended.
    pub mark: String,
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel ended it for want of memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    /// When.
    pub at: Timestamp,
    /// What it wrote, where that goes to no log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
}

/// The one line that the shim answers to its starter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The application runs; `started.json` is written.
    Started(Box<Started>),
    /// It could not be started.
    Failed {
        /// Why, naming the path or limit.
        reason: String,
        /// Whether the release asks for something that cannot be run, as a missing program.
        by_app: bool,
    },
}

/// The files of one application's run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(pub PathBuf);

impl RunDir {
    /// The order.
    pub fn order(&self) -> PathBuf {
        self.0.join("order.json")
    }

    /// The application's environment, as its unit reads it.
    pub fn environment(&self) -> PathBuf {
        self.0.join("environment")
    }

    /// What a shim without a starter to talk to says of its start.
    pub fn answer(&self) -> PathBuf {
        self.0.join("answer.json")
    }

    /// What was started last.
    pub fn started(&self) -> PathBuf {
        self.0.join("started.json")
    }

    /// How it ended.
    pub fn exited(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// Exists while load balancers may send traffic.
    pub fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }

    /// What was started last, if anything ever was. A file that cannot be understood counts as none: it is written
    /// atomically, so only a foreign hand can have made it so.
    pub fn read_started(&self) -> Option<Started> {
        read(&self.started()).ok().flatten()
    }

    /// How the start with this mark ended, if it did.
    pub fn read_exited(&self, mark: &str) -> Option<Exited> {
        read::<Exited>(&self.exited()).ok().flatten().filter(|exited| exited.mark == mark)
    }
}

/// Reads a JSON file; `None` when it does not exist or is not what it should be.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    match read_bounded(path, FILE_BYTES) {
        Ok(content) => Ok(serde_json::from_slice(&content).ok()),
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
