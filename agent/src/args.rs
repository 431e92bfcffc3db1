//! The agent's command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::log::LogFormat;

/// windlass agent: installs releases on this host, runs them, and goes back by itself when they fail.
#[derive(Debug, Parser)]
#[command(name = "windlass-agent", version, max_term_width = 100)]
pub struct Args {
    /// How log lines on stderr look; WINDLASS_LOG sets which ones (as in `info` or `windlass_agent=debug`).
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What the agent can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the agent of this host until SIGTERM; applications keep running when it ends.
    Run {
        /// The agent's configuration, see agent.toml(5).
        #[arg(long, default_value = "/etc/windlass/agent.toml")]
        config: PathBuf,
    },
    /// List the releases this host keeps.
    Releases {
        /// The agent's state directory.
        #[arg(long, default_value = "/var/lib/windlass")]
        state_dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show all the agent knows: applications, journal, links, processes.
    Inspect {
        /// The agent's state directory.
        #[arg(long, default_value = "/var/lib/windlass")]
        state_dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop every application this host runs. The agent must not be running.
    StopApps {
        /// The agent's configuration.
        #[arg(long, default_value = "/etc/windlass/agent.toml")]
        config: PathBuf,
    },
    /// The parent of one application; started by the agent.
    #[command(hide = true)]
    Shim {
        /// The order file that says what to run.
        #[arg(long)]
        order: PathBuf,
        /// Set on the second spawn, which is nobody's child.
        #[arg(long)]
        detached: bool,
    },
}

impl Args {
    /// Does what the command line says.
    pub fn run(self) -> ExitCode {
        if let Err(error) = crate::log::install(self.log_format) {
            return fail(&error, 2);
        }
        match self.verb {
            Verb::Run { config } => match crate::config::load(&config) {
                Ok(_settings) => ExitCode::SUCCESS,
                Err(error) => fail(&error, 2),
            },
            Verb::Shim { order, detached } => crate::shim::run(&order, detached),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Writes an error with its causes to stderr and returns the exit code to end with.
#[expect(clippy::print_stderr, reason = "the one place where the program talks to whoever started it")]
fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  caused by: {error}");
        cause = error.source();
    }
    ExitCode::from(code)
}
