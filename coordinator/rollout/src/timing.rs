//! How long a host may take and should take, from the release's own times.

use windlass_proto::spec::{Probe, ReleaseSpec, RolloutSpec, Runtime};
use windlass_proto::time::Span;

/// The parts of one host's change, at their longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worst {
    /// Drain: delay and time-out.
    pub drain: Span,
    /// Stop: grace.
    pub stop: Span,
    /// Until the startup probe (or, without one, readiness) has failed for good.
    pub startup: Span,
    /// `min_healthy_time`.
    pub healthy: Span,
}

impl Worst {
    /// The longest times that the release allows itself.
    pub fn of(release: &ReleaseSpec, spec: &RolloutSpec) -> Self {
        let limit = |probe: &Probe| probe.initial_delay + probe.period * u64::from(probe.failure_threshold);
        let probes = &release.probes;
        let stops = matches!(release.runtime, Runtime::Process { .. });
        Self {
            drain: release.drain.delay + release.drain.timeout,
            stop: if stops { release.stop.grace } else { Span(0) },
            startup: probes.startup.as_ref().or(probes.readiness.as_ref()).map_or(Span(0), limit),
            healthy: spec.strategy.min_healthy_time,
        }
    }

    /// All parts together.
    pub fn total(self) -> Span {
        self.drain + self.stop + self.startup + self.healthy
    }
}

/// What one host's change should take when nothing goes wrong: connections end early and probes pass at first.
pub fn expected(release: &ReleaseSpec, spec: &RolloutSpec) -> Span {
    let first = |probe: &Option<Probe>| {
        probe.as_ref().map_or(Span(0), |probe| {
            probe.initial_delay + probe.period * u64::from(probe.success_threshold.saturating_sub(1))
        })
    };
    let own_steps = Span::secs(2);
    release.drain.delay
        + first(&release.probes.startup)
        + first(&release.probes.readiness)
        + spec.strategy.min_healthy_time
        + own_steps
}

/// Expected time for all batches, each at most `parallel` hosts at a time.
pub fn batches(sizes: impl Iterator<Item = u32>, parallel: u32, host: Span, pause: Span) -> Span {
    let sizes: Vec<u32> = sizes.collect();
    let rounds: u64 = sizes.iter().map(|size| u64::from(size.div_ceil(parallel.max(1)))).sum();
    host * rounds + pause * (sizes.len() as u64).saturating_sub(1)
}
