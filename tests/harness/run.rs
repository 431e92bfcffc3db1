//! One run of a program, with its exit code and both streams.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait::until;

/// Longest that any one command may run.
const LIMIT: Duration = Duration::from_secs(180);

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The command line.
    pub command: String,
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Ended {
    /// Panics unless the program ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.stdout, self.stderr
        );
        self
    }

    /// Panics unless the talk holds `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "{} does not say {text:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }

    /// The data as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}\n{}", self.command, self.stdout, self.stderr))
    }
}

/// Runs a command to its end; kills it, and panics, when it takes too long.
pub fn run(command: &mut Command) -> Ended {
    start(command).finish()
}

/// The same for a command that may take longer.
pub fn run_within(command: &mut Command, limit: Duration) -> Ended {
    start(command).finish_within(limit)
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    readers: [Option<std::thread::JoinHandle<String>>; 2],
}

/// Starts a command in the background.
pub fn start(command: &mut Command) -> Running {
    start_with(command, Stdio::null())
}

/// The same with something to read.
pub fn start_with(command: &mut Command, stdin: Stdio) -> Running {
    let line = format!("{command:?}");
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    Running { command: line, child, readers: [Some(stdout), Some(stderr)] }
}

fn read_all(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A stream that breaks has said all that it will say.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Running {
    /// Waits for its end.
    pub fn finish(self) -> Ended {
        self.finish_within(LIMIT)
    }

    /// Waits for its end for as long as `limit`.
    pub fn finish_within(mut self, limit: Duration) -> Ended {
        let what = format!("the end of {}", self.command);
        let status = until(&what, limit, || self.child.try_wait().unwrap());
        let mut text = self.readers.iter_mut().map(|reader| reader.take().unwrap().join().unwrap());
        let (stdout, stderr) = (text.next().unwrap(), text.next().unwrap());
        Ended { command: self.command.clone(), code: status.code().unwrap_or(-1), stdout, stderr }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `finish` it has ended already; otherwise a test has failed and nothing may stay behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
