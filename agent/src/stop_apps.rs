//! The verb `stop-apps`: ends every application this host runs while no agent does.

use std::path::PathBuf;

use futures::future::join_all;

use crate::control::{self, AgentStatus, ControlError, Question};
use crate::held;
use crate::hook;
use crate::layout::Layout;
use crate::runtime::process::parse_signal;
use crate::runtime::{self, kill, systemd};
use crate::runtime::{RuntimeError, Stopped};
use crate::shim::order::{RunDir, Started};
use windlass_proto::spec::Stop;

/// Why not every application was stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopAppsError {
    /// It would only start them again.
    #[error(
        "the agent of this host runs as pid {pid}; stop it first (systemctl stop windlass-agent, or kill {pid})"
    )]
    AgentRuns {
        /// Its process.
        pid: u32,
    },
    /// Whether one runs cannot be told.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// No runtime.
    #[error("cannot start the agent's threads")]
    Threads(#[source] std::io::Error),
    /// Some go on.
    #[error("cannot stop the application of {}", run.display())]
    Stop {
        /// Its run directory.
        run: PathBuf,
        /// Why.
        source: RuntimeError,
    },
}

/// Stops all applications, each by its own stop settings, all at once. Returns how many ran.
pub fn stop_apps(layout: &Layout) -> Result<usize, StopAppsError> {
    if let Some(AgentStatus { pid, .. }) = control::ask(layout, Question::Status)? {
        return Err(StopAppsError::AgentRuns { pid });
    }
    let threads =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StopAppsError::Threads)?;
    let apps = held::apps(layout);
    let stopping = apps.iter().map(|app| async {
        let run = RunDir(layout.app_run(app));
        let hook = hook::run_dir(&run);
        if let Some(started) = hook.read_started() {
            kill::stop(&hook, &started, nix::sys::signal::Signal::SIGTERM, Stop::default().grace.std())
                .await
                .map_err(|source| StopAppsError::Stop { run: hook.0.clone(), source })?;
            kill::vanished(&started).await;
        }
        // What systemd has started while no agent ran is on no record yet.
        let started = match systemd::is_here() {
            true => systemd::recorded(&run, &systemd::name(app)).await,
            false => run.read_started(),
        };
        let Some(started) = started else { return Ok(Stopped::default()) };
        let Stop { signal, grace } = stop_of(layout, &started);
        let signal = parse_signal(&signal).unwrap_or(nix::sys::signal::Signal::SIGTERM);
        let stopped = runtime::end(&run, &started, signal, grace.std())
            .await
            .map_err(|source| StopAppsError::Stop { run: run.0.clone(), source })?;
        kill::vanished(&started).await;
        Ok::<_, StopAppsError>(stopped)
    });
    let stopped = threads.block_on(join_all(stopping));
    let stopped = stopped.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(stopped.iter().filter(|stopped| stopped.ran).count())
}

fn stop_of(layout: &Layout, started: &Started) -> Stop {
    let release = &started.release;
    held::manifest(&layout.release(&release.app, &release.digest), &release.digest)
        .map_or_else(|_| Stop::default(), |manifest| manifest.release.stop)
}
