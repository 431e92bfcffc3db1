//! The verb `restore-links`: makes each app's `current` at boot, without an agent.
//!
//! It reads the journal and the `confirmed` links and nothing else: no store, no network, no free space, no writable state
//! directory. What was on trial when the power went is not what boots; what was confirmed is, also where the link had
//! not moved yet.

use windlass_proto::id::AppName;
use windlass_proto::phase::Phase;
use windlass_proto::release::ReleaseRef;

use crate::clock;
use crate::control::{self, AgentStatus, ControlError, Question};
use crate::journal::{self, Recovered};
use crate::layout::Layout;
use crate::link::{self, LinkError};
use crate::perform::chain;
use crate::recover::{self, Left};

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

/// Makes the links of all apps. Blocks.
pub fn restore_links(layout: &Layout) -> Result<(), RestoreError> {
    if let Some(AgentStatus { pid, .. }) = control::ask(layout, Question::Status)? {
        return Err(RestoreError::AgentRuns { pid });
    }
    let boot = clock::boot_id().map_err(RestoreError::BootId)?;
    let apps = recover::left(&recorded(layout), layout, &boot);
    let mut failed = 0;
    for app in &apps {
        let (name, release) = (&app.state.app, wanted(app));
        match restore(layout, app, release) {
            Ok(()) => {
                let release = release.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                tracing::info!(app = %name, release, "current made");
            }
            Err(error) => {
                failed += 1;
                tracing::error!(app = %name, error = chain(&error), "current not made");
            }
        }
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

fn restore(layout: &Layout, left: &Left, release: Option<&ReleaseRef>) -> Result<(), LinkError> {
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use windlass_proto::time::Timestamp;
    use windlass_release::{BootTime, Progress, State};

    use super::*;
    use crate::journal::Journal;
    use crate::recover::Ledger;
    use crate::recover::tests::{app, host, release};

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
        restore_links(&layout).unwrap();
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
