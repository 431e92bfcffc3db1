//! `dev down`: agents first, so that nothing starts again; then the apps; then the coordinator. State stays.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::place::Place;
use super::programs::Programs;
use super::record::{FleetRecord, HostRecord};
use crate::error::{ExpectedError, Result};
use crate::output::Output;

/// Time for an agent or the coordinator to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// Time for one host's apps to end: an app's own grace is 30 s where its spec says nothing else.
const APPS: Duration = Duration::from_secs(45);

/// Stops the fleet and the apps it runs. Stopping what is stopped changes nothing.
pub async fn down(place: &Place, programs: &Programs, out: &Output) -> Result<()> {
    stop(place, programs).await?;
    out.step("stopped", &format!("the fleet in {}; its state stays", place.dir().display()));
    Ok(())
}

/// Like [`down`], without a word: for a caller that goes on with the directory.
pub async fn stop(place: &Place, programs: &Programs) -> Result<()> {
    FleetRecord::read_existing(place)?;
    let lock = place.lock().await?;
    let mut record = FleetRecord::read_existing(place)?;
    let mut problems = Vec::new();

    let agents = record.hosts.iter().filter_map(|host| host.process());
    let stopped = futures::future::join_all(agents.map(|agent| agent.stop(GRACE))).await;
    if stopped.contains(&false) {
        problems.push("an agent survived SIGKILL".to_owned());
    }
    record.hosts.iter_mut().for_each(|host| host.set_process(None));
    record.save(place)?;

    // A few at a time: each opens its host's state.
    for some in record.hosts.chunks(8) {
        let ends = some.iter().map(|host| stop_apps(place, programs, host));
        problems.extend(futures::future::join_all(ends).await.into_iter().flatten());
    }
    if let Some(coordinator) = record.coordinator.process()
        && !coordinator.stop(GRACE).await
    {
        problems.push("the coordinator survived SIGKILL".to_owned());
    }
    record.coordinator.set_process(None);
    record.save(place)?;
    drop(lock);
    if problems.is_empty() {
        return Ok(());
    }
    let error = ExpectedError::failed(format!("not all of the fleet in {} stopped", place.dir().display()));
    Err(problems.into_iter().fold(error, ExpectedError::cause))
}

/// Has the agent's program stop the host's apps; gives what went wrong.
async fn stop_apps(place: &Place, programs: &Programs, host: &HostRecord) -> Option<String> {
    let config = place.agent_config(&host.name);
    if !config.exists() || !host.state_dir.exists() {
        return None;
    }
    let mut stop = tokio::process::Command::new(&programs.agent);
    stop.arg("stop-apps").arg("--config").arg(config).stdin(std::process::Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(APPS, stop.output()).await {
        Ok(Ok(output)) if output.status.success() => None,
        Ok(Ok(output)) => {
            Some(format!("the apps of {}: {}", host.name, String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(Err(error)) => Some(format!("the apps of {}: {error}", host.name)),
        Err(_) => Some(format!("the apps of {} did not stop within {} s", host.name, APPS.as_secs())),
    }
}

/// Ends agents and coordinator at once, for a caller that cannot wait. Apps go on.
pub fn kill_all(place: &Place) {
    if let Ok(Some(record)) = FleetRecord::read(place) {
        let agents = record.hosts.iter().filter_map(|host| host.process());
        agents.chain(record.coordinator.process()).for_each(|process| process.signal(Signal::SIGKILL));
    }
}
