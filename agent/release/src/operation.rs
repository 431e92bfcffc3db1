//! One order of the coordinator, from its assignment to its outcome.

use serde::{Deserialize, Serialize};
use windlass_proto::grant::Leave;
use windlass_proto::id::{OpId, RolloutId};
use windlass_proto::phase::{Drained, Fault, HookName, Outcome};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::HostOrder;
use windlass_proto::trace::TraceParent;

use crate::network::Network;
use crate::now::BootTime;

/// One order of the coordinator, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub op: OpId,
    /// The rollout it is part of.
    pub rollout: RolloutId,
    /// Epoch of the newest order about it.
    pub epoch: u64,
    /// What was confirmed when it began.
    pub from: Option<ReleaseRef>,
    /// Where it goes.
    pub to: ReleaseRef,
    /// Times and policies.
    pub order: HostOrder,
    /// Going back on purpose.
    pub rollback: bool,
    /// Why the release's counter was right when it was ordered.
    #[serde(default)]
    pub leave: Leave,
    /// The rollout's span, where that belongs to a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// When the link had moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched_at: Option<BootTime>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Whose fault a failure is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The first cause of a failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What the drain saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<Drained>,
    /// The host's network when the drain began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_before: Option<Network>,
    /// The same, last seen in the trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_in_trial: Option<Network>,
    /// A confirm came when the host was on its way back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed_late: bool,
    /// The hook that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookName>,
    /// What the probes last complained of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub complaint: String,
}
