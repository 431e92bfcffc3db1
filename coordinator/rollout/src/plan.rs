//! A plan: a rollout checked against the fleet before anything is touched.
//!
//! [`crate::make_plan`] is pure: the same order and the same picture of the fleet give the same plan, at `plan` and at `deploy`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::grant::{Past, Presented};
use windlass_proto::id::{AppName, Environment, HostName, RolloutId};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::{ReleaseSpec, RolloutSpec};
use windlass_proto::time::Span;

use crate::failures::Parole;
use crate::fetch::Fetch;
use crate::state::Kind;
use crate::timing;

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// The app.
    pub app: AppName,
    /// The environment of the app.
    pub environment: Environment,
    /// An environment whose hosts may be taken from it.
    pub take_from: Option<Environment>,
    /// Deploy, rollback or retry.
    pub kind: Kind,
    /// Whether the target was confirmed on hosts before, so that counters may go down; always so for a rollback.
    pub rollback: bool,
    /// What the environment's last good rollout left, if any.
    pub from: Option<ReleaseRef>,
    /// The target.
    pub to: ReleaseRef,
    /// Sum of the target's file sizes.
    pub to_bytes: u64,
    /// What hosts lack of it.
    pub fetch: Fetch,
    /// The target's own part of the spec, from its manifest.
    pub release: ReleaseSpec,
    /// The order's part of the spec.
    pub spec: RolloutSpec,
    /// Revision that this rollout would make.
    pub revision: u64,
    /// Refuse unless it is this one; 0: do not check.
    pub expect_revision: u64,
    /// Only these hosts of those selected; for a retry.
    pub only: Option<BTreeSet<HostName>>,
}

impl Order {
    /// Whether hosts are told that it leads back.
    pub(crate) fn leads_back(&self) -> bool {
        self.rollback || self.kind == Kind::Rollback
    }
}

/// The fleet as the coordinator knows it now.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// All hosts.
    pub hosts: Vec<FleetHost>,
    /// The rollouts of the app that have not ended, in any of its environments.
    pub open: Vec<OpenRollout>,
    /// Digests that are not to be offered to any host.
    pub poisoned: Vec<Poisoned>,
}

/// One host, seen for the order's app.
#[derive(Debug, Clone)]
pub struct FleetHost {
    /// Its name.
    pub name: HostName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it can take part.
    pub state: HostState,
    /// The environment of the app to which it belongs: the one whose rollout took it last.
    pub environment: Option<Environment>,
    /// What `current` names.
    pub current: Option<ReleaseRef>,
    /// The last confirmed release.
    pub confirmed: Option<ReleaseRef>,
    /// Longest that `current` takes to be drained and stopped ([`timing::leaving`]); none where nothing runs, or where the
    /// coordinator does not have what runs.
    pub leaving: Option<Span>,
    /// Whether the host attests that it runs `current`.
    pub attested: bool,
    /// Complete releases of the app on the host.
    pub held: Vec<Digest>,
    /// Free bytes where releases are kept, if known.
    pub disk_free: Option<u64>,
    /// What counters are judged by there; none where the host has not said it yet.
    pub past: Option<Past>,
    /// Grants of the target, as this host would see them.
    pub offered: Arc<[Presented]>,
    /// Whether all of its places for apps are taken, and none by this one.
    pub full: bool,
    /// What it can do, as words; none where its agent does not say.
    pub features: Option<BTreeSet<String>>,
    /// Version of its agent.
    pub agent_version: String,
}

impl FleetHost {
    /// Whether it has a release in service, as far as it has said.
    pub(crate) const fn serves(&self) -> bool {
        self.confirmed.is_some()
    }

    /// How long what runs may take to leave. What is not known is taken to have the limits of the target.
    pub(crate) fn leaving(&self, target: &ReleaseSpec) -> Span {
        match (&self.current, self.leaving) {
            (None, _) => Span(0),
            (Some(_), known) => known.unwrap_or_else(|| timing::leaving(target)),
        }
    }

    /// The releases whose chunks the host need not fetch.
    pub(crate) fn releases(&self) -> impl Iterator<Item = &Digest> {
        let named = self.current.iter().chain(&self.confirmed).map(|release| &release.digest);
        self.held.iter().chain(named)
    }
}

/// Whether a host can take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// Connected and well.
    Ready,
    /// Not heard of.
    Silent,
    /// Kept out by an operator.
    Cordoned,
    /// Neither release of the app came up; needs a person.
    Quarantined,
    /// It obeys another coordinator, and this one does not lead it.
    Foreign,
}

/// A rollout that has not ended.
#[derive(Debug, Clone)]
pub struct OpenRollout {
    /// Its id.
    pub id: RolloutId,
    /// Its app.
    pub app: AppName,
    /// The environment of the app.
    pub environment: Environment,
    /// The hosts that take part.
    pub hosts: BTreeSet<HostName>,
    /// Who started it.
    pub started_by: String,
    /// How long ago.
    pub age: Span,
    /// Why, in their words; empty where they gave no reason.
    pub reason: String,
    /// Its state, as a word.
    pub state: &'static str,
}

/// A digest that failed for app reasons on too many hosts.
#[derive(Debug, Clone)]
pub struct Poisoned {
    /// The digest.
    pub digest: Digest,
    /// Where it failed.
    pub hosts: Vec<HostName>,
    /// In which rollout last.
    pub rollout: RolloutId,
    /// Leave to try it once more, where somebody gave it.
    pub paroled: Option<Parole>,
}

/// A checked order. It may start only when [`Plan::refusal`] is `None`.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The order.
    pub order: Order,
    /// Hosts in the order of change.
    pub batches: Vec<Vec<HostName>>,
    /// All findings, errors first.
    pub checks: Vec<Check>,
    /// Expected time until success.
    pub estimate_seconds: u64,
    /// Expected time of a way back from the last batch.
    pub rollback_seconds: u64,
    /// Bytes that all hosts together fetch, as far as it is known what they hold.
    pub bytes_to_send: u64,
    /// Hosts that are already on the target.
    pub unchanged: Vec<HostName>,
    /// Hosts that take no part, with the reason.
    pub excused: BTreeMap<HostName, String>,
    /// Failure domain of each host that takes part.
    pub domains: BTreeMap<HostName, String>,
    /// Hosts that take part although they are silent now.
    pub silent: BTreeSet<HostName>,
    /// Hosts that would refuse the target because of its counter; absent ones among them.
    pub refusing: Vec<HostName>,
    /// What each host that takes part has confirmed now.
    pub former: BTreeMap<HostName, ReleaseRef>,
    /// Hosts that leave another environment of the app for this one, with its name.
    pub moving: BTreeMap<HostName, Environment>,
    /// The host that serves alone and is to be changed.
    pub last_host: Option<HostName>,
    /// Longest that any release takes to be drained and stopped in this rollout.
    pub leaving: Span,
    /// More than half of the hosts may be out of service at once.
    pub wide: bool,
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The rollout may not start.
    Error,
    /// Worth reading.
    Warn,
    /// Fine.
    Ok,
}

impl Level {
    /// The word shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Ok => "ok",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which check.
    pub id: &'static str,
    /// How serious.
    pub level: Level,
    /// What was found, and what to change.
    pub message: String,
}

impl Check {
    /// Whether it refuses because of what others did (busy, poisoned, revision, environment) or of what hosts have seen (grant):
    /// exit 7 rather than a wrong spec. The finding `undecided`, that a rollback has to name its target, is another.
    pub fn is_conflict(&self) -> bool {
        matches!(self.id, "busy" | "poisoned" | "revision" | "environment" | "grant")
    }
}

impl Plan {
    /// The most important finding that forbids a start.
    pub fn refusal(&self) -> Option<&Check> {
        let errors = || self.checks.iter().filter(|check| check.level == Level::Error);
        errors().find(|check| check.is_conflict()).or_else(|| errors().next())
    }

    /// Whether every targeted host is on the target already.
    pub fn nothing_to_do(&self) -> bool {
        self.batches.is_empty()
    }
}
