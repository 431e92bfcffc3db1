//! The verb `restore-links`: makes each app's `current` at boot, without an agent, and starts those that are units of systemd.
//!
//! It reads the journal and the `confirmed` links and nothing else: no store, no network, no free space, no writable state
//! directory. What was on trial when the power went is not what boots; what was confirmed is, also where the link had
//! not moved yet.

use std::io;
use std::process::Command;

use windlass_proto::id::AppName;
use windlass_proto::phase::Phase;
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::Runtime;

use crate::app::own_program;
use crate::clock;
use crate::control::{self, AgentStatus, ControlError, Question};
use crate::held::{self, HeldError};
use crate::journal::{self, Recovered};
use crate::layout::Layout;
use crate::link::{self, LinkError};
use crate::perform::chain;
use crate::recover::{self, Left};
use crate::runtime::systemd::{self, SystemdRuntime};
use crate::runtime::{HostContext, RuntimeError};

/// Why not every link is as it should be.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The links are the agent's while it runs.
    #[error(
        "the agent of this host runs as pid {pid} and has the links; stop it first (systemctl stop windlass-agent)"
    )]
    AgentRuns {
        /// Its process.
        pid: u32,
    },
    /// Whether one runs cannot be told.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The kernel does not say which boot this is.
    #[error("cannot read the boot id from /proc")]
    BootId(#[source] std::io::Error),
    /// Some apps have no link; the others have theirs.
    #[error("{failed} of {all} apps have no current release; the log says why")]
    Links {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
    },
}

/// Why an app is not as it should be.
#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Held(#[from] HeldError),
    #[error(transparent)]
    Unit(#[from] RuntimeError),
}

/// Makes the links and units of all apps, and has systemd start the units. Blocks.
pub fn restore_links(layout: &Layout, host: HostContext) -> Result<(), RestoreError> {
    if let Some(AgentStatus { pid, .. }) = control::ask(layout, Question::Status)? {
        return Err(RestoreError::AgentRuns { pid });
    }
    let boot = clock::boot_id().map_err(RestoreError::BootId)?;
    let apps = recover::left(&recorded(layout), layout, &boot);
    let systemd = SystemdRuntime::new(host, own_program());
    let (mut failed, mut units) = (0, Vec::new());
    for app in &apps {
        let (name, release) = (&app.state.app, wanted(app));
        match restore(layout, app, release, &systemd) {
            Ok(unit) => {
                units.extend(unit);
                let release = release.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                tracing::info!(app = %name, release, "current made");
            }
            Err(error) => {
                failed += 1;
                tracing::error!(app = %name, error = chain(&error), "current not made");
            }
        }
    }
    if let Err(error) = start(&units) {
        tracing::error!(error = chain(&error), "units not started");
        failed += units.len();
    }
    if failed > 0 { Err(RestoreError::Links { failed, all: apps.len() }) } else { Ok(()) }
}

/// What the journal says; nothing where it cannot be read, so that the links are believed.
fn recorded(layout: &Layout) -> Recovered {
    journal::peek(layout.state()).map(Option::unwrap_or_default).unwrap_or_else(|error| {
        tracing::error!(error = chain(&error), "journal cannot be read, links are believed");
        Recovered::default()
    })
}

/// What `current` is to name: after a reboot the confirmed release; on the same boot what the app uses already.
fn wanted(Left { state, same_boot }: &Left) -> Option<&ReleaseRef> {
    match state.phase() {
        // Out of service until a person has looked.
        Phase::Quarantined => None,
        _ if *same_boot => state.current.as_ref(),
        _ => state.confirmed.as_ref(),
    }
}

/// Returns the unit to start, where the release is one.
fn restore(
    layout: &Layout,
    left: &Left,
    release: Option<&ReleaseRef>,
    systemd: &SystemdRuntime,
) -> Result<Option<String>, AppError> {
    let app: &AppName = &left.state.app;
    match release {
        Some(release) => link::set_current(layout, app, &release.digest)?,
        None => link::clear_current(layout, app)?,
    }
    let confirmed = left.state.confirmed.as_ref().map(|release| release.digest);
    if let (Some(confirmed), Ok(linked)) = (confirmed, link::confirmed(layout, app))
        && linked != Some(confirmed)
        && let Err(error) = link::set_confirmed(layout, app, &confirmed, clock::wall())
    {
        // The journal has it; the agent finishes it when the disk can be written.
        tracing::warn!(%app, error = chain(&error), "confirmed link not finished");
    }
    let Some(release) = release else { return Ok(None) };
    let launch = held::launch(layout, release)?;
    if !matches!(launch.spec.runtime, Runtime::Systemd { .. }) {
        // Its agent starts it.
        return Ok(None);
    }
    systemd.write(&launch)?;
    Ok(Some(systemd::name(app)))
}

/// Has systemd start units when it comes to them. By systemctl, which needs no bus: early in the boot there is none.
fn start(units: &[String]) -> io::Result<()> {
    if units.is_empty() || !systemd::is_here() {
        return Ok(());
    }
    let systemctl = |words: Vec<&str>| {
        let output = Command::new("systemctl").args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(io::Error::other(said)) }
    };
    systemctl(vec!["daemon-reload"])?;
    systemctl(["start", "--no-block"].into_iter().chain(units.iter().map(String::as_str)).collect())
}

#[cfg(test)]
mod tests {
    use windlass_proto::time::Timestamp;
    use windlass_release::{BootTime, Progress, State};

    use super::*;
    use crate::config::HostPolicy;
    use crate::journal::Journal;
    use crate::recover::Ledger;
    use crate::recover::tests::{app, host, release};

    fn context() -> HostContext {
        let policy =
            HostPolicy { author_keys: vec![], threshold: 1, apps: vec![], allow_root: false, users: vec![] };
        let (name, address) = ("host-1".parse().unwrap(), [127, 0, 0, 1].into());
        HostContext { name, address, labels: Default::default(), policy }
    }

    const TRIAL: Progress = Progress::Trial { confirm_by: BootTime(0), holding: false };

    /// A host whose second release is current, and whose journal says this much, written on this boot.
    fn after(boot: &str, progress: Option<Progress>, confirmed: usize) -> (Option<usize>, Option<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let layout = host(dir.path());
        let releases = [release(&layout, 1), release(&layout, 2)];
        link::set_confirmed(&layout, &app(), &releases[0].digest, Timestamp(1)).unwrap();
        link::set_current(&layout, &app(), &releases[1].digest).unwrap();
        if let Some(progress) = progress {
            let (journal, recovered) = Journal::open(layout.state()).unwrap();
            let (mut ledger, _) = Ledger::open(journal, &recovered, &layout, boot.into());
            let (current, confirmed) = (Some(releases[1].clone()), Some(releases[confirmed - 1].clone()));
            ledger.keep(&State { progress, current, confirmed, ..State::new(app()) }).unwrap();
        }
        restore_links(&layout, context()).unwrap();
        let which = |digest: Option<windlass_proto::digest::Digest>| {
            releases.iter().position(|release| Some(release.digest) == digest).map(|at| at + 1)
        };
        (which(link::current(&layout, &app()).unwrap()), which(link::confirmed(&layout, &app()).unwrap()))
    }

    #[test]
    fn what_was_confirmed_boots_and_what_was_on_trial_does_not() {
        let this = clock::boot_id().unwrap();
        assert_eq!(after("an earlier boot", Some(TRIAL), 1), (Some(1), Some(1)), "on trial");
        assert_eq!(
            after("an earlier boot", Some(Progress::Confirmed), 2),
            (Some(2), Some(2)),
            "link was behind"
        );
        assert_eq!(after("an earlier boot", Some(Progress::Quarantined), 1), (None, Some(1)), "quarantined");
        assert_eq!(after("an earlier boot", None, 1), (Some(1), Some(1)), "no journal");
        assert_eq!(after(&this, Some(TRIAL), 1), (Some(2), Some(1)), "no reboot at all");
    }
}
