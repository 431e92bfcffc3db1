//! How long one host may take, from the releases' own times.

use std::fmt;

use crate::phase::HookName;
use crate::spec::{Drain, Probe, ReleaseSpec, RolloutSpec};
use crate::time::Span;

/// The hooks of a release that run before its time begins: around the drain of the release before it, and when it is
/// itself stopped one day.
const BEFORE: [HookName; 3] =
    [HookName::BeforeBlockTraffic, HookName::AfterBlockTraffic, HookName::ApplicationStop];

/// The parts of what `healthy_deadline` has to cover, at their longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worst {
    /// Until the startup probe (or, without one, readiness) has failed for good.
    pub startup: Span,
    /// `min_healthy_time`.
    pub healthy: Span,
    /// The time-outs of the hooks from `before_install` on.
    pub hooks: Span,
}

impl fmt::Display for Worst {
    /// The sum as a person would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { startup, healthy, hooks } = self;
        write!(f, "startup {startup} + min_healthy_time {healthy}")?;
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
        let counts = HookName::ALL.iter().filter(|name| !BEFORE.contains(name));
        Self {
            startup: probes.startup.as_ref().or(probes.readiness.as_ref()).map_or(Span(0), limit),
            healthy: spec.strategy.min_healthy_time,
            hooks: counts.fold(Span(0), |sum, name| sum + release.hooks.longest(*name)),
        }
    }

    /// All parts together.
    pub fn total(self) -> Span {
        self.startup + self.healthy + self.hooks
    }
}

/// Longest that a release takes to leave: it is drained, then stopped. Its own limits count in full, for a connection lives
/// as long as its client likes.
pub fn leaving(release: &ReleaseSpec) -> Span {
    let Drain { delay, timeout, .. } = release.drain;
    if release.runtime.has_process() { delay + timeout + release.stop.grace } else { delay }
}
