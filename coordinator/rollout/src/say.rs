//! What each host lacks is told, and told again until the host has acted on it.

use windlass_proto::phase::Phase;

use crate::clock::RESEND;
use crate::effect::Effect;
use crate::state::{Host, Part, Said, Sent, State, Way};
use crate::turn::Turn;

impl Turn {
    /// Sends what the hosts lack: at once when it is new, again after a while.
    pub(crate) fn say(&mut self) {
        let names: Vec<_> = self.r.hosts.keys().cloned().collect();
        let order = self.r.host_order();
        let (ttl, reason) = (self.r.spec.host.permit_ttl, self.r.failure.clone());
        let (to, rollback) = (self.r.to.clone(), self.r.rollback);
        for name in names {
            let wanted = self.r.hosts.get(&name).and_then(|host| self.wanted(host));
            let Some(host) = self.r.hosts.get_mut(&name) else { continue };
            let Some(what) = wanted else {
                host.sent = None;
                continue;
            };
            let sent = host.sent.filter(|sent| sent.what == what);
            if sent.is_some_and(|sent| self.now.since(sent.at) < RESEND) {
                continue;
            }
            host.sent = Some(Sent { what, at: self.now });
            if what == Said::Permit {
                // The host's own times begin when it takes the permit, at the earliest now.
                host.permit_at = Some(self.now);
            }
            let op = host.op.clone();
            self.effects.push(match what {
                Said::Assign => {
                    let former = host.former.clone().filter(|_| host.way == Way::Back);
                    let rollback = rollback || former.is_some();
                    let release = former.unwrap_or_else(|| to.clone());
                    Effect::Assign { host: name, op, release, order: order.clone(), rollback }
                }
                Said::Permit => Effect::Permit { host: name, op, ttl },
                Said::Confirm => Effect::Confirm { host: name, op },
                Said::Abort => {
                    let reason = if host.overdue { host.reason.clone() } else { reason.clone() };
                    Effect::AbortOp { host: name, op, reason }
                }
            });
        }
    }

    fn wanted(&self, host: &Host) -> Option<Said> {
        if host.silent_since.is_some() || !host.reported {
            return None;
        }
        let knows = host.heard_op.as_ref() == Some(&host.op);
        let open = !self.r.ended() && self.r.state != State::Validating;
        // Nobody will ever permit it: a host that came back late, or one whose disk forgot that it had failed.
        if self.r.ended() && knows && is_waiting(host.phase) {
            return Some(Said::Abort);
        }
        match host.part {
            Part::Stage if open && !knows => {
                host.not_before.is_none_or(|at| self.now >= at).then_some(Said::Assign)
            }
            Part::Go if knows && host.phase == Phase::Staged => {
                self.r.may_still_go(host).then_some(Said::Permit)
            }
            Part::Go if knows && host.phase == Phase::Trial => {
                host.is_on(self.r.target_of(host)).then_some(Said::Confirm)
            }
            Part::Abort if host.outcome.is_none() || self.r.ended() => {
                (knows && !is_over(host.phase)).then_some(Said::Abort)
            }
            Part::Released => (knows && !is_over(host.phase)).then_some(Said::Abort),
            _ => None,
        }
    }
}

/// Whether a host in this phase waits for its permit, or will.
pub(crate) const fn is_waiting(phase: Phase) -> bool {
    matches!(phase, Phase::Assigned | Phase::Staging | Phase::Staged)
}

/// Whether an operation in this phase has ended.
const fn is_over(phase: Phase) -> bool {
    matches!(phase, Phase::Idle | Phase::Confirmed | Phase::Reverted | Phase::Quarantined | Phase::Failed)
}
