//! Processes of the fleet: started so that they outlive us, told from later ones with the same number, stopped in bounded time.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::wait::until;
use crate::error::{ExpectedError, Result};

/// A process, by its number and the time it started; the number alone may be another's tomorrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Field 22 of /proc/PID/stat: clock ticks after boot.
    pub start_ticks: u64,
}

impl Process {
    /// The process that has this number now; `None` when there is none or it has ended and waits for its parent.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_ticks) = parse_stat(&stat)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start_ticks })
    }

    /// True while this very process runs.
    pub fn is_alive(self) -> bool {
        // Where it is our own child, its end must be collected; otherwise this does nothing.
        let _ = waitpid(self.os_pid(), Some(WaitPidFlag::WNOHANG));
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, if the process still runs.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            // It may end between the look and the signal, which is what was wanted.
            let _ = kill(self.os_pid(), signal);
        }
    }

    /// SIGTERM, then SIGKILL after `grace`. False when even that did not end it.
    pub async fn stop(self, grace: Duration) -> bool {
        self.signal(Signal::SIGTERM);
        if self.ends_within(grace).await {
            return true;
        }
        self.signal(Signal::SIGKILL);
        self.ends_within(Duration::from_secs(5)).await
    }

    /// Waits for the end.
    pub async fn ends_within(self, limit: Duration) -> bool {
        until(limit, async || (!self.is_alive()).then_some(())).await.is_some()
    }

    fn os_pid(self) -> Pid {
        Pid::from_raw(i32::try_from(self.pid).unwrap_or(i32::MAX))
    }
}

/// State and start time of a /proc/PID/stat line. The second field is a name in parentheses that may hold anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// This boot of the machine; start times compare only within one.
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Starts `program` in a session of its own with its output appended to `log`. `windlass` is this program, which
/// makes the session and then becomes `program`, so that the pid stays.
pub fn spawn_detached<A: AsRef<OsStr>>(
    windlass: &Path,
    program: &Path,
    args: impl IntoIterator<Item = A>,
    log: &Path,
) -> Result<Process> {
    let failed =
        |what: &Path, error| ExpectedError::failed(format!("cannot start {}", what.display())).because(error);
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let stdout = open().map_err(|error| failed(log, error))?;
    let stderr = open().map_err(|error| failed(log, error))?;
    let child = Command::new(windlass)
        .arg("dev-session")
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|error| failed(program, error))?;
    Process::of(child.id()).ok_or_else(|| {
        ExpectedError::failed(format!("{} ended as soon as it was started", program.display()))
            .cause(log_tail(log, 10))
    })
}

/// The last lines of a log.
pub fn log_tail(log: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    let tail = all[all.len().saturating_sub(lines)..].join("\n");
    let name = log.display();
    if tail.is_empty() { format!("{name} is empty") } else { format!("the end of {name}:\n{tail}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_hostile_names_are_read() {
        let line = "12 (a) R) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        assert_eq!(parse_stat(line), Some(('S', 4711)));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[tokio::test]
    async fn a_process_is_known_by_its_start_and_stopped() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.is_alive());
        assert!(!Process { start_ticks: process.start_ticks + 1, ..process }.is_alive());
        assert!(process.stop(Duration::from_secs(5)).await);
        assert!(!process.is_alive());
        // Looking at it has collected it already.
        assert!(child.wait().is_err());
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        std::fs::write(&log, "1\n2\n3\n").unwrap();
        assert!(log_tail(&log, 2).ends_with("2\n3"));
        assert!(log_tail(&dir.path().join("none"), 2).ends_with("is empty"));
    }
}
