//! The agent's command line.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use serde::Serialize;
use windlass_proto::id::AppName;

use crate::audit_seen;
use crate::config::Settings;
use crate::control::{self, ControlError};
use crate::inspect::{inspect_text, releases_text};
use crate::layout::Layout;
use crate::log::LogFormat;
use crate::pin;
use crate::reset_fence::reset_fence;
use crate::restore_links::restore_links;
use crate::runtime::HostContext;
use crate::runtime::systemd::memory;
use crate::setup::{self, EnrolArgs, SetupError};
use crate::stop_apps::stop_apps;

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
    /// Make this host part of a fleet: configure it, enrol it, start its agent. The join token is read from stdin.
    ///
    /// windlass token create | ssh HOST windlass-agent enrol --coordinator HOST:PORT --author-key ed25519:KEY
    Enrol(EnrolArgs),
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
    /// Keep a release on this host until it is unpinned, whatever retention says.
    Pin(PinArgs),
    /// Let retention have a release that was pinned.
    Unpin(PinArgs),
    /// Stop every application this host runs. The agent must not be running.
    StopApps {
        /// The agent's configuration.
        #[arg(long, default_value = "/etc/windlass/agent.toml")]
        config: PathBuf,
    },
    /// Obey any coordinator of this fleet again, whichever this host has obeyed. The agent must not be running.
    ///
    /// A host obeys the coordinator under which it last accepted a release, and those that come after it. When that one is gone
    /// for good and the coordinator that leads now does not know it (it was restored from an older backup), start that
    /// coordinator with `windlass-coordinator run --after-restore`; where that does not help, use this. Applications go on.
    ResetFence {
        /// The agent's state directory.
        #[arg(long, default_value = "/var/lib/windlass")]
        state_dir: PathBuf,
    },
    /// Make each application's `current` link from what was confirmed, as after a boot. The agent must not be running.
    ///
    /// Needs no network, no free space and no writable state directory. windlass-links.service runs it before the
    /// applications start.
    RestoreLinks {
        /// The agent's configuration.
        #[arg(long, default_value = "/etc/windlass/agent.toml")]
        config: PathBuf,
    },
    /// Write the man page to stdout.
    #[command(hide = true)]
    Man,
    /// Says by its exit status whether memory was short; a unit's last command where systemd cannot tell.
    #[command(hide = true)]
    UnitMemory,
    /// The parent of one application; started by the agent.
    #[command(hide = true)]
    Shim {
        /// The order file that says what to run.
        #[arg(long)]
        order: PathBuf,
        /// Set on the second spawn, which is nobody's child.
        #[arg(long)]
        detached: bool,
        /// Where the answer goes instead of stdout.
        #[arg(long)]
        answer: Option<PathBuf>,
    },
}

/// Which release.
#[derive(Debug, clap::Args)]
pub struct PinArgs {
    /// The application.
    pub app: AppName,
    /// The release: its version, or its digest or the beginning of it, as `windlass-agent releases` prints them.
    pub release: String,
    /// The agent's state directory.
    #[arg(long, default_value = "/var/lib/windlass")]
    pub state_dir: PathBuf,
}

impl Args {
    /// Does what the command line says.
    pub fn run(self) -> ExitCode {
        if let Err(error) = crate::log::install(self.log_format) {
            return fail(&error, 2);
        }
        match self.verb {
            Verb::Run { config } => match crate::config::load(&config) {
                Ok(settings) => done(crate::app::run(settings)),
                Err(error) => fail(&error, 2),
            },
            Verb::Enrol(args) => match setup::enrol(&args) {
                Err(SetupError::Config(error)) => fail(&error, 2),
                result => done(result),
            },
            Verb::Releases { state_dir, json } => {
                show(&state_dir, json, control::releases_of, |apps| releases_text(apps))
            }
            Verb::Inspect { state_dir, json } => {
                let audit = layout_in(&state_dir).ok().and_then(|layout| audit_seen::problem_in(&layout));
                let problem = audit.map(|problem| format!("{problem}\n")).unwrap_or_default();
                show(&state_dir, json, control::inspection_of, |apps| problem.clone() + &inspect_text(apps))
            }
            Verb::Pin(args) => pin(&args, true),
            Verb::Unpin(args) => pin(&args, false),
            Verb::ResetFence { state_dir } => reset(&state_dir),
            Verb::StopApps { config } => on_host(&config, |layout, _| {
                stop_apps(layout).map(|count| tracing::info!(count, "applications stopped"))
            }),
            Verb::RestoreLinks { config } => {
                on_host(&config, |layout, settings| restore_links(layout, HostContext::new(settings)))
            }
            Verb::Man => {
                let page = clap_mangen::Man::new(Self::command()).section("8");
                page.render(&mut std::io::stdout())
                    .map_or_else(|error| fail(&error, 1), |()| ExitCode::SUCCESS)
            }
            Verb::UnitMemory if memory::was_short() => ExitCode::from(memory::SHORT),
            Verb::UnitMemory => ExitCode::SUCCESS,
            Verb::Shim { order, detached, answer } => crate::shim::run(&order, detached, answer.as_deref()),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer is the verb's output")]
fn pin(PinArgs { app, release, state_dir }: &PinArgs, pinned: bool) -> ExitCode {
    let layout = match layout_in(state_dir) {
        Ok(layout) => layout,
        Err(error) => return fail(&*error, 1),
    };
    match pin::set(&layout, app, release, pinned) {
        Ok(row) => {
            let verb = if pinned { "pinned" } else { "unpinned" };
            println!("{verb} {}", row.release);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, 1),
    }
}

#[expect(clippy::print_stdout, reason = "the answer is the verb's output")]
fn reset(state_dir: &Path) -> ExitCode {
    let layout = match layout_in(state_dir) {
        Ok(layout) => layout,
        Err(error) => return fail(&*error, 1),
    };
    match reset_fence(&layout) {
        Ok(Some(fence)) => {
            println!("this host had obeyed {fence}; from now on it obeys any coordinator of its fleet");
            ExitCode::SUCCESS
        }
        Ok(None) => {
            println!(
                "this host has obeyed nobody whose fence it knows; it obeys any coordinator of its fleet"
            );
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, 1),
    }
}

/// Names of the paths in a state directory that is there. The run directory is looked at through `current` only where the
/// agent says where it is; the default is the host's.
fn layout_in(state_dir: &Path) -> Result<Layout, Box<dyn Error>> {
    if !state_dir.is_dir() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(
            crate::file::at("read state directory (another: --state-dir DIR)", state_dir)(missing).into()
        );
    }
    Ok(Layout::new(state_dir, "/run/windlass")?)
}

/// Does something on the host that a configuration describes.
fn on_host<E: Error>(config: &Path, work: impl FnOnce(&Layout, &Settings) -> Result<(), E>) -> ExitCode {
    match crate::config::load(config) {
        Ok(settings) => match crate::app::layout_of(&settings) {
            Ok(layout) => done(work(&layout, &settings)),
            Err(error) => fail(&error, 1),
        },
        Err(error) => fail(&error, 2),
    }
}

fn done<E: Error>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// Prints what is asked about a state directory.
#[expect(clippy::print_stdout, reason = "the answer is the verb's output")]
fn show<T: Serialize>(
    state_dir: &Path,
    json: bool,
    ask: impl Fn(&Layout) -> Result<T, ControlError>,
    text: impl Fn(&T) -> String,
) -> ExitCode {
    let layout = match layout_in(state_dir) {
        Ok(layout) => layout,
        Err(error) => return fail(&*error, 1),
    };
    match ask(&layout) {
        Ok(answer) if json => match serde_json::to_string_pretty(&answer) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error, 1),
        },
        Ok(answer) => {
            print!("{}", text(&answer));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, 1),
    }
}

/// Writes an error with its causes to stderr and returns the exit code to end with.
#[expect(clippy::print_stderr, reason = "the one place where the program talks to whoever started it")]
fn fail(error: &dyn Error, code: u8) -> ExitCode {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  caused by: {error}");
        cause = error.source();
    }
    ExitCode::from(code)
}
