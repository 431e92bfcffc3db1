//! An operator: somebody with the CLI and a context.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::programs::program;
use crate::run::{Ended, Running, run, start, start_with};

/// Whoever uses the CLI with this configuration.
#[derive(Debug, Clone)]
pub struct Operator {
    /// `WINDLASS_CONFIG`.
    pub config: PathBuf,
    /// The CLI.
    pub cli: PathBuf,
    /// What else its environment has.
    pub env: Vec<(String, String)>,
}

impl Operator {
    /// With the CLI that was just built, and this configuration.
    pub fn new(config: PathBuf) -> Self {
        Self { config, cli: program("windlass"), env: Vec::new() }
    }

    /// A command of the CLI.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.cli);
        command.args(args).env("WINDLASS_CONFIG", &self.config);
        command.env_remove("WINDLASS_CONTEXT").env("NO_COLOR", "1");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the CLI.
    pub fn windlass(&self, args: &[&str]) -> Ended {
        run(&mut self.command(args))
    }

    /// Starts the CLI in the background.
    pub fn windlass_start(&self, args: &[&str]) -> Running {
        start(&mut self.command(args))
    }

    /// Runs the CLI on a terminal of its own, on which `answer` is typed; all that it shows is in `stdout`. Needs `script`.
    pub fn windlass_on_terminal(&self, args: &[&str], answer: &str) -> Ended {
        let quoted = |arg: &str| format!("'{}'", arg.replace('\'', r"'\''"));
        let cli = self.cli.to_str().unwrap();
        let line: Vec<String> = std::iter::once(cli).chain(args.iter().copied()).map(quoted).collect();
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &line.join(" "), "/dev/null"]);
        command.env("WINDLASS_CONFIG", &self.config).env_remove("WINDLASS_CONTEXT");
        command.env("NO_COLOR", "1").env("TERM", "dumb").env("SHELL", "/bin/sh");
        let typed = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&typed, answer).unwrap();
        start_with(&mut command, typed.reopen().unwrap().into()).finish()
    }

    /// Runs a verb that prints JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        self.windlass(&all).expect(0).json()
    }

    /// `windlass deploy` of a spec.
    pub fn deploy(&self, spec: &Path, version: &str) -> Ended {
        self.windlass(&["deploy", "-f", spec.to_str().unwrap(), "--version", version, "--yes"])
    }

    /// The same in the background.
    pub fn deploy_start(&self, spec: &Path, version: &str) -> Running {
        self.windlass_start(&["deploy", "-f", spec.to_str().unwrap(), "--version", version, "--yes"])
    }

    /// Rows of `windlass versions APP`, by host.
    pub fn versions(&self, app: &str) -> BTreeMap<String, Value> {
        let versions = self.json(&["versions", app]);
        let rows = versions["rows"].as_array().unwrap().clone();
        rows.into_iter().map(|row| (row["host"].as_str().unwrap().to_owned(), row)).collect()
    }

    /// The newest rollout as JSON.
    pub fn newest_rollout(&self) -> Option<Value> {
        let list = self.windlass(&["rollout", "list", "-o", "json"]);
        if list.code != 0 {
            return None;
        }
        let rollouts = list.json()["rollouts"].as_array()?.clone();
        rollouts.into_iter().max_by_key(|rollout| rollout["started_at"].to_string())
    }
}
