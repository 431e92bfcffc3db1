//! How hosts' parts in deployments ended: what agents count of their own and the coordinator of all, in the same way.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Words, durations};
use crate::phase::{Drained, Fault, Outcome, Phase};

/// Counters; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Endings {
    ended: Family<Words<2>, Counter>,
    reverts: Family<Words<1>, Counter>,
    phases: Family<Words<1>, Histogram, fn() -> Histogram>,
    connections: Family<Words<1>, Counter>,
}

/// One end.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// How it had ended before: a host may revert after it had confirmed. Its times were counted with that.
    pub before: Option<Outcome>,
    /// Whose fault a failure is.
    pub fault: Option<Fault>,
    /// Milliseconds in each phase.
    pub phase_times: &'a BTreeMap<Phase, u64>,
    /// What the drain saw.
    pub drained: Option<Drained>,
}

impl Default for Endings {
    fn default() -> Self {
        let endings = Self {
            ended: Family::default(),
            reverts: Family::default(),
            phases: Family::new_with_constructor(durations as fn() -> Histogram),
            connections: Family::default(),
        };
        // A counter that appears with its first event has no rate for it.
        for fault in Fault::ALL {
            drop(endings.reverts.get_or_create(&[("fault", fault.word())]));
        }
        for end in ["closed", "cut"] {
            drop(endings.connections.get_or_create(&[("end", end)]));
        }
        endings
    }
}

impl Endings {
    /// Counts an end; one that was counted before counts no more.
    pub fn count(&self, ending: Ending<'_>) {
        let Ending { outcome, before, fault, phase_times, drained } = ending;
        if before == Some(outcome) {
            return;
        }
        let fault = fault.filter(|_| outcome != Outcome::Confirmed);
        let word = fault.map_or("none", Fault::word);
        self.ended.get_or_create(&[("outcome", outcome.word()), ("fault", word)]).inc();
        if let (Outcome::Reverted | Outcome::Quarantined, Some(fault)) = (outcome, fault) {
            self.reverts.get_or_create(&[("fault", fault.word())]).inc();
        }
        if before.is_some() {
            return;
        }
        for (phase, spent) in phase_times {
            self.phases.get_or_create(&[("phase", phase.word())]).observe(*spent as f64 / 1000.0);
        }
        if let Some(drained) = drained {
            self.connections.get_or_create(&[("end", "closed")]).inc_by(drained.closed.into());
            self.connections.get_or_create(&[("end", "cut")]).inc_by(drained.cut.into());
        }
    }

    /// Adds all of it to what is shown; the ends under this name.
    pub fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        registry.register(name, help, self.ended.clone());
        registry.register(
            "reverts",
            "Apps that reverted to their former release on a host, or were quarantined there, by fault",
            self.reverts.clone(),
        );
        registry.register("phase_seconds", "How long deployments were in each phase", self.phases.clone());
        registry.register(
            "drained_connections",
            "Connections that were open when an app drained, by how they ended",
            self.connections.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn has(endings: &Endings, line: &str) -> bool {
        let mut registry = Registry::with_prefix("w");
        endings.register(&mut registry, "ended", "Ends");
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text.lines().any(|has| has == line)
    }

    #[test]
    fn an_end_is_counted_once_and_a_revert_after_it_without_its_times() {
        let endings = Endings::default();
        let times = BTreeMap::from([(Phase::Staging, 1200)]);
        let drained = Some(Drained { in_flight: 3, closed: 2, cut: 1 });
        let confirmed =
            Ending { outcome: Outcome::Confirmed, before: None, fault: None, phase_times: &times, drained };
        assert!(has(&endings, "w_reverts_total{fault=\"app\"} 0"));
        endings.count(confirmed);
        endings.count(Ending { before: Some(Outcome::Confirmed), ..confirmed });
        let before = Some(Outcome::Confirmed);
        endings.count(Ending { outcome: Outcome::Reverted, before, fault: Some(Fault::App), ..confirmed });
        for line in [
            "w_ended_total{outcome=\"confirmed\",fault=\"none\"} 1",
            "w_ended_total{outcome=\"reverted\",fault=\"app\"} 1",
            "w_reverts_total{fault=\"app\"} 1",
            "w_reverts_total{fault=\"host\"} 0",
            "w_drained_connections_total{end=\"closed\"} 2",
            "w_drained_connections_total{end=\"cut\"} 1",
            "w_phase_seconds_count{phase=\"staging\"} 1",
            "w_phase_seconds_bucket{le=\"2.5\",phase=\"staging\"} 1",
        ] {
            assert!(has(&endings, line), "{line}");
        }
    }
}
