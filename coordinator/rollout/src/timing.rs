//! How long a host may take and should take, from the release's own times.

pub use windlass_proto::spec::check::Worst;
use windlass_proto::spec::{Probe, ReleaseSpec, RolloutSpec};
use windlass_proto::time::Span;

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
