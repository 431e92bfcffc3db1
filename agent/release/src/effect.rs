//! What the machine asks of the shell.

use windlass_proto::digest::Digest;
use windlass_proto::id::OpId;
use windlass_proto::phase::HookName;
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::Span;

/// Longest that one hook which may fail gets, whatever its own time-outs say: it must not hold a way back up.
pub const HOOK_AT_MOST: Span = Span::secs(300);

/// Something to do. All are idempotent: after a crash the same is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Fetch, verify and unpack the release; at once `Done` when the host holds it complete.
    /// Answered by [`crate::Event::Staging`].
    Stage {
        /// For this operation.
        op: OpId,
        /// This release.
        release: ReleaseRef,
    },
    /// Stop staging; what was half fetched may be dropped. No answer.
    CancelStage {
        /// Of this operation.
        op: OpId,
    },
    /// Take the release out of traffic and wait for its requests, by its own drain settings.
    /// Answered by `Drained`, `DrainTimedOut` or `Failed`.
    Drain {
        /// What runs.
        release: ReleaseRef,
    },
    /// Undo `Drain`. Answered by `Undrained` or `Failed`.
    Undrain {
        /// What runs.
        release: ReleaseRef,
    },
    /// Stop every process of the app, whatever release it is of. Answered by `Stopped` or `Failed`.
    Stop {
        /// Whose stop settings count.
        release: ReleaseRef,
    },
    /// Make `current` name this release, or remove it. Answered by `Switched` or `Failed`.
    Switch {
        /// The new target.
        to: Option<ReleaseRef>,
    },
    /// Start the release; adopt its process if it runs already. Answered by `Started` or `Failed`; from then on by
    /// `AppExited` if the process ends.
    Start {
        /// The release.
        release: ReleaseRef,
    },
    /// Find the running process of the release again and watch it. Answered by `Adopted`, or by `AppExited` at once
    /// when nothing is alive; later by `AppExited` if the process ends.
    Adopt {
        /// The release.
        release: ReleaseRef,
    },
    /// Make these probes in place of those made before, until told otherwise. Answered by [`crate::Event::Health`].
    Probe {
        /// Whose probes.
        release: ReleaseRef,
        /// Which of them.
        checks: Checks,
    },
    /// Make no probes. No answer.
    StopProbes,
    /// Make each smoke check once. Answered by `SmokePassed`, `SmokeFailed` or `Failed`.
    Smoke {
        /// Whose checks.
        release: ReleaseRef,
    },
    /// Take the app out of traffic at once, without waiting for anything. No answer.
    Withdraw,
    /// Let traffic in. Answered by `Admitted` or `Failed`.
    Admit {
        /// What runs.
        release: ReleaseRef,
    },
    /// Run the commands of a hook, if the release has any, before the next effect of the step begins. It has no answer of
    /// its own: how the step's answered effect went is told when the hooks after it have passed, and where one that must
    /// pass does not, `Failed` is told instead, and nothing more of the step is done.
    Hook {
        /// Whose hook.
        release: ReleaseRef,
        /// Which.
        hook: HookName,
        /// Tells one asking from the next: what a crash makes the machine ask again has the same number, and must not be
        /// run twice unless the release says that it may.
        round: u64,
        /// Whether its failure counts; otherwise it is only noted, and bounded by [`HOOK_AT_MOST`].
        must_pass: bool,
    },
    /// Close the session and dial a new one: the old one proves nothing of the host as it is now. No answer.
    Redial,
    /// Make the persistent `confirmed` link name this release, or remove it; retry until it does. No answer.
    WriteConfirmed {
        /// The target.
        release: Option<ReleaseRef>,
    },
    /// Keep log, exit, probe transcripts and so on before they are gone. Best effort, bounded in time. No answer.
    FreezeEvidence {
        /// For this operation.
        op: OpId,
        /// Of this release.
        release: ReleaseRef,
    },
    /// Remove releases of this app that are not to be kept. No answer.
    Prune {
        /// What must stay.
        keep: Vec<Digest>,
    },
}

/// Which probes to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checks {
    /// Startup; then the probing rests until told to go on.
    Startup,
    /// Readiness and liveness, on and on; startup is known to have passed.
    Service,
}

/// Where an effect runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Fetching; may take long, touches nothing that runs.
    Stage,
    /// Everything about what runs: strictly one after the other.
    Host,
}

/// The names stand once, so that whoever goes through all effects by name forgets none.
macro_rules! names {
    ($($variant:ident => $name:literal,)*) => {
        impl Effect {
            /// The names of all effects.
            pub const NAMES: &[&str] = &[$($name),*];

            /// Short name for logs.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name,)* }
            }
        }
    };
}

names! {
    Stage => "stage",
    CancelStage => "cancel_stage",
    Drain => "drain",
    Undrain => "undrain",
    Stop => "stop",
    Switch => "switch",
    Start => "start",
    Adopt => "adopt",
    Probe => "probe",
    StopProbes => "stop_probes",
    Smoke => "smoke",
    Withdraw => "withdraw",
    Admit => "admit",
    Hook => "hook",
    Redial => "redial",
    WriteConfirmed => "write_confirmed",
    FreezeEvidence => "freeze_evidence",
    Prune => "prune",
}

impl Effect {
    /// Where the effect runs.
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Stage { .. } | Self::CancelStage { .. } => Lane::Stage,
            _ => Lane::Host,
        }
    }

    /// Whether a `Done`, `Failed` or `AppExited` event answers it.
    pub const fn is_answered(&self) -> bool {
        matches!(
            self,
            Self::Drain { .. }
                | Self::Undrain { .. }
                | Self::Stop { .. }
                | Self::Switch { .. }
                | Self::Start { .. }
                | Self::Adopt { .. }
                | Self::Smoke { .. }
                | Self::Admit { .. }
        )
    }
}
