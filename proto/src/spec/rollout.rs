//! The rollout part of a spec: the order, kept with the rollout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dial::DialUrl;
use super::{Amount, Ratio};
use crate::time::Span;

/// Which hosts move, how fast, and what happens when it goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutSpec {
    /// Which hosts.
    pub targets: Targets,
    /// In which order and how many at a time.
    #[serde(default)]
    pub strategy: Strategy,
    /// What each host does while the release is unconfirmed, and just after.
    #[serde(default)]
    pub host: HostSpec,
    /// What ends the rollout, and how.
    #[serde(default)]
    pub failure: Failure,
    /// A URL that the coordinator asks during the rollout, as users would, to count what they saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<AvailabilitySpec>,
}

/// What is asked during a rollout, and how often. The coordinator's settings must allow the URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AvailabilitySpec {
    /// Any status below 400 within the period (at least a second) is an answer; redirects are not followed.
    pub url: DialUrl,
    /// Time between two questions, from 100ms to 1m.
    #[serde(default = "one_second")]
    pub period: Span,
}

const fn one_second() -> Span {
    Span::secs(1)
}

/// Which hosts a rollout moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Label selector in kubectl's grammar; must not be empty.
    pub selector: String,
    /// Refuses a surprise-sized set of hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_hosts: Option<ExpectHosts>,
    /// A label; only hosts of one value of it are changed at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    /// What becomes of hosts that are silent.
    #[serde(default)]
    pub absent: Absent,
}

/// Bounds on the number of targeted hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectHosts {
    /// At least so many.
    #[serde(default)]
    pub min: u32,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// What becomes of hosts that are silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Absent {
    /// They leave the rollout, excused by name.
    #[default]
    Skip,
    /// The rollout waits for them until its progress deadline.
    Wait,
    /// They count toward `error_threshold`.
    CountAsFailed,
}

/// In which order and how many at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Strategy {
    /// The kind of strategy.
    #[serde(rename = "type")]
    pub kind: StrategyType,
    /// A cumulative ramp of hosts or percentages; instead of `max_parallel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches: Option<Vec<Amount>>,
    /// Equal batches of so many hosts; default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<Amount>,
    /// How many hosts may be unavailable at once, for whatever reason; a percentage rounds down but not below 1.
    pub max_unavailable: Amount,
    /// Healthy without interruption for so long before a host counts.
    pub min_healthy_time: Span,
    /// Longest that a host may take to become healthy once the old release has stopped. Drain and stop are not part of it:
    /// they have limits of their own.
    pub healthy_deadline: Span,
    /// Longest without any host becoming healthy.
    pub progress_deadline: Span,
    /// Rest between two batches.
    pub pause_between: Span,
}

/// The kinds of strategy that this version has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StrategyType {
    /// Batch by batch.
    #[default]
    Rolling,
    /// All hosts in one batch; the budget is the whole fleet.
    AllAtOnce,
}

/// How a strategy divides the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batches {
    /// Cumulative ramp.
    Ramp(Vec<Amount>),
    /// Equal batches.
    Equal(Amount),
    /// One batch.
    All,
}

impl Strategy {
    /// The division that the fields ask for.
    pub fn division(&self) -> Batches {
        match (self.kind, &self.batches, self.max_parallel) {
            (StrategyType::AllAtOnce, ..) => Batches::All,
            (StrategyType::Rolling, Some(ramp), _) => Batches::Ramp(ramp.clone()),
            (StrategyType::Rolling, None, Some(n)) => Batches::Equal(n),
            (StrategyType::Rolling, None, None) => Batches::Equal(Amount::Count(1)),
        }
    }
}

/// What each host does while the release is unconfirmed, and just after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostSpec {
    /// A host goes back unless it is confirmed within this time of being admitted.
    pub confirm_timeout: Span,
    /// What it does then.
    pub on_contact_lost: OnContactLost,
    /// Watching after confirm.
    pub watch: Watch,
    /// How long the coordinator's leave to take a host out lasts.
    pub permit_ttl: Span,
}

/// What an assignment asks of one host: the host's part of the spec and the strategy's times for one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostOrder {
    /// The spec's `rollout.host`.
    pub host: HostSpec,
    /// Healthy without interruption for so long before traffic.
    pub min_healthy_time: Span,
    /// Longest from the old release's end to healthy.
    pub healthy_deadline: Span,
}

/// What an unconfirmed host does when `confirm_timeout` passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnContactLost {
    /// Goes back.
    #[default]
    Revert,
    /// Stays as long as its own probes pass, at most 15 minutes more.
    HoldIfHealthy,
    /// Stops the app and stays out.
    Stop,
}

/// Watching after confirm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// For so long after confirm, failing liveness is the release's fault.
    pub window: Span,
    /// What happens then.
    pub on_failure: OnWatchFailure,
}

/// What a host does when liveness fails in the watch window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnWatchFailure {
    /// Back to the release confirmed before, once.
    #[default]
    Revert,
    /// Restart and report, as after the window.
    Restart,
}

/// What ends a rollout, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Failure {
    /// More failed hosts than this end the rollout.
    pub error_threshold: Amount,
    /// What happens then.
    pub on_failure: OnFailure,
    /// How changed hosts go back.
    pub rollback: RollbackSpec,
    /// A digest that failed for app reasons on so many hosts is offered to no other.
    pub poison_after: u32,
}

/// What happens when a rollout fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Changed hosts go back.
    #[default]
    Rollback,
    /// The rollout waits for a person.
    Pause,
}

/// How changed hosts go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackSpec {
    /// How many at a time; hosts already failing do not count.
    pub max_parallel: Amount,
    /// Must be over by then; checked at plan.
    pub deadline: Span,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            kind: StrategyType::Rolling,
            batches: None,
            max_parallel: None,
            max_unavailable: Amount::Percent(Ratio(1000)),
            min_healthy_time: Span::secs(10),
            healthy_deadline: Span::secs(300),
            progress_deadline: Span::secs(600),
            pause_between: Span(0),
        }
    }
}

impl Default for HostSpec {
    fn default() -> Self {
        Self {
            confirm_timeout: Span::secs(180),
            on_contact_lost: OnContactLost::Revert,
            watch: Watch::default(),
            permit_ttl: Span::secs(30),
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self { window: Span::secs(600), on_failure: OnWatchFailure::Revert }
    }
}

impl Default for Failure {
    fn default() -> Self {
        Self {
            error_threshold: Amount::Count(0),
            on_failure: OnFailure::Rollback,
            rollback: RollbackSpec::default(),
            poison_after: 2,
        }
    }
}

impl Default for RollbackSpec {
    fn default() -> Self {
        Self { max_parallel: Amount::Percent(Ratio(3300)), deadline: Span::secs(300) }
    }
}
