//! What systemd knows of a unit: its newest start, and how that ended.
//!
//! Asked over D-Bus and of systemd alone: what runs in a unit, and whoever wrote its environment, has no say in it.

use std::fmt;
use std::time::Duration;

use tokio::time::timeout;
use windlass_proto::time::Timestamp;
use zbus::{Connection, OwnedObjectPath};

use super::bus::{BusError, SystemdProxy};
use super::memory::{SHORT, VERB};
use crate::runtime::process::killed_by;

/// How long systemd may take to say what it knows.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// How often to look at a unit again when it was restarted during the look.
const LOOKS: usize = 3;

/// The kernel's CLD_EXITED: an exit status, and no signal.
const EXITED: i32 = 1;

/// A command of a unit and how it ended: program, arguments, whether its failure counts, four times, pid, code, status.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property)]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn sub_state(&self) -> zbus::Result<String>;
    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> zbus::Result<Vec<u8>>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Main {
    #[zbus(property)]
    fn control_group(&self) -> zbus::Result<String>;
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property, name = "ExecMainPID")]
    fn exec_main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn exec_main_start_timestamp(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn exec_main_code(&self) -> zbus::Result<i32>;
    #[zbus(property)]
    fn exec_main_status(&self) -> zbus::Result<i32>;
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn exec_stop_post(&self) -> zbus::Result<Vec<Command>>;
}

/// The newest start of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The start's id.
    pub invocation: String,
    /// Its main process.
    pub pid: u32,
    /// The control group of all that it began; empty when all of that is gone.
    pub cgroup: String,
    /// When it was started.
    pub at: Timestamp,
    /// What became of it.
    pub state: Course,
}

/// What became of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// Its main process runs.
    Runs,
    /// Its main process has ended, and what it left is still being ended.
    Ending(End),
    /// Nothing of it is left.
    Ended(End),
}

/// How a main process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// An exit code or a signal.
    pub status: Status,
    /// The kernel has ended a process of the unit for want of memory.
    pub memory_was_short: bool,
}

/// An exit code or a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It ended by itself.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
}

impl Status {
    /// Of what the kernel calls `si_code` and `si_status`; `None` while the process runs.
    pub(super) const fn of(code: i32, status: i32) -> Option<Self> {
        match code {
            0 => None,
            EXITED => Some(Self::Exited(status)),
            _ => Some(Self::Killed(status)),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Killed(signal) => f.write_str(&killed_by(signal)),
        }
    }
}

/// Keeps systemd from forgetting a unit, and with it how it ended, as long as this lives.
#[derive(Debug)]
pub struct Hold {
    connection: Connection,
    unit: String,
}

impl Hold {
    /// Holds a unit, if systemd knows one of this name.
    pub async fn of(unit: &str) -> Result<Self, BusError> {
        within(unit, async {
            let connection = Connection::system().await?;
            match SystemdProxy::new(&connection).await?.ref_unit(unit).await {
                // There is none, or its file is wrong by now: what is known of it can be asked for all the same.
                Ok(()) | Err(zbus::Error::MethodError(..)) => Ok(Self { connection, unit: unit.to_owned() }),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Its newest start; `None` where it was never started.
    pub async fn look(&self) -> Result<Option<Seen>, BusError> {
        let looked = within(&self.unit, async {
            let path = SystemdProxy::new(&self.connection).await?.get_unit(&self.unit).await?;
            // Its properties come by interface, and a start may fall between the two.
            let mut before = self.invocation(&path).await?;
            for _ in 0..LOOKS {
                let seen = self.snapshot(&path, &before).await?;
                let after = self.invocation(&path).await?;
                if before == after {
                    return Ok(seen);
                }
                before = after;
            }
            Ok(None)
        });
        match looked.await {
            // A unit that systemd does not know was never started.
            Err(error) if error.is_unknown_unit() => Ok(None),
            seen => seen,
        }
    }

    async fn invocation(&self, path: &OwnedObjectPath) -> zbus::Result<String> {
        let unit = UnitProxy::builder(&self.connection).path(path.clone()).build().await?;
        Ok(unit.invocation_id().await?.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    async fn snapshot(&self, path: &OwnedObjectPath, invocation: &str) -> zbus::Result<Option<Seen>> {
        let unit = UnitProxy::builder(&self.connection).path(path.clone()).build().await?;
        let main = MainProxy::builder(&self.connection).path(path.clone()).build().await?;
        let (pid, state) = match main.main_pid().await? {
            0 => {
                let status = Status::of(main.exec_main_code().await?, main.exec_main_status().await?);
                let (pid, Some(status)) = (main.exec_main_pid().await?, status) else { return Ok(None) };
                let told = main.result().await? == "oom-kill";
                let memory_was_short = told || main.exec_stop_post().await?.iter().any(says_short);
                let end = End { status, memory_was_short };
                match is_over(&unit.active_state().await?, &unit.sub_state().await?) {
                    true => (pid, Course::Ended(end)),
                    false => (pid, Course::Ending(end)),
                }
            }
            pid => (pid, Course::Runs),
        };
        let at = Timestamp(i64::try_from(main.exec_main_start_timestamp().await? / 1000).unwrap_or(0));
        let (invocation, cgroup) = (invocation.to_owned(), main.control_group().await?);
        Ok(Some(Seen { invocation, pid, cgroup, at, state }))
    }
}

/// Whether nothing of a start is left: also while systemd waits before it makes the next one.
fn is_over(active: &str, sub: &str) -> bool {
    matches!(active, "inactive" | "failed") || sub.starts_with("auto-restart")
}

/// Whether this is the look at the control group's memory, and it found some wanting.
fn says_short((_, words, .., status): &Command) -> bool {
    *status == i32::from(SHORT) && words.iter().any(|word| word == VERB)
}

/// An answer of systemd, within the time that it has.
async fn within<T>(unit: &str, answer: impl Future<Output = zbus::Result<T>>) -> Result<T, BusError> {
    let slow = |_| BusError::Slow { unit: unit.to_owned(), within: LOOK_DEADLINE };
    Ok(timeout(LOOK_DEADLINE, answer).await.map_err(slow)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_systemd_tells_them() {
        assert_eq!(Status::of(0, 0), None);
        assert_eq!(Status::of(1, 3), Some(Status::Exited(3)));
        assert_eq!(Status::of(2, 9), Some(Status::Killed(9)));
        assert_eq!(Status::of(3, 6), Some(Status::Killed(6)));
        for (active, sub, over) in [
            ("inactive", "dead", true),
            ("failed", "failed", true),
            ("activating", "auto-restart", true),
            ("activating", "auto-restart-queued", true),
            ("deactivating", "stop-post", false),
            ("active", "running", false),
        ] {
            assert_eq!(is_over(active, sub), over, "{active} {sub}");
        }
        let command = |verb: &str, status| {
            let words = vec!["/usr/bin/windlass-agent".to_owned(), verb.to_owned()];
            (String::new(), words, true, 0, 0, 0, 0, 7, 1, status)
        };
        assert!(says_short(&command(VERB, i32::from(SHORT))));
        assert!(!says_short(&command(VERB, 0)) && !says_short(&command("else", i32::from(SHORT))));
    }
}
