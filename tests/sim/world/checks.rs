//! What must hold of the whole, whatever happens.

use std::collections::BTreeSet;

use windlass_proto::id::HostName;
use windlass_proto::phase::{Outcome, Phase};
use windlass_rollout::state::{Part, Way};
use windlass_rollout::{State, budget};

use super::World;

impl World {
    /// When a host leaves service: what really is out of service, by any rollout's leave.
    pub(super) fn check_budget(&mut self, host: &HostName) {
        let op = self.hosts[host].state.operation.as_ref().unwrap().op.clone();
        let r = self.coordinator.rollouts.iter().find(|r| r.hosts.get(host).is_some_and(|own| own.op == op));
        let Some(r) = r else { return };
        let member = |name: &HostName| {
            r.hosts.get(name).is_some_and(|own| !own.gone && own.outcome != Some(Outcome::Skipped))
        };
        let out: Vec<&HostName> = self
            .hosts
            .iter()
            .filter(|(name, own)| own.is_out() && member(name))
            .map(|(name, _)| name)
            .collect();
        let total = r.hosts.keys().filter(|name| member(name)).count() as u32;
        let way = r.hosts[host].way;
        let forward = way == Way::Forward && r.state != State::Aborting && !r.ended();
        let allowed = budget::max_unavailable(&r.spec, total);
        if forward {
            assert!(out.len() as u32 <= allowed, "over budget: {out:?}, {allowed} of {total}");
        }
        if r.spec.targets.failure_domain.is_some() && forward {
            // A lost host is as any dead one: it counts in the budget, and its domain waits for nobody.
            let lost = |name: &HostName| r.hosts[name].outcome == Some(Outcome::Lost);
            let domains: BTreeSet<_> =
                out.iter().filter(|name| !lost(name)).map(|name| &r.hosts[*name].domain).collect();
            assert!(domains.len() <= 1, "two failure domains: {out:?}");
        }
        self.checked += 1;
    }

    /// When a permit is sent: what is out of service, and what the coordinator must know to be away.
    pub(super) fn check_permit(&self, at: usize, host: &HostName) {
        let r = &self.coordinator.rollouts[at];
        let members = || {
            r.hosts
                .iter()
                .filter(|(_, own)| !own.gone && own.outcome != Some(Outcome::Skipped))
                .map(|(name, _)| name)
        };
        let away = |name: &&HostName| {
            let quarantined = r.hosts[*name].outcome == Some(Outcome::Quarantined);
            *name == host
                || quarantined
                || self.hosts[*name].is_out()
                || self.coordinator.sessions[*name].silent
        };
        let all: Vec<&HostName> = members().filter(away).collect();
        let allowed = budget::max_unavailable(&r.spec, members().count() as u32);
        let forward = r.hosts[host].way == Way::Forward;
        assert!(!forward || all.len() as u32 <= allowed, "permit over budget: {all:?}, {allowed} allowed");
    }

    /// When a rollout ends: what it says is so.
    pub(super) fn check_rollout(&mut self, at: usize) {
        let r = &self.coordinator.rollouts[at];
        for (name, own) in &r.hosts {
            let host = &self.hosts[name];
            let confirmed = host.state.confirmed.as_ref().map(|release| release.digest);
            match r.state {
                State::Succeeded if own.outcome != Some(Outcome::Skipped) => {
                    assert!(confirmed == Some(r.to.digest) || host.by_itself, "{name} is not on {}", r.to);
                }
                State::RolledBack if own.touched => {
                    let former = own.former.as_ref().map(|former| former.digest);
                    assert!(confirmed == former || host.by_itself, "{name} is not back");
                }
                _ => {}
            }
        }
    }

    pub(super) fn check_end(&mut self) {
        for (name, host) in &self.hosts {
            assert!(host.up && host.state.is_settled(), "P9: {name} is {}", host.phase());
            if host.phase() != Phase::Quarantined {
                assert_eq!(host.state.current, host.state.confirmed);
                assert_eq!(host.link, host.confirmed_link, "{name}: the links differ");
            }
            let Some(operation) = &host.state.operation else { continue };
            let r = self.coordinator.rollouts.iter().find(|r| r.id == operation.rollout).unwrap();
            let Some(own) = r.hosts.get(name) else { continue };
            if own.op != operation.op {
                assert!(own.outcome != Some(Outcome::Confirmed), "{name} {own:?}");
                continue;
            }
            let agent = operation.outcome;
            let agrees = match (own.way, own.part, own.outcome) {
                (_, Part::Released, _) => matches!(agent, Some(Outcome::Skipped | Outcome::Failed)),
                (Way::Forward, _, Some(Outcome::Reverted | Outcome::AlreadyReverted)) => {
                    matches!(agent, Some(Outcome::Reverted | Outcome::AlreadyReverted))
                }
                (Way::Forward, _, outcome) => outcome == agent,
                (Way::Back, _, Some(Outcome::Reverted)) => agent == Some(Outcome::Confirmed),
                (Way::Back, _, Some(Outcome::Failed)) => agent != Some(Outcome::Confirmed),
                (Way::Back, _, outcome) => outcome == agent,
            };
            assert!(agrees, "P2: {name}: the host says {agent:?}, the coordinator {own:?}");
        }
    }
}
