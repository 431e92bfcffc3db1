//! How long a host may take and should take, from the release's own times.

pub use windlass_proto::spec::check::{Worst, leaving};
use windlass_proto::spec::{Probe, ReleaseSpec, RolloutSpec};
use windlass_proto::time::Span;

/// What one host takes to come to a release when nothing goes wrong: probes pass at first. What leaves before is not in it.
pub fn arriving(release: &ReleaseSpec, spec: &RolloutSpec) -> Span {
    let first = |probe: &Option<Probe>| {
        probe.as_ref().map_or(Span(0), |probe| {
            probe.initial_delay + probe.period * u64::from(probe.success_threshold.saturating_sub(1))
        })
    };
    let own_steps = Span::secs(2);
    first(&release.probes.startup)
        + first(&release.probes.readiness)
        + spec.strategy.min_healthy_time
        + own_steps
}

/// Expected time for all batches, each given as its hosts and the time of one; at most `parallel` hosts at a time.
pub fn batches(batches: impl Iterator<Item = (u32, Span)>, parallel: u32, pause: Span) -> Span {
    let times = batches.map(|(size, host)| host * u64::from(size.div_ceil(parallel.max(1))));
    let (count, sum) = times.fold((0u64, Span(0)), |(count, sum), time| (count + 1, sum + time));
    sum + pause * count.saturating_sub(1)
}
