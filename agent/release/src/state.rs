//! What is known of an app on this host. Serialised, it is the journal's record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::grant::Past;
use windlass_proto::id::AppName;
use windlass_proto::phase::Phase;
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::{Span, Timestamp};

use crate::now::BootTime;
use crate::operation::Operation;

/// Releases confirmed earlier that are remembered (and kept on disk), newest first.
pub const HISTORY: usize = 3;

/// All that is known of one app on one host. As JSON below 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The application.
    pub app: AppName,
    /// Rises with each change that the coordinator should see.
    pub seq: u64,
    /// The highest epoch under which a verified release was ordered.
    pub epoch: u64,
    /// The highest counter of a release whose signature was verified here.
    pub counter: u64,
    /// Names the effects of the latest step that began something on the host lane; see [`crate::Event`]. What is in
    /// flight under another turn is to be cancelled.
    pub turn: u64,
    /// The turn that started or adopted the process; 0 when nothing is to run.
    pub run_turn: u64,
    /// The turn that asked for the probes being made; 0 when none are.
    pub probe_turn: u64,
    /// What `current` names.
    pub current: Option<ReleaseRef>,
    /// The last confirmed release: where a revert goes.
    pub confirmed: Option<ReleaseRef>,
    /// Confirmed before that, newest first, at most [`HISTORY`].
    pub history: Vec<ReleaseRef>,
    /// The operation at hand, or the last one.
    pub operation: Option<Operation>,
    /// Where that is.
    pub progress: Progress,
    /// The app while no operation has its hands on it.
    pub supervision: Supervision,
    /// Starts in a row that did not last.
    pub restarts: u32,
    /// Failing liveness is the confirmed release's fault for so long.
    pub watch: Option<WatchWindow>,
    /// When the phase was entered.
    pub entered: BootTime,
    /// The same for people.
    pub since: Timestamp,
    /// Milliseconds spent in the operation's earlier phases.
    pub phase_times: BTreeMap<Phase, u64>,
}

/// The phase, with exactly what it needs. Times are on the boot in which they were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Progress {
    /// Nothing was ever ordered.
    Idle,
    /// On record; staging has not got its turn yet.
    Assigned,
    /// Fetching and verifying.
    Staging,
    /// Waiting for the permit.
    Staged,
    /// Out of traffic. How long that may take is the running release's own affair: the shell ends it.
    Draining {
        /// Contact is lost then, unless a lease was renewed since.
        contact_by: BootTime,
    },
    /// Back into traffic.
    Undraining {
        /// Failures so far.
        attempt: u32,
        /// Waiting until then to try again.
        retry_at: Option<BootTime>,
    },
    /// The old release is being stopped, within its own grace: the shell ends it.
    Stopping,
    /// The link moves. From here on the new release has its `healthy_deadline`.
    Switching {
        /// To be healthy by then.
        healthy_by: BootTime,
    },
    /// The new release starts.
    Starting {
        /// To be healthy by then.
        healthy_by: BootTime,
    },
    /// Readiness, smoke, `min_healthy_time`.
    Verifying {
        /// To be healthy by then.
        healthy_by: BootTime,
        /// Ready without interruption since then.
        ready_since: Option<BootTime>,
        /// The smoke checks passed.
        smoke_passed: bool,
    },
    /// Into traffic.
    Admitting {
        /// To be in traffic by then.
        admit_by: BootTime,
    },
    /// Serving but unconfirmed.
    Trial {
        /// To be confirmed by then.
        confirm_by: BootTime,
        /// `confirm_timeout` has passed and the host holds, healthy as it is.
        holding: bool,
    },
    /// Permanent.
    Confirmed,
    /// On the way back to [`State::confirmed`].
    Reverting {
        /// Where to.
        goal: RevertGoal,
        /// How far.
        step: RevertStep,
        /// Failures so far.
        attempt: u32,
    },
    /// Back on [`State::confirmed`].
    Reverted,
    /// Neither release comes up, or policy keeps the app out; needs a person.
    Quarantined,
    /// Ended before anything was stopped.
    Failed,
}

/// What a revert is to end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevertGoal {
    /// The last confirmed release serves (or nothing, if there is none).
    Back,
    /// `on_contact_lost: stop`: nothing runs.
    Out,
}

/// How far a revert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum RevertStep {
    /// The new release is being stopped.
    Stopping,
    /// The link moves back.
    Switching,
    /// The old release starts; startup probe.
    Starting {
        /// To be ready by then.
        ready_by: BootTime,
    },
    /// Readiness of the old release.
    Verifying {
        /// To be ready by then.
        ready_by: BootTime,
    },
    /// Into traffic.
    Admitting,
    /// Something failed; again from the first step.
    Waiting {
        /// When.
        until: BootTime,
    },
}

/// The app while no operation has its hands on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Supervision {
    /// Nothing is to run, or an operation runs it.
    Off,
    /// The link is being made again after a reboot.
    Linking,
    /// The process is being looked for or started.
    Starting,
    /// It runs.
    Up {
        /// Since then.
        since: BootTime,
    },
    /// Liveness failed; it is being stopped.
    Stopping,
    /// It will be started again.
    Waiting {
        /// When.
        until: BootTime,
    },
}

/// The time after confirm in which a failing release goes back by itself, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchWindow {
    /// Its end.
    pub until: BootTime,
    /// Its length, to begin anew after a reboot.
    pub window: Span,
}

impl State {
    /// An app that this host has never had.
    pub fn new(app: AppName) -> Self {
        Self {
            app,
            seq: 0,
            epoch: 0,
            counter: 0,
            turn: 0,
            run_turn: 0,
            probe_turn: 0,
            current: None,
            confirmed: None,
            history: Vec::new(),
            operation: None,
            progress: Progress::Idle,
            supervision: Supervision::Off,
            restarts: 0,
            watch: None,
            entered: BootTime(0),
            since: Timestamp(0),
            phase_times: BTreeMap::new(),
        }
    }

    /// The phase in the words that all parts share.
    pub const fn phase(&self) -> Phase {
        self.progress.phase()
    }

    /// Whether the release of the operation at hand is one whose signature was verified here.
    pub const fn has_accepted(&self) -> bool {
        !matches!(
            self.progress,
            Progress::Idle
                | Progress::Assigned
                | Progress::Staging
                | Progress::Failed
                | Progress::Quarantined
        )
    }

    /// Whether the app takes one of the host's places, as [`windlass_proto::phase::AppStatus::has_place`] says to others.
    pub const fn has_place(&self) -> bool {
        self.current.is_some() || self.confirmed.is_some() || self.phase().takes_place()
    }

    /// Whether the operation is over (or there never was one): a new one may begin.
    pub const fn is_settled(&self) -> bool {
        matches!(
            self.progress,
            Progress::Idle
                | Progress::Confirmed
                | Progress::Reverted
                | Progress::Quarantined
                | Progress::Failed
        )
    }

    /// Whether the running app is the supervision's business rather than the operation's.
    pub const fn is_supervised(&self) -> bool {
        matches!(
            self.progress,
            Progress::Idle
                | Progress::Assigned
                | Progress::Staging
                | Progress::Staged
                | Progress::Confirmed
                | Progress::Reverted
                | Progress::Failed
        )
    }

    /// The release whose process should exist now, if one should.
    pub fn wanted(&self) -> Option<&ReleaseRef> {
        match self.progress {
            Progress::Quarantined | Progress::Stopping | Progress::Switching { .. } => None,
            Progress::Reverting { step, .. } => match step {
                RevertStep::Starting { .. } | RevertStep::Verifying { .. } | RevertStep::Admitting => {
                    self.current.as_ref()
                }
                RevertStep::Stopping | RevertStep::Switching | RevertStep::Waiting { .. } => None,
            },
            _ => self.current.as_ref(),
        }
    }

    /// When the next [`crate::Event::Tick`] is due.
    pub fn wake_at(&self) -> Option<BootTime> {
        match &self.progress {
            Progress::Draining { contact_by } => Some(*contact_by),
            Progress::Undraining { retry_at, .. } => *retry_at,
            Progress::Stopping => None,
            Progress::Switching { healthy_by } | Progress::Starting { healthy_by } => Some(*healthy_by),
            Progress::Verifying { healthy_by, .. } => {
                Some(self.healthy_at().map_or(*healthy_by, |at| at.min(*healthy_by)))
            }
            Progress::Admitting { admit_by } => Some(*admit_by),
            Progress::Trial { confirm_by, .. } => Some(*confirm_by),
            Progress::Reverting { step, .. } => match step {
                RevertStep::Starting { ready_by } | RevertStep::Verifying { ready_by } => Some(*ready_by),
                RevertStep::Waiting { until } => Some(*until),
                RevertStep::Stopping | RevertStep::Switching | RevertStep::Admitting => None,
            },
            Progress::Quarantined => None,
            _ => match self.supervision {
                Supervision::Waiting { until } => Some(until),
                _ => None,
            },
        }
    }

    /// While verifying: when `min_healthy_time` will have passed, if nothing comes between.
    pub(crate) fn healthy_at(&self) -> Option<BootTime> {
        match (&self.progress, &self.operation) {
            (Progress::Verifying { ready_since: Some(since), smoke_passed: true, .. }, Some(operation)) => {
                Some(since.after(operation.order.min_healthy_time))
            }
            _ => None,
        }
    }

    /// Releases that retention must not remove: current, confirmed, confirmed before, and the operation's two.
    pub fn keep(&self) -> Vec<Digest> {
        let mut keep: Vec<Digest> = self
            .current
            .iter()
            .chain(&self.confirmed)
            .chain(&self.history)
            .map(|release| release.digest)
            .collect();
        if let Some(operation) = self.operation.as_ref().filter(|_| !self.is_settled()) {
            keep.push(operation.to.digest);
            keep.extend(operation.from.as_ref().map(|from| from.digest));
        }
        keep.sort_unstable();
        keep.dedup();
        keep
    }

    /// What counters are judged by.
    pub fn past(&self) -> Past {
        let confirmed = self.confirmed.iter().chain(&self.history).map(|release| release.digest);
        Past { seen: self.counter, confirmed: confirmed.collect() }
    }
}

impl Progress {
    /// The phase in the words that all parts share.
    pub const fn phase(&self) -> Phase {
        match self {
            Self::Idle => Phase::Idle,
            Self::Assigned => Phase::Assigned,
            Self::Staging => Phase::Staging,
            Self::Staged => Phase::Staged,
            Self::Draining { .. } => Phase::Draining,
            Self::Undraining { .. } => Phase::Undraining,
            Self::Stopping { .. } => Phase::Stopping,
            Self::Switching { .. } => Phase::Switching,
            Self::Starting { .. } => Phase::Starting,
            Self::Verifying { .. } => Phase::Verifying,
            Self::Admitting { .. } => Phase::Admitting,
            Self::Trial { .. } => Phase::Trial,
            Self::Confirmed => Phase::Confirmed,
            Self::Reverting { .. } => Phase::Reverting,
            Self::Reverted => Phase::Reverted,
            Self::Quarantined => Phase::Quarantined,
            Self::Failed => Phase::Failed,
        }
    }
}
