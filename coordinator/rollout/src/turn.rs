//! What one step works on: the rollout in change, the time, and the effects so far.

use windlass_proto::id::HostName;
use windlass_proto::phase::{Fault, Outcome};
use windlass_proto::time::Timestamp;

use crate::check::names;
use crate::effect::Effect;
use crate::state::{Condition, Host, Part, Rollout, State, Way};

/// Longest text of a host or of a failure that is kept.
const TEXT: usize = 1000;

pub(crate) struct Turn {
    pub(crate) r: Rollout,
    pub(crate) now: Timestamp,
    pub(crate) effects: Vec<Effect>,
}

impl Turn {
    pub(crate) fn log(&mut self, kind: &'static str, host: Option<&HostName>, message: impl Into<String>) {
        self.effects.push(Effect::Event { kind, host: host.cloned(), message: cut(message) });
    }

    /// Ends the rollout.
    pub(crate) fn end(&mut self, state: State, message: impl Into<String>) {
        self.r.state = state;
        self.r.ended_at = Some(self.now);
        self.r.conditions.clear();
        self.r.paused.clear();
        (self.r.paused_since, self.r.recovery_until, self.r.back_until) = (None, None, None);
        // What was not heard of until now is told to drop the operation, should it ever come back.
        for host in self.r.hosts.values_mut() {
            match (host.part, host.outcome) {
                (Part::Settled, Some(Outcome::Lost)) => host.drop_lost(),
                (Part::Stage, _) => host.part = Part::Released,
                _ => {}
            }
        }
        self.log(end_kind(state), None, message);
        self.effects.push(Effect::Ended { state });
    }
}

/// What the event of an end is called.
pub(crate) const fn end_kind(state: State) -> &'static str {
    match state {
        State::Succeeded => "rollout.succeeded",
        State::RolledBack => "rollout.rolled_back",
        State::RollbackFailed => "rollout.rollback_failed",
        State::Cancelled => "rollout.cancelled",
        _ => "rollout.failed",
    }
}

/// Cuts a text that came from outside at a character's border.
pub(crate) fn cut(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Rollout {
    /// Whether it moves forward.
    pub(crate) const fn forward(&self) -> bool {
        matches!(self.state, State::Preparing | State::Progressing { .. } | State::Promoting)
    }

    /// Whether nothing new may be begun on the way forward.
    pub(crate) fn held(&self) -> bool {
        self.conditions.contains(&Condition::Manual) || self.conditions.contains(&Condition::Recovery)
    }

    /// Hosts that count: all but those that were excused or left.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&HostName, &Host)> {
        self.hosts.iter().filter(|(_, host)| host.is_member())
    }

    /// Number of hosts that count.
    pub(crate) fn total(&self) -> u32 {
        crate::batches::count(self.members().count())
    }

    /// Hosts that failed on the way forward.
    pub fn failed(&self) -> impl Iterator<Item = (&HostName, &Host)> {
        self.hosts.iter().filter(|(_, host)| host.has_failed())
    }

    /// Names and reasons of the first failed hosts.
    pub(crate) fn failures(&self) -> String {
        let failed: Vec<_> = self.failed().collect();
        let shown = failed.iter().take(3).map(|(name, host)| format!("{name}: {}", host.why()));
        let shown = shown.collect::<Vec<_>>().join("; ");
        match failed.len() {
            0..=3 => shown,
            _ => format!("{shown}; also {}", names(failed[3..].iter().map(|(name, _)| *name))),
        }
    }

    /// Names and reasons of the first hosts that were to change and did not.
    pub(crate) fn excuses(&self) -> String {
        let named = self.batches.iter().flatten().filter_map(|name| Some((name, self.hosts.get(name)?)));
        let all: Vec<_> = named.collect();
        let shown = all.iter().take(3).map(|(name, host)| format!("{name}: {}", host.why()));
        let shown = shown.collect::<Vec<_>>().join("; ");
        match all.len() {
            0..=3 => shown,
            _ => format!("{shown}; also {}", names(all[3..].iter().map(|(name, _)| *name))),
        }
    }

    /// Hosts that say that the target failed by its own fault: what the poison list counts.
    pub(crate) fn app_failures(&self) -> impl Iterator<Item = &HostName> {
        let own = |cause: &crate::cause::Cause| {
            cause.fault == Some(Fault::App) && cause.release == Some(self.to.digest)
        };
        self.hosts.iter().filter(move |(_, host)| host.causes.iter().any(own)).map(|(name, _)| name)
    }
}

impl Host {
    pub(crate) fn is_member(&self) -> bool {
        !self.gone && self.outcome != Some(Outcome::Skipped)
    }

    /// Whether the rollout can do without it: it has not disturbed it.
    pub fn may_be_left_out(&self) -> bool {
        self.way == Way::Forward && !self.touched
    }

    /// Out of service by leave of the rollout, as far as is known.
    pub(crate) const fn in_flight(&self) -> bool {
        matches!(self.part, Part::Go | Part::Abort) && self.outcome.is_none()
    }

    /// Nothing more is to come of it in this rollout.
    pub(crate) const fn is_through(&self) -> bool {
        matches!(self.part, Part::Settled | Part::Released)
    }

    /// Through and provably on what its operation moved it to.
    pub(crate) fn is_on(&self, target: &windlass_proto::release::ReleaseRef) -> bool {
        self.attested == Some(target.digest)
    }

    /// A lost host is told to drop its operation, should it ever come back.
    pub(crate) fn drop_lost(&mut self) {
        self.part = if self.permit_at.is_some() { Part::Abort } else { Part::Released };
    }

    pub(crate) fn has_failed(&self) -> bool {
        let bad = matches!(
            self.outcome,
            Some(
                Outcome::Reverted
                    | Outcome::AlreadyReverted
                    | Outcome::Failed
                    | Outcome::Quarantined
                    | Outcome::Lost
            )
        );
        let ours = self.aborted || self.part == Part::Released && self.outcome != Some(Outcome::Lost);
        self.way == Way::Forward && (self.overdue || bad && !ours)
    }

    /// Why it failed, in words.
    pub(crate) fn why(&self) -> String {
        let (_, reason) = self.told();
        match (reason.is_empty(), self.outcome) {
            (false, _) => reason,
            (true, Some(outcome)) => outcome.to_string(),
            (true, None) => "no reason given".into(),
        }
    }
}
