//! The hidden verbs `unit-started` and `unit-ended`, which systemd runs with every start and end of an application's unit,
//! whoever asked for it: they write down what the shim writes down of a process.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use nix::sys::signal::Signal;

use crate::clock;
use crate::file::{self, FileError};
use crate::processes::ProcessId;
use crate::shim::order::{self, Exited, Keeper, Order, RunDir, Started};

/// Why nothing was written down.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A variable that systemd sets.
    #[error("{0} is not set; systemd runs this verb, from a unit that the agent has written")]
    Variable(&'static str),
    /// The order.
    #[error("{} does not say what was started", .0.display())]
    NoOrder(PathBuf),
    /// The process ended before it could be looked at.
    #[error("process {0} has ended already")]
    Gone(u32),
    /// The kernel does not say which boot this is.
    #[error("cannot read the boot id from /proc")]
    BootId(#[source] std::io::Error),
    /// A file of the run directory.
    #[error("cannot write down what was started or how it ended")]
    File(#[from] FileError),
}

/// What systemd tells, see systemd.exec(5), "Environment variables in spawned processes".
fn variable(name: &'static str) -> Result<String, RecordError> {
    std::env::var(name).map_err(|_| RecordError::Variable(name))
}

/// Writes `started.json`.
pub fn started(run: &Path) -> Result<(), RecordError> {
    let run = RunDir(run.to_owned());
    let (mark, pid) = (variable("INVOCATION_ID")?, variable("MAINPID")?);
    let pid: u32 = pid.parse().map_err(|_| RecordError::Variable("MAINPID"))?;
    let order: Order = order::read(&run.order())?.ok_or_else(|| RecordError::NoOrder(run.order()))?;
    let app = ProcessId::of(pid).ok_or(RecordError::Gone(pid))?;
    let cgroup = app.cgroup().ok_or(RecordError::Gone(pid))?;
    let started = Started {
        keeper: Keeper::Unit { name: super::name(&order.release.app), cgroup },
        app,
        boot_id: clock::boot_id().map_err(RecordError::BootId)?,
        release: order.release,
        mark,
        program: order.program,
        args: order.args,
        dir: order.dir,
        log: None,
        at: clock::wall(),
    };
    let content = serde_json::to_vec_pretty(&started).unwrap_or_default();
    Ok(file::replace(&run.started(), &content, 0o640)?)
}

/// Writes `exit.json`.
pub fn ended(run: &Path) -> Result<(), RecordError> {
    let run = RunDir(run.to_owned());
    let (mark, result) = (variable("INVOCATION_ID")?, variable("SERVICE_RESULT")?);
    // Not set where the program was never run.
    let (how, status) =
        (variable("EXIT_CODE").unwrap_or_default(), variable("EXIT_STATUS").unwrap_or_default());
    let exited = exited(mark, &result, &how, &status, memory_was_short());
    Ok(file::replace(&run.exited(), &serde_json::to_vec(&exited).unwrap_or_default(), 0o640)?)
}

fn exited(mark: String, result: &str, how: &str, status: &str, memory_was_short: bool) -> Exited {
    let is_signal = matches!(how, "killed" | "dumped");
    let signal = is_signal.then(|| Signal::from_str(&format!("SIG{status}")).ok()).flatten();
    Exited {
        mark,
        code: if how == "exited" { status.parse().ok() } else { None },
        signal: signal.map(|signal| signal as i32),
        out_of_memory: result == "oom-kill" || (signal == Some(Signal::SIGKILL) && memory_was_short),
        at: clock::wall(),
        output: None,
    }
}

/// Whether the kernel has ended a process of this control group for want of memory. systemd tells of that itself, but only
/// with control groups of version 2.
fn memory_was_short() -> bool {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.split_once(":memory:"));
    let Some((_, own)) = own else { return false };
    let control = format!("/sys/fs/cgroup/memory{own}/memory.oom_control");
    let text = std::fs::read_to_string(control).unwrap_or_default();
    text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_systemd_tells_them() {
        let end = |result, how, status, short| {
            let exited = exited("m".into(), result, how, status, short);
            (exited.code, exited.signal, exited.out_of_memory)
        };
        assert_eq!(end("success", "exited", "0", false), (Some(0), None, false));
        assert_eq!(end("exit-code", "exited", "3", true), (Some(3), None, false));
        assert_eq!(end("signal", "killed", "SEGV", false), (None, Some(11), false));
        assert_eq!(end("core-dump", "dumped", "ABRT", false), (None, Some(6), false));
        assert_eq!(end("oom-kill", "killed", "KILL", false), (None, Some(9), true));
        assert_eq!(end("signal", "killed", "KILL", true), (None, Some(9), true));
        assert_eq!(end("resources", "", "", false), (None, None, false));
    }
}
