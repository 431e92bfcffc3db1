//! From an operator's order to a plan: names resolved, the fleet pictured, the planner asked.

use std::collections::BTreeSet;

use windlass_proto::id::{AppName, Environment, HostName};
use windlass_proto::release::ReleaseRef;
use windlass_proto::rpc::ErrorKind;
use windlass_proto::spec::check;
use windlass_proto::spec::{ReleaseSpec, RolloutSpec};
use windlass_rollout::plan::{self, FleetHost, OpenRollout, Order};
use windlass_rollout::{Fetch, Kind, Plan, timing};

use super::record::BundleRecord;
use super::{Fleet, HostState, ROW, Refusal};

/// An order as it came.
#[derive(Debug, Clone, Default)]
pub struct OrderText {
    /// The app.
    pub app: String,
    /// The environment of the app; empty: its only one.
    pub environment: String,
    /// An environment whose hosts may be taken from it; empty: none.
    pub take_from: String,
    /// Digest, digest prefix or version; empty with `rollback`: the last good release.
    pub target: String,
    /// The rollout part of the spec; empty with `rollback`: that of the environment's last rollout.
    pub spec_json: String,
    /// Whether to go back.
    pub rollback: bool,
    /// Refuse unless the next revision is this; 0: do not check.
    pub expect_revision: u64,
    /// Only these of the targeted hosts, by name or id; empty: all.
    pub hosts: Vec<String>,
}

/// A release as far as planning needs to know it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The release.
    pub release: ReleaseRef,
    /// Its own part of the spec.
    pub spec: ReleaseSpec,
    /// Sum of the files' sizes.
    pub bytes: u64,
    /// What a host without any release fetches.
    pub stored_bytes: u64,
}

impl From<&BundleRecord> for Target {
    fn from(bundle: &BundleRecord) -> Self {
        Self {
            release: bundle.release.clone(),
            spec: bundle.spec.clone(),
            bytes: bundle.bytes,
            stored_bytes: bundle.stored_bytes,
        }
    }
}

impl Fleet {
    /// What an order would do. Every host is taken to fetch the whole release.
    pub fn plan(&self, text: &OrderText) -> Result<Plan, Refusal> {
        let order = self.order(text, None)?;
        Ok(self.plan_order(order))
    }

    /// Asks the planner.
    pub fn plan_order(&self, order: Order) -> Plan {
        let picture = self.picture(&order.to, order.spec.failure.poison_after);
        let mut plan = windlass_rollout::make_plan(order, &picture);
        plan.checks.extend(self.may_dial(&plan.order.spec));
        plan
    }

    /// An order with its names resolved. `proposed` is a release that need not be stored; it takes the target's place.
    pub fn order(&self, text: &OrderText, proposed: Option<Target>) -> Result<Order, Refusal> {
        let app = AppName::new(&text.app).map_err(|error| Refusal::invalid(error.to_string()))?;
        let environment = match text.rollback {
            true => self.acting_in(&app, &text.environment)?,
            false => self.deployed_to(&app, &text.environment)?,
        };
        let take_from = self.taken_from(&app, &environment, &text.take_from)?;
        let to = match (proposed, text.rollback, text.target.is_empty()) {
            (Some(proposed), false, true) => self.proposed(&app, proposed)?,
            (Some(_), _, _) => {
                return Err(Refusal::invalid("the order proposes a release and names another: choose one"));
            }
            (None, true, _) => self.target(&self.rollback_target(&app, &environment, &text.target)?)?,
            (None, false, false) => self.find_bundle(Some(&app), &text.target)?.into(),
            (None, false, true) => {
                return Err(Refusal::invalid("the order names no release: give a version or a digest"));
            }
        };
        if text.spec_json.len() > ROW {
            let size = text.spec_json.len();
            let message = format!("the rollout part of the spec takes {size} bytes; at most {ROW} are kept");
            return Err(Refusal::new(ErrorKind::TooMuch, message));
        }
        let spec = match (text.spec_json.is_empty(), text.rollback) {
            (false, _) => serde_json::from_str(&text.spec_json).map_err(|error| {
                Refusal::invalid(format!("the rollout part of the spec is not valid: {error}"))
            })?,
            (true, true) => self.last_spec(&app, &environment)?,
            (true, false) => return Err(Refusal::invalid("the order has no rollout part of the spec")),
        };
        // Also what is stored: it may have been before this version had the rule, and hosts refuse it.
        check::sound(&app, &to.spec)
            .map_err(|error| Refusal::invalid(format!("the spec of {} is not valid: {error}", to.release)))?;
        let kind = if text.rollback { Kind::Rollback } else { Kind::Deploy };
        let only = text.hosts.iter().map(|host| Ok(self.host(host)?.record.name.clone()));
        let only: BTreeSet<HostName> = only.collect::<Result<_, Refusal>>()?;
        let only = (!only.is_empty()).then_some(only);
        let order = self.order_of(app, environment, kind, to, spec, only);
        Ok(Order { take_from, expect_revision: text.expect_revision, ..order })
    }

    fn proposed(&self, app: &AppName, proposed: Target) -> Result<Target, Refusal> {
        let release = &proposed.release;
        if release.app != *app {
            return Err(Refusal::invalid(format!(
                "the proposed release is of app {}, not {app}",
                release.app
            )));
        }
        self.version_is_free(release)?;
        Ok(proposed)
    }

    /// A release that is stored.
    pub(super) fn target(&self, release: &ReleaseRef) -> Result<Target, Refusal> {
        let unknown = || Refusal::unknown("bundle", &release.digest.to_string(), std::iter::empty());
        self.bundle(&release.digest).map(Into::into).ok_or_else(unknown)
    }

    fn last_spec(&self, app: &AppName, environment: &Environment) -> Result<RolloutSpec, Refusal> {
        let last = self.last_rollout(app, environment);
        last.map(|rollout| rollout.spec.clone()).ok_or_else(|| {
            let whole = environment.of(app);
            Refusal::wrong_state(format!(
                "{whole} has had no rollout whose spec could be used again; give one with -f"
            ))
        })
    }

    pub(super) fn order_of(
        &self,
        app: AppName,
        environment: Environment,
        kind: Kind,
        to: Target,
        spec: RolloutSpec,
        only: Option<BTreeSet<HostName>>,
    ) -> Order {
        let record = self.environment(&app, &environment);
        Order {
            environment,
            take_from: None,
            kind,
            rollback: kind == Kind::Rollback || record.releases.succeeded.contains(&to.release.digest),
            from: record.releases.current().cloned(),
            to_bytes: to.bytes,
            fetch: Fetch::whole(to.stored_bytes),
            release: to.spec,
            revision: record.revision + 1,
            expect_revision: 0,
            only,
            app,
            to: to.release,
            spec,
        }
    }

    /// The fleet as the planner wants it.
    fn picture(&self, to: &ReleaseRef, poison_after: u32) -> plan::Fleet {
        let app = &to.app;
        let mut offered = self.offered(to);
        let hosts = self.hosts().map(|host| {
            let status = host.statuses.get(app);
            FleetHost {
                name: host.record.name.clone(),
                labels: host.record.labels.clone(),
                state: match host.state(self.now, Some(app)) {
                    HostState::Ready => plan::HostState::Ready,
                    HostState::Silent => plan::HostState::Silent,
                    HostState::Cordoned => plan::HostState::Cordoned,
                    HostState::Quarantined => plan::HostState::Quarantined,
                    HostState::Foreign => plan::HostState::Foreign,
                },
                environment: host.environment(app).cloned(),
                current: status.and_then(|s| s.current.clone()),
                confirmed: status.and_then(|s| s.confirmed.clone()).map(|said| self.as_stored(said)),
                leaving: status
                    .and_then(|s| self.bundle(&s.current.as_ref()?.digest))
                    .map(|bundle| timing::leaving(&bundle.spec)),
                attested: status.is_some_and(|s| {
                    s.attested.ok && s.attested.digest == s.current.as_ref().map(|release| release.digest)
                }),
                held: status.map(|s| s.held.clone()).unwrap_or_default(),
                disk_free: host.record.facts.as_ref().map(|facts| facts.disk_free_bytes),
                past: host.past(app),
                offered: offered(host),
                full: host.is_full(app),
                features: host.record.features.clone(),
                agent_version: host.record.agent_version.clone(),
            }
        });
        let open = self.rollouts.values().map(|entry| &entry.rollout);
        let open = open.filter(|rollout| !rollout.ended() && rollout.app == *app);
        plan::Fleet {
            hosts: hosts.collect(),
            open: open
                .map(|rollout| OpenRollout {
                    id: rollout.id.clone(),
                    app: rollout.app.clone(),
                    environment: rollout.environment.clone(),
                    hosts: rollout.takers().cloned().collect(),
                    started_by: rollout.started_by.clone(),
                    age: self.now.since(rollout.started_at).whole_secs(),
                    reason: rollout.reason.clone(),
                    state: rollout.state.word(),
                })
                .collect(),
            poisoned: self.poisoned(app, poison_after),
        }
    }
}
