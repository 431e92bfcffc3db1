//! What is counted since this coordinator started, for its metrics. All labels are words of the program.

use windlass_proto::metrics::prometheus_client::metrics::counter::Counter;
use windlass_proto::metrics::prometheus_client::metrics::family::Family;
use windlass_proto::metrics::prometheus_client::metrics::histogram::Histogram;
use windlass_proto::metrics::prometheus_client::registry::Registry;
use windlass_proto::metrics::{Ending, Endings, Words, durations};
use windlass_rollout::state::Host;
use windlass_rollout::{Kind, State};

/// Counters; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Counted {
    rollouts: Family<Words<2>, Counter>,
    hosts: Endings,
    commits: Histogram,
}

impl Default for Counted {
    fn default() -> Self {
        let counted = Self { rollouts: Family::default(), hosts: Endings::default(), commits: durations() };
        // A counter that appears with its first event has no rate for it.
        for kind in [Kind::Deploy, Kind::Rollback, Kind::Retry] {
            for state in State::ENDS {
                drop(counted.rollouts.get_or_create(&[("kind", kind.word()), ("state", state.word())]));
            }
        }
        counted
    }
}

impl Counted {
    /// A rollout has ended.
    pub(super) fn rollout(&self, kind: Kind, state: State) {
        self.rollouts.get_or_create(&[("kind", kind.word()), ("state", state.word())]).inc();
    }

    /// A host of a rollout changed. On its way back it ends once more.
    pub(super) fn host(&self, before: &Host, after: &Host) {
        let Some(outcome) = after.outcome else { return };
        self.hosts.count(Ending {
            outcome,
            before: before.outcome.filter(|_| before.op == after.op),
            fault: after.told().0,
            phase_times: &after.phase_times,
            drained: after.drained,
        });
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
        let help = "Hosts whose part in a rollout ended, by outcome and fault";
        self.hosts.register(registry, "hosts_ended", help);
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
    use windlass_proto::phase::{Drained, Fault, Outcome, Phase};

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
        has(&counted, "windlass_drained_connections_total{end=\"cut\"} 1");
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
