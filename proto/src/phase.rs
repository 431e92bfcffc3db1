//! What a host says of an app: the words of DESIGN 5, shared by agent, coordinator and CLI.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::grant::Past;
use crate::id::{AppName, OpId, ReleaseVersion, RolloutId};
use crate::release::ReleaseRef;
use crate::time::Timestamp;

/// A closed set of words with one spelling, in Rust, in JSON and for people.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All words, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word as it is shown and stored.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// Where one host is with one app.
    Phase {
        /// Nothing under way.
        Idle = "idle",
        /// An order was taken on record.
        Assigned = "assigned",
        /// Fetching and verifying the release.
        Staging = "staging",
        /// Release complete on the host; waiting for the permit.
        Staged = "staged",
        /// Out of traffic, requests finishing.
        Draining = "draining",
        /// Back into traffic on the old release.
        Undraining = "undraining",
        /// The old release is being stopped.
        Stopping = "stopping",
        /// The link moves.
        Switching = "switching",
        /// The new release starts; startup probe.
        Starting = "starting",
        /// Readiness, smoke, `min_healthy_time`.
        Verifying = "verifying",
        /// Into traffic.
        Admitting = "admitting",
        /// Serving but unconfirmed.
        Trial = "trial",
        /// Permanent.
        Confirmed = "confirmed",
        /// Going back to the last confirmed release.
        Reverting = "reverting",
        /// Back on the last confirmed release.
        Reverted = "reverted",
        /// The old release did not come up either; needs a person.
        Quarantined = "quarantined",
        /// Ended before anything was stopped.
        Failed = "failed",
    }
}

words! {
    /// How one host's operation ended.
    Outcome {
        /// The release is permanent and attested.
        Confirmed = "confirmed",
        /// The host went back.
        Reverted = "reverted",
        /// A confirm came after the host had gone back.
        AlreadyReverted = "already_reverted",
        /// Excused by policy: absent or cordoned.
        Skipped = "skipped",
        /// Failed before the switch; the old release never left service.
        Failed = "failed",
        /// Neither release comes up.
        Quarantined = "quarantined",
        /// Not heard of until the deadline.
        Lost = "lost",
    }
}

words! {
    /// Whose fault a failure is.
    Fault {
        /// The release itself: probes, crashes, hooks.
        App = "app",
        /// windlass on the host.
        Agent = "agent",
        /// The way between host and coordinator.
        Transport = "transport",
        /// The host: disk, memory, ports, missing users.
        Host = "host",
        /// Refused by a rule: signature, counter, host policy, an operator's abort.
        Policy = "policy",
    }
}

words! {
    /// A hook of a release, by CodeDeploy's names; [`crate::spec::hooks`] says when each is run.
    HookName {
        /// Before the drain.
        BeforeBlockTraffic = "before_block_traffic",
        /// After the drain.
        AfterBlockTraffic = "after_block_traffic",
        /// Before what runs is stopped.
        ApplicationStop = "application_stop",
        /// Before the link moves.
        BeforeInstall = "before_install",
        /// After the link moved.
        AfterInstall = "after_install",
        /// After the process was started.
        ApplicationStart = "application_start",
        /// After readiness and smoke checks.
        ValidateService = "validate_service",
        /// Before traffic is let in.
        BeforeAllowTraffic = "before_allow_traffic",
        /// After traffic was let in.
        AfterAllowTraffic = "after_allow_traffic",
    }
}

/// One command of a hook, running or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// Which hook.
    pub hook: HookName,
    /// The version of the release whose hook it is.
    pub version: ReleaseVersion,
    /// Its program as the spec names it.
    pub command: String,
    /// When it was begun.
    pub at: Timestamp,
    /// Milliseconds from its begin to its end; none while it runs.
    pub took: Option<u64>,
    /// How often it was run: more than once after exit code 21.
    pub runs: u32,
    /// Its exit code, unless something else ended it.
    pub exit: Option<i32>,
    /// How it ended, in words; empty while it runs.
    pub end: String,
    /// The last of its output, at most [`crate::limits::HOOK_TAIL`].
    pub output: String,
}

impl HookRun {
    /// Whether it ended as it should.
    pub fn passed(&self) -> bool {
        self.took.is_some() && self.exit == Some(0)
    }
}

/// What was in flight while a host changed: counted from the begin of the drain to the end of the old release, and, where
/// the new release went back, what that had open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Connections seen.
    pub in_flight: u32,
    /// Those that ended by themselves.
    pub closed: u32,
    /// Those that were open when the release that had them ended: an upper bound, by the time between two looks.
    pub cut: u32,
}

/// What provably runs on a host, read from the host itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Link, process and release directory agree.
    pub ok: bool,
    /// The executable of the running process; empty when nothing runs.
    pub exe: String,
    /// Process id; 0 when nothing runs.
    pub pid: u32,
    /// When the process started.
    pub started_at: Option<Timestamp>,
    /// Target of the `current` link.
    pub link: String,
    /// The release whose directory the process runs from.
    pub digest: Option<Digest>,
}

/// One item frozen before a revert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// `log`, `probe`, `hook`, `exit`, `config`, `link`, `clock` or `note`.
    pub kind: String,
    /// When it was taken.
    pub at: Timestamp,
    /// The text, bounded by [`crate::limits::EVIDENCE_BYTES`] in all.
    pub text: String,
}

/// All that a host says about one app. A later `seq` replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// The application.
    pub app: AppName,
    /// Rises with each change on the host, across restarts.
    pub seq: u64,
    /// The operation that this status belongs to.
    pub op: Option<OpId>,
    /// The rollout of that operation.
    pub rollout: Option<RolloutId>,
    /// Epoch of that operation's newest order.
    pub epoch: u64,
    /// Where the operation is.
    pub phase: Phase,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Whose fault a failure is.
    pub fault: Option<Fault>,
    /// Why, in one sentence; empty unless failed.
    pub reason: String,
    /// What `current` names.
    pub current: Option<ReleaseRef>,
    /// The last confirmed release.
    pub confirmed: Option<ReleaseRef>,
    /// What the operation moves to.
    pub target: Option<ReleaseRef>,
    /// What provably runs.
    pub attested: Attestation,
    /// What the drain saw.
    pub drained: Option<Drained>,
    /// Milliseconds spent in each phase.
    pub phase_times: BTreeMap<Phase, u64>,
    /// When the phase was entered, by the host's wall clock.
    pub since: Timestamp,
    /// Frozen before a revert.
    pub evidence: Vec<Evidence>,
    /// All complete releases of the app on this host.
    pub held: Vec<Digest>,
    /// What the host does or waits for right now.
    pub detail: String,
    /// The hooks of the operation so far, at most [`crate::limits::HOOK_RUNS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRun>,
    /// What the host remembers of the app's releases; none from an agent that does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<Past>,
}

impl AppStatus {
    /// Whether the app takes one of the host's [`crate::limits::APPS`] places: something of it is there, or on its way in. A first
    /// release takes none before its signature was verified, nor after it has failed.
    pub const fn has_place(&self) -> bool {
        self.current.is_some() || self.confirmed.is_some() || self.phase.takes_place()
    }
}

impl Phase {
    /// Whether an app in this phase takes a place on its host although nothing of it is there.
    pub const fn takes_place(self) -> bool {
        !matches!(self, Self::Idle | Self::Assigned | Self::Staging | Self::Failed | Self::Reverted)
    }
}
