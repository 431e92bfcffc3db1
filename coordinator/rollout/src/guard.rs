//! The one guard for every disruptive act, forwards or back.
//!
//! Unavailable is what is silent, lost, quarantined, in flight by leave of this rollout or busy with another operation, or confirmed without running
//! what it confirmed. The sum must stay within the budget after the act; hosts in flight must be of one failure domain
//! and no more than one batch; the last host that serves waits for others to serve, and is taken when none will only where
//! the plan has said so. On the way back hosts that are down for other reasons shrink the budget, but not below one, so that
//! a lost host cannot keep a bad release in place; the last host waits there only for hosts that are in flight; and a host that
//! fails on the bad release costs nothing.

use windlass_proto::id::HostName;
use windlass_proto::phase::Outcome;

use crate::budget;
use crate::state::{Host, Part, Rollout, State, Way};

/// Why an act must wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// The budget is used up.
    Budget,
    /// So many go back already as may at once.
    BackParallel,
    /// Hosts of another failure domain are in flight.
    Domain,
    /// A whole batch is unconfirmed.
    Unconfirmed,
    /// No other host serves.
    LastHealthy,
    /// It has an operation in flight, has not staged, or is not heard of.
    NotReady,
}

impl Rollout {
    /// Whether `name` may be taken out of service now.
    pub fn guard(&self, name: &HostName) -> Result<(), Blocked> {
        let Some(host) = self.hosts.get(name) else { return Err(Blocked::NotReady) };
        if host.part != Part::Stage || !host.is_member() || host.silent_since.is_some() || !host.reported {
            return Err(Blocked::NotReady);
        }
        let in_flight = || self.hosts.values().filter(|other| other.in_flight());
        if self.spec.targets.failure_domain.is_some() && in_flight().any(|other| other.domain != host.domain)
        {
            return Err(Blocked::Domain);
        }
        let failing = host.way == Way::Back && !host.is_on(&self.to);
        if failing {
            return Ok(());
        }
        let flying = count(in_flight());
        let dead = count(self.hosts.values().filter(|other| self.is_down(other) && !other.in_flight()));
        let total = self.total();
        let allowed = budget::max_unavailable(&self.spec, total);
        match host.way {
            Way::Forward => {
                let State::Progressing { batch, .. } = self.state else { return Err(Blocked::NotReady) };
                let size = self.batches.get(batch).map_or(0, Vec::len);
                if flying >= crate::batches::count(size) {
                    return Err(Blocked::Unconfirmed);
                }
                if flying + dead + 1 > allowed {
                    return Err(Blocked::Budget);
                }
            }
            Way::Back => {
                if flying + 1 > budget::back_parallel(&self.spec, total) {
                    return Err(Blocked::BackParallel);
                }
                if flying + 1 > allowed.saturating_sub(dead).max(1) {
                    return Err(Blocked::Budget);
                }
            }
        }
        if total > 1
            && self.serves(host)
            && self.serving().count() == 1
            && self.waits_for_others(host, flying)
        {
            return Err(Blocked::LastHealthy);
        }
        Ok(())
    }

    /// Whether the last host that serves must wait for another one to serve.
    fn waits_for_others(&self, host: &Host, flying: u32) -> bool {
        let coming = |other: &Host| {
            other.is_member()
                && other.part == Part::Stage
                && other.silent_since.is_none()
                && !self.serves(other)
        };
        match host.way {
            Way::Back => flying > 0,
            Way::Forward => !self.last_host || flying > 0 || self.hosts.values().any(coming),
        }
    }

    /// Members that serve now.
    pub(crate) fn serving(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.iter().filter(|(_, host)| self.serves(host)).map(|(name, _)| name)
    }

    /// Whether a host that has not taken its permit yet may have it again: what happened since counts. Going back is never
    /// held.
    pub(crate) fn may_still_go(&self, host: &Host) -> bool {
        let allowed = budget::max_unavailable(&self.spec, self.total());
        host.way == Way::Back || (!self.held() && self.unavailable() <= allowed)
    }

    /// Whether silent hosts are part of what is unavailable.
    pub(crate) fn silence_counts(&self) -> bool {
        self.members().any(|(_, host)| host.silent_since.is_some() || host.outcome == Some(Outcome::Lost))
    }

    /// Members that are unavailable now.
    pub fn unavailable(&self) -> u32 {
        count(self.hosts.values().filter(|host| self.is_down(host)))
    }

    pub(crate) fn is_down(&self, host: &Host) -> bool {
        let dropped =
            host.way == Way::Forward && host.outcome == Some(Outcome::Confirmed) && !host.is_on(&self.to);
        let dead = matches!(host.outcome, Some(Outcome::Quarantined | Outcome::Lost));
        host.is_member()
            && (host.silent_since.is_some()
                || host.in_flight()
                || host.elsewhere
                || dead
                || (dropped && !host.unchanged))
    }

    /// Whether the host serves some release now.
    pub(crate) fn serves(&self, host: &Host) -> bool {
        let has = host.former.is_some() || host.outcome == Some(Outcome::Confirmed) || host.way == Way::Back;
        host.is_member() && has && !self.is_down(host)
    }
}

fn count<'a>(hosts: impl Iterator<Item = &'a Host>) -> u32 {
    crate::batches::count(hosts.count())
}
