//! How long one host may take, from the release's own times.

use std::fmt;

use crate::spec::{Probe, ReleaseSpec, RolloutSpec};
use crate::time::Span;

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
    /// The time-outs of all hooks.
    pub hooks: Span,
}

impl fmt::Display for Worst {
    /// The sum as a person would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drain, stop, startup, healthy, hooks } = self;
        write!(f, "drain {drain} + stop {stop} + startup {startup} + min_healthy_time {healthy}")?;
        if *hooks > Span(0) {
            write!(f, " + hooks {hooks}")?;
        }
        write!(f, " = {}", self.total())
    }
}

impl Worst {
    /// The longest times that the release allows itself.
    pub fn of(release: &ReleaseSpec, spec: &RolloutSpec) -> Self {
        let limit = |probe: &Probe| probe.initial_delay + probe.period * u64::from(probe.failure_threshold);
        let probes = &release.probes;
        let stops = release.runtime.has_process();
        Self {
            drain: release.drain.delay + release.drain.timeout,
            stop: if stops { release.stop.grace } else { Span(0) },
            startup: probes.startup.as_ref().or(probes.readiness.as_ref()).map_or(Span(0), limit),
            healthy: spec.strategy.min_healthy_time,
            hooks: release.hooks.longest_of_all(),
        }
    }

    /// All parts together.
    pub fn total(self) -> Span {
        self.drain + self.stop + self.startup + self.healthy + self.hooks
    }
}
