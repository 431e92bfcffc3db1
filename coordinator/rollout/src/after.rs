//! What hosts do after they had confirmed: a release that fails in its watch window is left again, by each host for itself.
//! It is heard during the rollout and after its end, whenever the host says it, and what the rollout came to follows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use windlass_proto::id::HostName;
use windlass_proto::phase::{AppStatus, Fault, Outcome};
use windlass_proto::release::ReleaseRef;

use crate::check::names;
use crate::effect::Effect;
use crate::event::Event;
use crate::refused::Refused;
use crate::state::{Part, Rollout, State, Way};
use crate::turn::{Turn, cut};

/// How a rollout had ended before hosts left the release that they had confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstEnd {
    /// The state.
    pub state: State,
    /// [`crate::Rollout::failure`] of then.
    pub failure: String,
    /// The hosts that left since.
    pub left: BTreeSet<HostName>,
}

/// Whether the host says that it went away from this release although it had confirmed it.
pub(crate) fn has_left(status: &AppStatus, release: &ReleaseRef) -> bool {
    let gone =
        matches!(status.outcome, Some(Outcome::Reverted | Outcome::AlreadyReverted | Outcome::Quarantined));
    let names =
        |named: &Option<ReleaseRef>| named.as_ref().is_some_and(|named| named.digest == release.digest);
    gone && names(&status.target) && !names(&status.confirmed)
}

impl Rollout {
    /// Whether the host, which was on the target before the rollout began, says that it has left it.
    pub fn was_left_by(&self, host: &HostName, status: &AppStatus) -> bool {
        let unchanged = || self.hosts.get(host).is_some_and(|host| host.unchanged);
        status.app == self.app && has_left(status, &self.to) && unchanged()
    }
}

/// The host that an event is from.
const fn speaker(event: &Event) -> Option<&HostName> {
    match event {
        Event::HostStatus { host, .. } | Event::HostConnected { host, .. } => Some(host),
        _ => None,
    }
}

impl Turn {
    /// Takes an event, and draws the conclusions where the rollout had ended and a host's part in it has changed.
    pub(crate) fn take_and_revise(&mut self, event: Event) -> Result<(), Refused> {
        let ended = self.r.ended();
        let name = speaker(&event).filter(|_| ended).cloned();
        let outcome = |turn: &Self| name.as_ref().and_then(|name| turn.r.hosts.get(name)?.outcome);
        let before = outcome(self);
        self.take(event)?;
        if let Some(name) = &name
            && outcome(self) != before
        {
            self.revise(name, before == Some(Outcome::Confirmed));
        }
        Ok(())
    }

    /// A host whose part is over said something after the end.
    pub(crate) fn heard_after_end(&mut self, name: &HostName, status: AppStatus) -> Result<(), Refused> {
        let (version, now) = (self.r.to.version.clone(), self.now);
        let host = self.host(name)?;
        if status.op.as_ref() != Some(&host.op) {
            return Ok(());
        }
        host.note(&status, now);
        (host.heard_op, host.phase) = (status.op, status.phase);
        let Some(outcome) = status.outcome else { return Ok(()) };
        let means = match (host.way, outcome) {
            (Way::Forward, outcome) => outcome,
            (Way::Back, Outcome::Confirmed) => Outcome::Reverted,
            (Way::Back, Outcome::Quarantined) => Outcome::Quarantined,
            (Way::Back, _) => Outcome::Failed,
        };
        let back = |outcome| matches!(outcome, Outcome::Reverted | Outcome::AlreadyReverted);
        let same = host.outcome.is_none_or(|known| known == means || back(known) && back(means));
        if same || outcome == Outcome::Skipped || host.outcome == Some(Outcome::Skipped) {
            return Ok(());
        }
        let was = host.outcome;
        (host.fault, host.reason) = (status.fault, cut(status.reason));
        match (host.way, was) {
            (Way::Forward, Some(Outcome::Confirmed)) => self.left(name, outcome),
            (Way::Forward, Some(Outcome::Quarantined)) if back(outcome) => {
                host.outcome = Some(outcome);
                let former = status.confirmed.map_or_else(|| "nothing".into(), |r| r.version.to_string());
                self.log("host.back", Some(name), format!("out of quarantine, on {former}"));
                Ok(())
            }
            (Way::Forward, _) => self.through(name, outcome, version.as_ref()),
            (Way::Back, _) => self.back(name, outcome),
        }
    }

    /// A host that was on the target before this rollout began has left it; it takes part from now on.
    pub(crate) fn unchanged_left(&mut self, name: &HostName, status: AppStatus) -> Result<(), Refused> {
        let now = self.now;
        let host = self.host(name)?;
        host.note(&status, now);
        let (Some(op), Some(outcome)) = (status.op, status.outcome) else { return Ok(()) };
        host.unchanged = false;
        (host.heard_op, host.op, host.seq) = (Some(op.clone()), op, status.seq);
        (host.phase, host.phase_times) = (status.phase, status.phase_times);
        host.attested = status.attested.digest.filter(|_| status.attested.ok);
        (host.fault, host.reason) = (status.fault, cut(status.reason));
        self.left(name, outcome)
    }

    /// A host that had confirmed went back by itself; fault and reason are in its books already.
    pub(crate) fn left(&mut self, name: &HostName, outcome: Outcome) -> Result<(), Refused> {
        let version = self.r.to.version.clone();
        let host = self.host(name)?;
        (host.part, host.outcome) = (Part::Settled, Some(outcome));
        host.fault.get_or_insert(Fault::App);
        let message = format!("left {version} {}", host.why());
        let kind = if outcome == Outcome::Quarantined { "host.quarantined" } else { "host.reverted" };
        self.log(kind, Some(name), message);
        Ok(())
    }

    /// What the rollout came to, after a host's part in it has changed. A release that hosts left was no success.
    fn revise(&mut self, name: &HostName, had_confirmed: bool) {
        self.effects.push(Effect::Revised);
        let end = (self.r.state, self.r.failure.clone());
        let first = match &mut self.r.first_end {
            Some(first) => first,
            None if had_confirmed && matches!(end.0, State::Succeeded | State::Failed) => {
                self.r.first_end.insert(FirstEnd { state: end.0, failure: end.1, left: BTreeSet::new() })
            }
            None => return,
        };
        if had_confirmed {
            first.left.insert(name.clone());
        }
        let first = first.clone();
        let left = || first.left.iter().filter_map(|name| self.r.hosts.get(name));
        let stays = self
            .r
            .hosts
            .values()
            .any(|host| host.way == Way::Forward && host.outcome == Some(Outcome::Confirmed));
        let state = if left().any(|host| host.outcome == Some(Outcome::Quarantined)) {
            State::RollbackFailed
        } else if !stays && left().any(|host| host.former.is_some()) {
            State::RolledBack
        } else {
            State::Failed
        };
        let why = left().next().map(crate::state::Host::why).unwrap_or_default();
        let ended = if first.state == State::Succeeded { "succeeded" } else { "ended" };
        let since =
            format!("{} left {} after the rollout had {ended}: {why}", names(&first.left), self.r.to.version);
        let failure = if first.failure.is_empty() { since } else { format!("{}; {since}", first.failure) };
        self.r.failure = cut(failure);
        if self.r.state != state {
            self.r.state = state;
            let message = self.r.failure.clone();
            self.log(crate::turn::end_kind(state), None, message);
        }
    }
}
