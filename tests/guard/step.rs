//! One step: a command that runs to its end, and how long it took.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::tally::Tally;
use crate::{root, target};

/// What went wrong, in words.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

/// The steps so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration)>,
    tally: Option<Tally>,
}

impl Steps {
    /// Runs a step and takes its time, also where it fails.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        println!("\n=== {name}");
        let begun = Instant::now();
        let ended = step();
        self.done.push((name, begun.elapsed()));
        ended
    }

    /// What the tests said is shown at the end.
    pub(crate) fn close_with(&mut self, tally: Tally) {
        self.tally = Some(tally);
    }

    /// The closing words: the tests' tally, the steps' times, and how many tests there were.
    pub(crate) fn show(&self) {
        if let Some(tally) = &self.tally {
            tally.show();
        }
        println!("\n=== seconds by step");
        for (name, time) in &self.done {
            println!("{name:<12} {:>5}", time.as_secs());
        }
        let all: Duration = self.done.iter().map(|(_, time)| *time).sum();
        println!("{:<12} {:>5}", "all", all.as_secs());
        if let Some(tally) = &self.tally {
            println!("\n{}", tally.closing_line());
        }
    }
}

/// Runs cargo.
pub(crate) fn cargo(arguments: &[&str]) -> Result<(), Failed> {
    cargo_with(arguments, &[])
}

/// Runs cargo with these variables.
pub(crate) fn cargo_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<(), Failed> {
    end(prepared(cargo_path(), arguments).envs(variables.iter().copied()))
}

/// Runs another program.
pub(crate) fn program(path: impl AsRef<Path>, arguments: &[&str]) -> Result<(), Failed> {
    end(&mut prepared(path, arguments))
}

/// Runs cargo with these variables; shows what it says on standard error, as nextest does, and keeps it too.
pub(crate) fn read(arguments: &[&str], variables: &[(&str, &str)], said: &mut String) -> Result<(), Failed> {
    let failed = |error| Failed(format!("cargo {}: {error}", arguments.join(" ")));
    let mut child = prepared(cargo_path(), arguments)
        .envs(variables.iter().copied())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut lines = BufReader::new(child.stderr.take().ok_or_else(|| Failed("no standard error".into()))?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        said.push_str(&text);
        line.clear();
    }
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(Failed(format!("cargo {}: {status}", arguments.join(" ")))) }
}

fn end(command: &mut Command) -> Result<(), Failed> {
    let status = command.status().map_err(|error| Failed(format!("{command:?}: {error}")))?;
    if status.success() { Ok(()) } else { Err(Failed(format!("{command:?}: {status}"))) }
}

fn prepared(path: impl AsRef<Path>, arguments: &[&str]) -> Command {
    let mut command = Command::new(path.as_ref());
    let tools = target().join("tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools).chain(std::env::split_paths(&path));
    // The path that was there has been split, so that it can be joined.
    command.env("PATH", std::env::join_paths(paths).unwrap_or(path));
    command.current_dir(root()).args(arguments).stdin(Stdio::null());
    command
}

/// The cargo that runs this.
fn cargo_path() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
