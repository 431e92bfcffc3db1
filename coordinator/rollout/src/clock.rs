//! Deadlines: absent hosts, overdue hosts, recovery, and the clocks of progress that stand still in a pause.

use windlass_proto::id::HostName;
use windlass_proto::phase::{Fault, Outcome, Phase};
use windlass_proto::spec::Absent;
use windlass_proto::time::{Span, Timestamp};

use crate::budget::max_unavailable;
use crate::effect::Effect;
use crate::state::{BatchStep, Condition, Host, Part, State, Way};
use crate::turn::Turn;

/// How long hosts have to report after the coordinator started again.
pub const RECOVERY: Span = Span::secs(30);

/// Longest that a host that was never touched is waited for under `absent: skip` and `count_as_failed`.
pub const ABSENCE: Span = Span::secs(60);

/// A message that a host has not acted on is sent again after so long.
pub const RESEND: Span = Span::secs(5);

/// The host keeps `healthy_deadline` itself; this much later the rollout stops believing that it does.
const SLACK: Span = Span::secs(10);

/// The same for drain and stop. An agent adds almost that much to a release's own times before it calls them stuck: it reads
/// the target again, tells load balancers, and kills.
const LEAVING_SLACK: Span = Span::secs(240);

/// A host tries its way back a few times, each within the time of one change.
const RETURNS: u64 = 4;

impl Turn {
    /// The coordinator started again: no host is connected, and what it was doing may have ended.
    pub(crate) fn recovered(&mut self, epoch: u64) {
        let now = self.now;
        self.r.epoch = self.r.epoch.max(epoch);
        if self.r.ended() || self.r.state == State::Validating {
            return;
        }
        for host in self.r.hosts.values_mut() {
            (host.reported, host.sent) = (false, None);
            // What passed while nobody was looking is not held against the hosts.
            host.permit_at = host.permit_at.map(|_| now);
        }
        self.r.progress_since = now;
        self.r.back_until = self.r.back_until.map(|_| now.after(self.r.spec.failure.rollback.deadline));
        self.r.recovery_until = Some(now.after(RECOVERY));
        if self.r.forward() {
            self.r.conditions.insert(Condition::Recovery);
        }
        self.log("rollout.recovered", None, "the coordinator started again; waiting for the hosts' reports");
    }

    /// Ends the condition Recovery when every host has reported or the time is over.
    pub(crate) fn recover(&mut self) {
        let Some(until) = self.r.recovery_until else { return };
        let now = self.now;
        let missing = |host: &Host| !host.reported && !host.gone && host.silent_since.is_none();
        if self.r.hosts.values().any(missing) && now < until {
            return;
        }
        let absent: Vec<HostName> =
            self.r.hosts.iter().filter(|(_, host)| missing(host)).map(|(name, _)| name.clone()).collect();
        for name in &absent {
            if let Some(host) = self.r.hosts.get_mut(name) {
                host.silent_since = Some(now);
            }
            self.log("host.silent", Some(name), "not heard of since the coordinator started again");
        }
        self.r.recovery_until = None;
        self.r.conditions.remove(&Condition::Recovery);
    }

    /// Stops the clocks of progress while the rollout is held, and starts them where they stood.
    pub(crate) fn clocks(&mut self) {
        let held = self.r.forward() && self.r.held();
        match (held, self.r.paused_since) {
            (true, None) => self.r.paused_since = Some(self.now),
            (false, Some(since)) => {
                let pause = self.now.since(since);
                self.r.paused_since = None;
                self.r.progress_since = self.r.progress_since.after(pause).min(self.now);
                if let State::Progressing { batch, step: BatchStep::Baking { until } } = self.r.state {
                    let until = until.after(pause);
                    self.r.state = State::Progressing { batch, step: BatchStep::Baking { until } };
                }
                // Hosts that have not taken their permit yet got none of it again while the rollout was held.
                for host in self.r.hosts.values_mut().filter(|host| host.phase == Phase::Staged) {
                    host.permit_at = host.permit_at.map(|at| at.after(pause));
                }
            }
            _ => {}
        }
    }

    /// Silent hosts: excused, failed or waited for.
    pub(crate) fn absences(&mut self) {
        let now = self.now;
        let absent = self.r.spec.targets.absent;
        let limit = max_unavailable(&self.r.spec, crate::batches::count(self.r.hosts.len())).max(1);
        let planned = |host: &Host| host.gone && host.silent_since.is_none();
        let mut left = self.r.hosts.values().filter(|host| host.gone && !planned(host)).count();
        let overdue: Vec<HostName> = self
            .r
            .hosts
            .iter()
            .filter(|(_, host)| !host.gone && self.absence_ends(host).is_some_and(|at| now >= at))
            .map(|(name, _)| name.clone())
            .collect();
        for name in overdue {
            let Some(host) = self.r.hosts.get_mut(&name) else { continue };
            let pending = host.part == Part::Stage;
            // Absence excuses a host that was left alone, not one that this rollout took out of service before.
            let disturbed = pending && host.touched && host.way == Way::Forward;
            if host.in_flight() {
                // It will go back by itself unless it was confirmed; either way nobody can say.
                (host.part, host.outcome) = (Part::Settled, Some(Outcome::Lost));
                host.judge(Fault::Transport, format!("not heard of since it was {}", host.phase), now);
                let reason = host.reason.clone();
                self.log("host.lost", Some(&name), reason);
            } else if pending && absent == Absent::CountAsFailed {
                (host.part, host.outcome) = (Part::Settled, Some(Outcome::Lost));
                host.judge(Fault::Transport, "silent (absent: count_as_failed)", now);
                self.log("host.lost", Some(&name), "silent; counts as failed");
            } else if disturbed {
                (host.part, host.outcome) = (Part::Settled, Some(Outcome::Lost));
                let why = "silent since this rollout took it out of service once";
                host.judge(Fault::Transport, why, now);
                let reason = host.reason.clone();
                self.log("host.lost", Some(&name), reason);
            } else if absent == Absent::Skip && crate::batches::count(left) < limit {
                left += 1;
                self.excuse(&name, "silent (absent: skip)");
            }
        }
    }

    /// Lets a host leave the denominators; an untouched one leaves the rollout.
    pub(crate) fn excuse(&mut self, name: &HostName, why: &str) {
        let Some(host) = self.r.hosts.get_mut(name) else { return };
        host.gone = true;
        if host.part == Part::Stage {
            // Released, so that it is told to drop the operation when it is heard of again.
            (host.part, host.outcome) = (Part::Released, Some(Outcome::Skipped));
            host.reason = why.into();
            self.log("host.skipped", Some(name), why);
        } else {
            self.log("host.gone", Some(name), format!("{why}; no longer counted"));
        }
    }

    /// When the rollout stops waiting for a silent host.
    fn absence_ends(&self, host: &Host) -> Option<Timestamp> {
        let since = host.silent_since?;
        let healthy = self.r.spec.strategy.healthy_deadline;
        if host.in_flight() {
            return Some(host.permit_at.unwrap_or(since).max(since).after(self.r.leaving).after(healthy));
        }
        let waits = self.r.spec.targets.absent == Absent::Wait;
        let through = matches!(host.outcome, Some(outcome) if outcome != Outcome::Confirmed);
        (!waits && !through).then(|| since.after(Span(ABSENCE.0.min(healthy.0))))
    }

    /// Hosts that should have been healthy by now are told to go back, and count as failed.
    pub(crate) fn host_deadlines(&mut self) {
        let now = self.now;
        let late: Vec<HostName> = self
            .r
            .hosts
            .iter()
            .filter(|(_, host)| self.host_deadline(host).is_some_and(|at| now >= at))
            .map(|(name, _)| name.clone())
            .collect();
        for name in late {
            let (leaving, healthy) = (self.r.leaving, self.r.spec.strategy.healthy_deadline);
            let Some(host) = self.r.hosts.get_mut(&name) else { continue };
            if host.part == Part::Go && !matches!(host.phase, Phase::Reverting | Phase::Undraining) {
                (host.part, host.overdue, host.sent) = (Part::Abort, true, None);
                let detail =
                    if host.detail.is_empty() { String::new() } else { format!(" ({})", host.detail) };
                let why = if is_leaving(host.phase) {
                    format!(
                        "drain and stop, {leaving} at most, have not ended; it was {}{detail}",
                        host.phase
                    )
                } else {
                    format!("not healthy within {healthy}; it was {}{detail}", host.phase)
                };
                host.judge(Fault::App, why, now);
            } else {
                (host.part, host.outcome) = (Part::Settled, Some(Outcome::Lost));
                host.judge(Fault::Agent, format!("going back has not ended; it was {}", host.phase), now);
            }
            let reason = host.reason.clone();
            self.log("host.overdue", Some(&name), reason);
        }
    }

    fn host_deadline(&self, host: &Host) -> Option<Timestamp> {
        // The host itself ends an admission or a trial that lasts too long.
        let healthy = matches!(host.phase, Phase::Admitting | Phase::Trial) && host.part == Part::Go;
        if !host.in_flight() || host.silent_since.is_some() || healthy {
            return None;
        }
        // A permit that may not be sent again now cannot be late.
        if host.phase == Phase::Staged && !self.r.may_still_go(host) {
            return None;
        }
        let healthy = self.r.spec.strategy.healthy_deadline;
        let returning =
            host.part == Part::Abort || matches!(host.phase, Phase::Reverting | Phase::Undraining);
        let allowed = if returning {
            (self.r.leaving + healthy) * RETURNS + SLACK
        } else if is_leaving(host.phase) {
            self.r.leaving + LEAVING_SLACK
        } else {
            let left =
                [Phase::Draining, Phase::Stopping].iter().filter_map(|phase| host.phase_times.get(phase));
            let left = left.fold(Span(0), |sum, took| sum + Span(*took));
            // What a host says of itself puts its end off no further than it may.
            left.min(self.r.leaving + LEAVING_SLACK) + healthy + SLACK
        };
        host.permit_at.map(|at| at.after(allowed))
    }

    /// Asks to be woken when the next of all these is due.
    pub(crate) fn timer(&mut self) {
        if self.r.state == State::Validating {
            return;
        }
        let strategy = &self.r.spec.strategy;
        let mut due: Vec<Timestamp> =
            [self.r.recovery_until, self.r.back_until].into_iter().flatten().collect();
        if self.r.forward() && !self.r.held() {
            due.push(self.r.progress_since.after(strategy.progress_deadline));
            if let State::Progressing { step: BatchStep::Baking { until }, .. } = self.r.state {
                due.push(until);
            }
        }
        for host in self.r.hosts.values() {
            due.extend(host.sent.map(|sent| sent.at.after(RESEND)));
            due.extend(host.not_before.filter(|at| *at > self.now));
            if self.r.forward() {
                due.extend(self.host_deadline(host));
                due.extend(self.absence_ends(host).filter(|_| !host.gone));
            }
        }
        // What is overdue and waits for something else must not make the shell spin.
        let soon = self.now.after(Span::secs(1));
        if let Some(at) = due.into_iter().map(|at| if at > self.now { at } else { soon }).min() {
            self.effects.push(Effect::SetTimer { at });
        }
    }
}

/// Whether the release to come has not begun to use its time: what runs is still there, as far as is known.
const fn is_leaving(phase: Phase) -> bool {
    matches!(phase, Phase::Staged | Phase::Draining | Phase::Stopping)
}
