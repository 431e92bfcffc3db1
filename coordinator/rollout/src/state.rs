//! A rollout's state: all that is kept of it between two events, and nothing else.
//!
//! It is stored as JSON by the shell, so it stays bounded: texts are cut, evidence stays where it was put, and one
//! host costs less than a kilobyte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, Environment, HostName, OpId, RolloutId};
use windlass_proto::phase::{Drained, Fault, HookRun, Outcome, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::{HostOrder, RolloutSpec};
use windlass_proto::time::{Span, Timestamp};
use windlass_proto::trace::TraceParent;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To a new release.
    Deploy,
    /// To an earlier one.
    Rollback,
    /// An ended rollout once more, for the hosts that it left behind.
    Retry,
}

impl Kind {
    /// The word shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Retry => "retry",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Where a rollout is. What it waits for is in [`Rollout::conditions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Recorded; not begun.
    Validating,
    /// The release is being staged on all hosts; nothing is disturbed.
    Preparing,
    /// One batch changes.
    Progressing {
        /// Index into [`Rollout::batches`].
        batch: usize,
        /// What is being done with it.
        step: BatchStep,
    },
    /// All batches are through; every host must still attest.
    Promoting,
    /// Every targeted host attests the release or was excused by name, and unless all had it before, one came to it now.
    Succeeded,
    /// Going back.
    Aborting,
    /// Every changed host is back.
    RolledBack,
    /// A changed host did not come back; needs a person.
    RollbackFailed,
    /// Ended badly with nothing changed, be it that every host was excused; with nothing to go back to; or with failures
    /// within the threshold.
    Failed,
    /// Aborted by an operator before anything was changed.
    Cancelled,
}

impl State {
    /// All in which a rollout is over.
    pub const ENDS: &[Self] =
        &[Self::Succeeded, Self::RolledBack, Self::RollbackFailed, Self::Failed, Self::Cancelled];

    /// The words of all others.
    pub const OPEN: &[&'static str] = &["Validating", "Preparing", "Progressing", "Promoting", "Aborting"];

    /// The word shown: the state's name in DESIGN 6.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Validating => "Validating",
            Self::Preparing => "Preparing",
            Self::Progressing { .. } => "Progressing",
            Self::Promoting => "Promoting",
            Self::Succeeded => "Succeeded",
            Self::Aborting => "Aborting",
            Self::RolledBack => "RolledBack",
            Self::RollbackFailed => "RollbackFailed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Whether the rollout is over.
    pub const fn ended(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::RolledBack | Self::RollbackFailed | Self::Failed | Self::Cancelled
        )
    }
}

/// What is being done with the current batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStep {
    /// Its hosts are being changed.
    Deploying,
    /// All its hosts are through; the rest between two batches runs.
    Baking {
        /// When it ends; moved by the length of every pause.
        until: Timestamp,
    },
}

/// Why a rollout does not go on. Progress needs the set empty; going back never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// An operator paused it, or it failed with `on_failure: pause`.
    Manual,
    /// Hosts that are down for good use up `max_unavailable`.
    Budget,
    /// Silent hosts use up `max_unavailable`.
    LostHosts,
    /// The coordinator started again and waits for the hosts' reports.
    Recovery,
}

impl Condition {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Manual, Self::Budget, Self::LostHosts, Self::Recovery];

    /// The word shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Manual => "Manual",
            Self::Budget => "Budget",
            Self::LostHosts => "LostHosts",
            Self::Recovery => "Recovery",
        }
    }
}

/// Which way a host's operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// To the rollout's target.
    Forward,
    /// To what the host had before.
    Back,
}

/// What the rollout asks of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Stage, and wait for the permit.
    Stage,
    /// The permit was given: the host counts as out of service until its operation has ended.
    Go,
    /// Stop and go back by yourself; nothing is to be heard of the operation any more.
    Abort,
    /// Through, for good or bad; see [`Host::outcome`].
    Settled,
    /// Let go before it was touched.
    Released,
}

/// One host of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Value of the failure domain's label; empty when there is none.
    pub domain: String,
    /// What was confirmed here before; what a way back leads to.
    pub former: Option<ReleaseRef>,
    /// Whether this host came to the target in an earlier rollout: it is never touched but counts in the budget.
    #[serde(default)]
    pub unchanged: bool,
    /// The operation under way or the last one.
    pub op: OpId,
    /// How often an operation was tried this way; a failure of the network is tried again.
    pub attempt: u32,
    /// No earlier than this is the next try.
    pub not_before: Option<Timestamp>,
    /// Which way it goes.
    pub way: Way,
    /// What is asked of the host.
    pub part: Part,
    /// Which operation the host's newest status is about.
    pub heard_op: Option<OpId>,
    /// Sequence number of the newest status.
    pub seq: u64,
    /// Phase as last reported for [`Host::op`].
    pub phase: Phase,
    /// How the host's part ended.
    pub outcome: Option<Outcome>,
    /// Whose fault it is that the operation at hand failed.
    pub fault: Option<Fault>,
    /// Why that failed, or why the host was let go.
    pub reason: String,
    /// What went wrong, in the order in which it was heard; [`Host::told`] is what is shown of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<crate::cause::Cause>,
    /// What it does right now, in the host's words.
    pub detail: String,
    /// What the drain saw.
    pub drained: Option<Drained>,
    /// Milliseconds in each phase.
    pub phase_times: BTreeMap<Phase, u64>,
    /// What its hooks did, under the operation at hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRun>,
    /// When the permit of the current operation was given.
    pub permit_at: Option<Timestamp>,
    /// Whether any permit was ever given to this host in this rollout.
    pub touched: bool,
    /// Release that the host attested with its newest status: link, process and directory agree.
    pub attested: Option<Digest>,
    /// Another operation has the host out of service, as one of an ended rollout that was not heard of in time.
    #[serde(default)]
    pub elsewhere: bool,
    /// Since when the host is not heard of.
    pub silent_since: Option<Timestamp>,
    /// Left the denominators: silent for longer than the policy waits.
    pub gone: bool,
    /// Whether the host reported since the coordinator started.
    pub reported: bool,
    /// The rollout took its operation back before it had failed: how it then ends is no failure of the release.
    pub aborted: bool,
    /// Not healthy by its deadline: a failure, even if it still goes back by itself.
    pub overdue: bool,
    /// What the rollout last told this host and the host has not yet acted on.
    pub sent: Option<Sent>,
}

/// A message that a host has not yet acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Which.
    pub what: Said,
    /// When it was last sent.
    pub at: Timestamp,
}

/// The four things that a rollout tells a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// Stage this.
    Assign,
    /// Go out of service.
    Permit,
    /// Keep it.
    Confirm,
    /// Drop it.
    Abort,
}

/// A rollout: moving a set of hosts of one app to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its id.
    pub id: RolloutId,
    /// The app.
    pub app: AppName,
    /// The environment of the app.
    pub environment: Environment,
    /// Revision of the environment that it makes.
    pub revision: u64,
    /// What was asked for.
    pub kind: Kind,
    /// Whether the target was confirmed on hosts before, so that counters may go down.
    pub rollback: bool,
    /// What the fleet had before, if anything.
    pub from: Option<ReleaseRef>,
    /// The target.
    pub to: ReleaseRef,
    /// The order.
    pub spec: RolloutSpec,
    /// Who started it.
    pub started_by: String,
    /// Why, in the operator's words.
    pub reason: String,
    /// When it was recorded.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Epoch of the coordinator that leads it.
    pub epoch: u64,
    /// Where it is.
    pub state: State,
    /// Why it does not go on.
    pub conditions: BTreeSet<Condition>,
    /// Who paused it and why; empty unless [`Condition::Manual`].
    pub paused: String,
    /// Why it failed; empty unless it did.
    pub failure: String,
    /// Whether an operator aborted it.
    pub aborted_by: Option<String>,
    /// Failed hosts that an operator accepted by resuming after a failure.
    pub accepted: u32,
    /// Whether the only host that served when it was planned may be taken out of service although no other one serves: the
    /// plan has said so.
    #[serde(default)]
    pub last_host: bool,
    /// Longest that any release takes to be drained and stopped on a host of this rollout.
    #[serde(default)]
    pub leaving: Span,
    /// Hosts in the order of change.
    pub batches: Vec<Vec<HostName>>,
    /// All hosts of the plan: to be changed, unchanged and excused.
    pub hosts: BTreeMap<HostName, Host>,
    /// Since when no host has become healthy; moved by the length of every pause.
    pub progress_since: Timestamp,
    /// Since when the clocks of progress stand still.
    pub paused_since: Option<Timestamp>,
    /// When recovery gives up waiting for reports.
    pub recovery_until: Option<Timestamp>,
    /// When going back must be over.
    pub back_until: Option<Timestamp>,
    /// How it ended at first, where hosts left the release after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_end: Option<crate::after::FirstEnd>,
    /// What users saw, where the spec has a URL to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<crate::availability::Availability>,
    /// Under what its span lies, where whoever ordered it follows a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// Rises with each change.
    pub version: u64,
}

impl Rollout {
    /// Whether it is over.
    pub const fn ended(&self) -> bool {
        self.state.ended()
    }

    /// The hosts that take part, or did before they were let go; not those that never have.
    pub fn takers(&self) -> impl Iterator<Item = &HostName> {
        let never = |host: &Host| host.outcome == Some(Outcome::Skipped) && !host.touched;
        self.hosts.iter().filter(move |(_, host)| !never(host)).map(|(name, _)| name)
    }

    /// What each host is asked to keep to.
    pub fn host_order(&self) -> HostOrder {
        HostOrder {
            host: self.spec.host.clone(),
            min_healthy_time: self.spec.strategy.min_healthy_time,
            healthy_deadline: self.spec.strategy.healthy_deadline,
        }
    }

    /// What the host's operation moves it to.
    pub fn target_of<'a>(&'a self, host: &'a Host) -> &'a ReleaseRef {
        match (host.way, &host.former) {
            (Way::Back, Some(former)) => former,
            _ => &self.to,
        }
    }
}

/// The answer to an event: what to store, then what to do.
#[derive(Debug, Clone)]
pub struct Step {
    /// The rollout after the event; on disk before any effect.
    pub state: Rollout,
    /// What to do, in order.
    pub effects: Vec<crate::Effect>,
}
