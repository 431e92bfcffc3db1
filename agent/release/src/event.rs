//! What can happen to an app on a host.

use windlass_proto::grant::Presented;
use windlass_proto::id::{OpId, RolloutId};
use windlass_proto::phase::{Drained, Fault, HookName};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::HostOrder;
use windlass_proto::trace::TraceParent;

use crate::network::Network;
use crate::now::BootTime;

/// Something that happened. Turns are those of the step whose effect caused it, see [`crate::State::turn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The coordinator: move to this release. Staging starts at once, service is not touched.
    Assign(Assign),
    /// How [`crate::Effect::Stage`] goes.
    Staging {
        /// The operation it was asked for.
        op: OpId,
        /// How it goes.
        news: Staging,
    },
    /// The coordinator: leave to take the host out of service.
    Permit {
        /// For this operation.
        op: OpId,
        /// The coordinator's epoch.
        epoch: u64,
        /// Until when: time of receipt plus the permit's TTL.
        expires: BootTime,
    },
    /// The coordinator: the release is permanent.
    Confirm {
        /// For this operation.
        op: OpId,
        /// The coordinator's epoch.
        epoch: u64,
        /// When the dialling of the session began that brought this.
        session_opened_at: BootTime,
    },
    /// The coordinator: stop and go back.
    Abort {
        /// This operation.
        op: OpId,
        /// The coordinator's epoch.
        epoch: u64,
        /// Why, in words.
        reason: String,
    },
    /// An effect of the host lane ended.
    Done {
        /// The turn that asked for it.
        turn: u64,
        /// What came of it.
        done: Done,
    },
    /// An effect of the host lane could not be done, or not in time.
    Failed {
        /// The turn that asked for it.
        turn: u64,
        /// Whose fault.
        fault: Fault,
        /// Why, in one sentence.
        reason: String,
    },
    /// A hook began or ended; the report changes.
    Hook {
        /// The turn that asked for it.
        turn: u64,
        /// The one that runs; none when it has ended.
        running: Option<HookName>,
    },
    /// The probes saw something. `turn` is that of the step that gave [`crate::Effect::Probe`].
    Health {
        /// The turn that asked for probing.
        turn: u64,
        /// What they saw.
        health: Health,
    },
    /// The probes asked for cannot be made: the host cannot read the release any more.
    CannotProbe {
        /// The turn that asked for probing.
        turn: u64,
        /// Why, in one sentence.
        reason: String,
    },
    /// The app's process ended without having been told to. `turn` is that of the step that gave
    /// [`crate::Effect::Start`] or [`crate::Effect::Adopt`]; also the answer of an adoption that finds nothing alive.
    AppExited {
        /// The turn that started or adopted it.
        turn: u64,
        /// Exit code or signal, in words: `exit code 1`, `killed by SIGSEGV`, `not running`.
        how: String,
    },
    /// [`crate::State::wake_at`] has come (or anything else: a tick too many does no harm).
    Tick,
    /// The agent started and this was the last durable state. First event of each app.
    Recovered {
        /// Whether the boot id is that under which the state was written.
        same_boot: bool,
    },
    /// The host looked at its network. Told before a drain, or a switch without one, and in the trial.
    Network(Network),
    /// A person lets a quarantined app take part again.
    ReleaseQuarantine {
        /// The coordinator's epoch.
        epoch: u64,
        /// Nothing is started, until the next release comes; otherwise the confirmed release is tried again.
        leave_down: bool,
    },
}

/// An order to move an app to a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assign {
    /// The operation; an assignment with the id of the one at hand is a repetition.
    pub op: OpId,
    /// The rollout it is part of.
    pub rollout: RolloutId,
    /// The coordinator's epoch.
    pub epoch: u64,
    /// The release. The signed manifest must say the same app, version and counter; staging checks that.
    pub to: ReleaseRef,
    /// The host's times and policies.
    pub order: HostOrder,
    /// Going back on purpose: a counter below the highest seen is allowed if the release was confirmed here.
    pub rollback: bool,
    /// What its authors say of such a counter, if anything came along.
    pub grant: Option<Box<Presented>>,
    /// The rollout's span, where that belongs to a trace.
    pub trace: Option<TraceParent>,
}

/// How staging goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staging {
    /// It got its turn and began.
    Started,
    /// The release is verified, complete and durable on the host.
    Done,
    /// It will not become so.
    Failed {
        /// Whose fault.
        fault: Fault,
        /// Why, in one sentence.
        reason: String,
    },
}

/// What came of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Of `Drain`: in-flight work ended, or was given up on under `on_timeout: continue`.
    Drained(Drained),
    /// Of `Drain` under `on_timeout: abort`.
    DrainTimedOut(Drained),
    /// Of `Undrain`.
    Undrained,
    /// Of `Stop`: no process of the app is left.
    Stopped {
        /// Connections that were open when it ended.
        cut: u32,
    },
    /// Of `Switch`: the link is durable as asked.
    Switched,
    /// Of `Start`: the process exists (or existed already).
    Started,
    /// Of `Adopt`: the process was found alive.
    Adopted,
    /// Of `Smoke`: all checks passed.
    SmokePassed,
    /// Of `Smoke`: one did not.
    SmokeFailed {
        /// Which and why.
        why: String,
    },
    /// Of `Admit`: in traffic.
    Admitted,
}

impl Done {
    /// Whether what follows in the same step may be done.
    pub const fn goes_on(&self) -> bool {
        !matches!(self, Self::DrainTimedOut(_) | Self::SmokeFailed { .. })
    }
}

/// What the probes saw. A probe that the release does not have passes at once and never fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The startup probe passed.
    StartupPassed,
    /// The startup probe failed past its threshold.
    StartupFailed {
        /// What the last check said.
        why: String,
    },
    /// Readiness passed its success threshold: first time, or again after `NotReady`.
    Ready,
    /// Readiness failed past its threshold: first time, or again after `Ready`.
    NotReady {
        /// What the last check said.
        why: String,
    },
    /// Liveness failed past its threshold.
    LivenessFailed {
        /// What the last check said.
        why: String,
    },
}
