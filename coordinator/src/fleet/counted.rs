//! What is counted since this coordinator started, for its metrics. All labels are words of the program.

use windlass_proto::metrics::prometheus_client::metrics::counter::Counter;
use windlass_proto::metrics::prometheus_client::metrics::family::Family;
use windlass_proto::metrics::prometheus_client::metrics::histogram::Histogram;
use windlass_proto::metrics::prometheus_client::registry::Registry;
use windlass_proto::metrics::{Words, durations};
use windlass_proto::phase::{Fault, Outcome};
use windlass_rollout::state::Host;
use windlass_rollout::{Kind, State};

/// Counters; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Counted {
    rollouts: Family<Words<2>, Counter>,
    hosts: Family<Words<2>, Counter>,
    reverts: Family<Words<1>, Counter>,
    phases: Family<Words<1>, Histogram, fn() -> Histogram>,
    connections: Family<Words<1>, Counter>,
    commits: Histogram,
}

impl Default for Counted {
    fn default() -> Self {
        let counted = Self {
            rollouts: Family::default(),
            hosts: Family::default(),
            reverts: Family::default(),
            phases: Family::new_with_constructor(durations as fn() -> Histogram),
            connections: Family::default(),
            commits: durations(),
        };
        // A counter that appears with its first event has no rate for it.
        for fault in Fault::ALL {
            drop(counted.reverts.get_or_create(&[("fault", fault.word())]));
        }
        for kind in [Kind::Deploy, Kind::Rollback, Kind::Retry] {
            for state in State::ENDS {
                drop(counted.rollouts.get_or_create(&[("kind", kind.word()), ("state", state.word())]));
            }
        }
        for end in ["closed", "cut"] {
            drop(counted.connections.get_or_create(&[("end", end)]));
        }
        counted
    }
}

impl Counted {
    /// A rollout has ended.
    pub(super) fn rollout(&self, kind: Kind, state: State) {
        self.rollouts.get_or_create(&[("kind", kind.word()), ("state", state.word())]).inc();
    }

    /// A host of a rollout changed.
    pub(super) fn host(&self, before: &Host, after: &Host) {
        let Some(outcome) = after.outcome.filter(|_| before.outcome != after.outcome) else { return };
        let (fault, _) = after.told();
        let fault = fault.filter(|_| outcome != Outcome::Confirmed);
        let word = fault.map_or("none", Fault::word);
        self.hosts.get_or_create(&[("outcome", outcome.word()), ("fault", word)]).inc();
        if let (Outcome::Reverted | Outcome::Quarantined, Some(fault)) = (outcome, fault) {
            self.reverts.get_or_create(&[("fault", fault.word())]).inc();
        }
        // Of a host that went back after it had confirmed, the way forward was counted with that.
        if before.outcome.is_some() && before.op == after.op {
            return;
        }
        for (phase, spent) in &after.phase_times {
            self.phases.get_or_create(&[("phase", phase.word())]).observe(*spent as f64 / 1000.0);
        }
        if let Some(drained) = after.drained {
            self.connections.get_or_create(&[("end", "closed")]).inc_by(drained.closed.into());
            self.connections.get_or_create(&[("end", "cut")]).inc_by(drained.cut.into());
        }
    }

    /// A commit of the state took this long.
    pub fn commit(&self, took: std::time::Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// Adds all of it to what is shown.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "rollouts_ended",
            "Rollouts that ended, by what was asked for and how they ended",
            self.rollouts.clone(),
        );
        registry.register(
            "hosts_ended",
            "Hosts whose part in a rollout ended, by outcome and fault",
            self.hosts.clone(),
        );
        registry.register(
            "reverts",
            "Hosts that reverted to their former release or were quarantined, by fault",
            self.reverts.clone(),
        );
        registry.register("phase_seconds", "How long hosts were in each phase", self.phases.clone());
        registry.register(
            "drained_connections",
            "Connections that were open when hosts drained, by how they ended",
            self.connections.clone(),
        );
        registry.register(
            "store_commit_seconds",
            "How long commits of the coordinator's state took",
            self.commits.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use windlass_proto::metrics::prometheus_client::encoding::text::encode;
    use windlass_proto::phase::{Drained, Phase};

    use super::*;

    fn host() -> Host {
        serde_json::from_str(
            r#"{"domain":"","former":null,"op":"r-1-host-1","attempt":1,"not_before":null,"way":"forward","part":"go",
            "heard_op":null,"seq":3,"phase":"verifying","outcome":null,"fault":null,"reason":"","detail":"",
            "drained":null,"phase_times":{},"permit_at":null,"touched":true,"attested":null,"silent_since":null,"gone":false,
            "reported":true,"aborted":false,"overdue":false,"sent":null}"#,
        )
        .unwrap()
    }

    fn shown(counted: &Counted) -> Vec<String> {
        let mut registry = Registry::with_prefix("windlass");
        counted.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[track_caller]
    fn has(counted: &Counted, line: &str) {
        let shown = shown(counted);
        assert!(shown.iter().any(|has| has == line), "{line}\n{}", shown.join("\n"));
    }

    #[test]
    fn a_host_is_counted_when_its_part_ends_and_not_before() {
        let counted = Counted::default();
        let before = host();
        let mut working = before.clone();
        working.phase_times.insert(Phase::Staging, 1200);
        counted.host(&before, &working);
        assert!(!shown(&counted).iter().any(|line| line.starts_with("windlass_hosts_ended_total{")));

        let mut reverted = working.clone();
        (reverted.outcome, reverted.fault) = (Some(Outcome::Reverted), Some(Fault::App));
        reverted.drained = Some(Drained { in_flight: 3, closed: 2, cut: 1 });
        counted.host(&working, &reverted);
        counted.host(&reverted, &reverted);
        has(&counted, "windlass_hosts_ended_total{outcome=\"reverted\",fault=\"app\"} 1");
        has(&counted, "windlass_reverts_total{fault=\"app\"} 1");
        has(&counted, "windlass_reverts_total{fault=\"host\"} 0");
        has(&counted, "windlass_drained_connections_total{end=\"cut\"} 1");
        has(&counted, "windlass_phase_seconds_count{phase=\"staging\"} 1");
        has(&counted, "windlass_phase_seconds_bucket{le=\"2.5\",phase=\"staging\"} 1");
    }

    #[test]
    fn going_back_after_it_had_confirmed_is_a_revert_and_no_second_way_forward() {
        let counted = Counted::default();
        let before = host();
        let mut confirmed = before.clone();
        confirmed.outcome = Some(Outcome::Confirmed);
        confirmed.phase_times.insert(Phase::Staging, 1200);
        counted.host(&before, &confirmed);
        let mut left = confirmed.clone();
        (left.outcome, left.fault) = (Some(Outcome::Reverted), Some(Fault::App));
        counted.host(&confirmed, &left);
        has(&counted, "windlass_hosts_ended_total{outcome=\"confirmed\",fault=\"none\"} 1");
        has(&counted, "windlass_reverts_total{fault=\"app\"} 1");
        has(&counted, "windlass_phase_seconds_count{phase=\"staging\"} 1");
    }

    #[test]
    fn ends_are_there_before_they_happen() {
        let counted = Counted::default();
        has(&counted, "windlass_rollouts_ended_total{kind=\"deploy\",state=\"RolledBack\"} 0");
        counted.rollout(Kind::Deploy, State::RolledBack);
        has(&counted, "windlass_rollouts_ended_total{kind=\"deploy\",state=\"RolledBack\"} 1");
    }
}
