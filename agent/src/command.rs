//! Commands of a release that run once and end: exec probes and reload. Bounded in time and output.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use windlass_proto::time::Span;

use crate::pidfd::PidFd;
use crate::runtime::process::killed_by;
use crate::shim::order::UserIds;

/// Output kept of one command; the rest is read and dropped.
pub const OUTPUT_BYTES: usize = 8 * 1024;

/// How long the output may go on after the command's end.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// What one command is.
#[derive(Debug, Clone)]
pub struct OneShot<'a> {
    /// Absolute program.
    pub program: &'a Path,
    /// Its arguments.
    pub args: &'a [String],
    /// Working directory.
    pub dir: &'a Path,
    /// The whole environment.
    pub env: &'a BTreeMap<String, String>,
    /// The user to become.
    pub user: Option<UserIds>,
    /// Killed after so long, with everything in its process group.
    pub limit: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// It ended by itself with code 0.
    pub ok: bool,
    /// Its exit code, where it ended by itself.
    pub code: Option<i32>,
    /// `exit code 1`, `killed by SIGKILL`, `not ended after 3s`.
    pub how: String,
    /// The last output, stdout and stderr as they came.
    pub output: String,
}

/// Ends a process group when it is dropped, so that a cancelled check leaves nothing behind.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        // The leader is not reaped before this, so the number cannot be anybody else's.
        if let Some(pid) = self.0.take() {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Runs a command to its end or its time limit.
pub async fn run(command: OneShot<'_>) -> io::Result<Ended> {
    let (output, input) = io::pipe()?;
    let mut builder = tokio::process::Command::new(command.program);
    builder
        .args(command.args)
        .current_dir(command.dir)
        .env_clear()
        .envs(command.env)
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input);
    if let Some(user) = command.user {
        builder.uid(user.uid).gid(user.gid);
    }
    let mut child = builder.spawn()?;
    // Closes this process's ends of the pipe, so that reading ends with the command.
    drop(builder);
    let pid = child.id().ok_or(io::ErrorKind::NotFound)?;
    let group = Group(Some(pid.cast_signed()));
    let process = PidFd::open(pid)?;
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
    let mut tail = Vec::new();
    let read = async {
        let mut buffer = [0; 2048];
        while let Ok(n @ 1..) = output.read(&mut buffer).await {
            tail.extend_from_slice(&buffer[..n]);
            if tail.len() > 2 * OUTPUT_BYTES {
                tail.drain(..tail.len() - OUTPUT_BYTES);
            }
        }
    };
    let end = async {
        let in_time = timeout(command.limit, process.ended()).await.is_ok();
        drop(group);
        in_time
    };
    // What left the group may keep the pipe open, so the end of the output is not waited for without limit.
    let (in_time, _) = tokio::join!(end, timeout(command.limit + LAST_OUTPUT, read));
    let status = child.wait().await?;
    tail.drain(..tail.len().saturating_sub(OUTPUT_BYTES));
    let how = match (in_time, status.code(), status.signal()) {
        (false, ..) => format!("not ended after {}", Span(command.limit.as_millis() as u64)),
        (true, Some(code), _) => format!("exit code {code}"),
        (true, None, signal) => killed_by(signal.unwrap_or_default()),
    };
    let output = String::from_utf8_lossy(&tail).trim_end().to_owned();
    let code = status.code().filter(|_| in_time);
    Ok(Ended { ok: code == Some(0), code, how, output })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit: Duration) -> Ended {
        let args = ["-c".to_owned(), script.to_owned()];
        let env = BTreeMap::from([("X".to_owned(), "y".to_owned())]);
        let dir = Path::new("/");
        run(OneShot { program: Path::new("/bin/sh"), args: &args, dir, env: &env, user: None, limit })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn code_and_output_are_told() {
        let ended = shell("echo $X; echo oh >&2; exit 3", Duration::from_secs(10)).await;
        assert_eq!((ended.ok, ended.how.as_str(), ended.output.as_str()), (false, "exit code 3", "y\noh"));
        assert!(shell("true", Duration::from_secs(10)).await.ok);
    }

    #[tokio::test]
    async fn time_and_output_are_bounded_and_nothing_is_left() {
        let mark = format!("{:032x}", rand::random::<u128>());
        let script = format!("sleep 1000 & export M={mark}; sh -c 'sleep 1001' & yes | head -c 100000; wait");
        let ended = shell(&script, Duration::from_millis(300)).await;
        assert_eq!((ended.ok, ended.how.as_str()), (false, "not ended after 300ms"));
        assert!(ended.output.len() <= OUTPUT_BYTES);
        let line = format!("M={mark}");
        assert!(!crate::processes::all().iter().any(|p| p.lives() && p.id.has_environment(&line)));
    }
}
