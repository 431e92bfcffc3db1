//! The table: which event is handled where, in which phase.

use windlass_proto::phase::{Fault, HookName, Phase};
use windlass_proto::release::ReleaseRef;

use crate::effect::Effect;
use crate::event::{Done, Event, Health};
use crate::now::Now;
use crate::operation::Operation;
use crate::refused::Refused;
use crate::state::{Progress, State};

/// Longest reason or complaint that is kept.
const TEXT_BYTES: usize = 300;

/// What an event leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// To be made durable first.
    pub state: State,
    /// To be performed then, in order.
    pub effects: Vec<Effect>,
}

/// Decides what `event` means for an app in `state`.
///
/// A refusal leaves everything as it is; it is to be logged, or answered to whoever sent the event.
pub fn step(state: &State, event: Event, now: Now) -> Result<Step, Refused> {
    let mut machine = Machine { state: state.clone(), effects: Vec::new(), now, asked: false };
    machine.handle(event)?;
    machine.state.seq += 1;
    Ok(Step { state: machine.state, effects: machine.effects })
}

/// A step in the making.
pub(crate) struct Machine {
    pub(crate) state: State,
    pub(crate) effects: Vec<Effect>,
    pub(crate) now: Now,
    /// The turn was already moved in this step.
    asked: bool,
}

impl Machine {
    fn handle(&mut self, event: Event) -> Result<(), Refused> {
        match event {
            Event::Assign(assign) => self.assign(assign),
            Event::Staging { op, news } => self.staging(&op, news),
            Event::Permit { op, epoch, expires } => self.permit(&op, epoch, expires),
            Event::Confirm { op, epoch, session_opened_at } => self.confirm(&op, epoch, session_opened_at),
            Event::Abort { op, epoch, reason } => self.abort(&op, epoch, &reason),
            Event::Done { turn, done } => {
                overtaken(turn, self.state.turn)?;
                self.done(done)
            }
            Event::Failed { turn, fault, reason } => {
                overtaken(turn, self.state.turn)?;
                self.failed(fault, &reason)
            }
            Event::Hook { turn, running } => {
                overtaken(turn, self.state.turn)?;
                let now = self.not_now();
                self.state.operation.as_mut().ok_or(now)?.hook = running;
                Ok(())
            }
            Event::Health { turn, health } => {
                overtaken(turn, self.state.probe_turn)?;
                self.health(health)
            }
            Event::CannotProbe { turn, reason } => {
                overtaken(turn, self.state.probe_turn)?;
                self.failed(Fault::Host, &reason)
            }
            Event::AppExited { turn, how } => {
                overtaken(turn, self.state.run_turn)?;
                self.exited(&how)
            }
            Event::Tick => self.tick(),
            Event::Recovered { same_boot } => {
                self.recovered(same_boot);
                Ok(())
            }
            Event::Network(seen) => self.note_network(seen),
            Event::ReleaseQuarantine { epoch, leave_down } => self.release_quarantine(epoch, leave_down),
        }
    }

    fn done(&mut self, done: Done) -> Result<(), Refused> {
        match self.state.progress {
            Progress::Draining { .. }
            | Progress::Stopping
            | Progress::Switching { .. }
            | Progress::Starting { .. }
            | Progress::Verifying { .. }
            | Progress::Admitting { .. }
            | Progress::Trial { .. } => self.forward_done(done),
            Progress::Undraining { .. } => self.undrain_done(&done),
            Progress::Reverting { .. } => self.revert_done(&done),
            // Out of service now: the report changes.
            Progress::Quarantined if matches!(done, Done::Stopped { .. }) => Ok(()),
            Progress::Quarantined => Err(self.not_now()),
            _ => self.supervision_done(&done),
        }
    }

    fn failed(&mut self, fault: Fault, reason: &str) -> Result<(), Refused> {
        match self.state.progress {
            Progress::Draining { .. } => {
                self.undrain(fault, reason);
                Ok(())
            }
            Progress::Stopping
            | Progress::Switching { .. }
            | Progress::Starting { .. }
            | Progress::Verifying { .. }
            | Progress::Admitting { .. }
            | Progress::Trial { .. } => {
                self.revert(fault, reason);
                Ok(())
            }
            Progress::Undraining { .. } => self.undrain_failed(reason),
            Progress::Reverting { .. } => self.revert_failed(reason),
            Progress::Quarantined => {
                self.complain(reason);
                Ok(())
            }
            _ => self.supervision_failed(reason),
        }
    }

    fn health(&mut self, health: Health) -> Result<(), Refused> {
        match self.state.progress {
            Progress::Starting { .. }
            | Progress::Verifying { .. }
            | Progress::Admitting { .. }
            | Progress::Trial { .. } => self.forward_health(health),
            Progress::Reverting { .. } => self.revert_health(health),
            Progress::Draining { .. }
            | Progress::Undraining { .. }
            | Progress::Stopping
            | Progress::Switching { .. }
            | Progress::Quarantined => Err(self.not_now()),
            _ => self.supervision_health(health),
        }
    }

    fn exited(&mut self, how: &str) -> Result<(), Refused> {
        match self.state.progress {
            // It is out of traffic and has ended: what the drain was for.
            Progress::Draining { .. } => {
                self.stop_old();
                Ok(())
            }
            Progress::Starting { .. }
            | Progress::Verifying { .. }
            | Progress::Admitting { .. }
            | Progress::Trial { .. } => {
                self.revert(Fault::App, &format!("the app ended while {}: {how}", self.state.phase()));
                Ok(())
            }
            Progress::Reverting { .. } => self.revert_exited(how),
            Progress::Undraining { .. }
            | Progress::Stopping
            | Progress::Switching { .. }
            | Progress::Quarantined => Err(self.not_now()),
            _ => self.supervision_exited(how),
        }
    }

    fn tick(&mut self) -> Result<(), Refused> {
        if self.state.wake_at().is_none_or(|at| self.now.boot < at) {
            return Err(Refused::NothingDue);
        }
        match self.state.progress {
            Progress::Undraining { .. } => self.undrain_again(),
            Progress::Reverting { .. } => self.revert_tick(),
            Progress::Draining { .. }
            | Progress::Stopping
            | Progress::Switching { .. }
            | Progress::Starting { .. }
            | Progress::Verifying { .. }
            | Progress::Admitting { .. }
            | Progress::Trial { .. } => self.forward_tick(),
            _ => self.supervision_tick(),
        }
        Ok(())
    }

    /// Goes to a phase (or stays in it with other data) and keeps the phases' times.
    pub(crate) fn enter(&mut self, progress: Progress) {
        let (old, new) = (self.state.phase(), progress.phase());
        self.state.progress = progress;
        if old != new {
            let spent = self.now.boot.since(self.state.entered);
            *self.state.phase_times.entry(old).or_default() += spent.0;
            self.state.entered = self.now.boot;
            self.state.since = self.now.wall;
            if let Some(operation) = &mut self.state.operation {
                operation.complaint.clear();
            }
        }
    }

    /// Asks the shell for something, under a new turn where an answer is expected.
    pub(crate) fn ask(&mut self, effect: Effect) {
        if effect.is_answered() || matches!(effect, Effect::Probe { .. }) {
            self.overtake();
        }
        let turn = self.state.turn;
        match effect {
            Effect::Probe { .. } => self.state.probe_turn = turn,
            Effect::StopProbes => self.state.probe_turn = 0,
            Effect::Start { .. } | Effect::Adopt { .. } => self.state.run_turn = turn,
            Effect::Stop { .. } => self.state.run_turn = 0,
            _ => {}
        }
        self.effects.push(effect);
    }

    /// Begins a new turn, if this step has not: what is in flight no longer matters.
    pub(crate) fn overtake(&mut self) {
        if !self.asked {
            self.state.turn += 1;
            self.asked = true;
            if let Some(operation) = &mut self.state.operation {
                operation.hook = None;
            }
        }
    }

    /// A hook that must pass, before what is asked next or before what was asked last is told.
    pub(crate) fn hook(&mut self, release: &ReleaseRef, hook: HookName) {
        self.ask_hook(release, hook, true);
    }

    /// A hook that may fail.
    pub(crate) fn hook_if_it_works(&mut self, release: &ReleaseRef, hook: HookName) {
        self.ask_hook(release, hook, false);
    }

    fn ask_hook(&mut self, release: &ReleaseRef, hook: HookName, must_pass: bool) {
        // A phase asks for a hook once, but for its attempts, which are seconds apart.
        let attempt = match self.state.progress {
            Progress::Reverting { attempt, .. } | Progress::Undraining { attempt, .. } => attempt,
            _ => 0,
        };
        let round = self.state.entered.0 + u64::from(attempt);
        self.ask(Effect::Hook { release: release.clone(), hook, round, must_pass });
    }

    pub(crate) const fn not_now(&self) -> Refused {
        Refused::NotNow(self.state.phase())
    }

    /// Notes the first cause of a failure; later ones are its consequences.
    pub(crate) fn blame(&mut self, fault: Fault, reason: &str) {
        if let Some(operation) = &mut self.state.operation
            && operation.fault.is_none()
        {
            operation.fault = Some(fault);
            operation.reason = clip(reason);
        }
    }

    /// Adds to the reason of a failure.
    pub(crate) fn blame_more(&mut self, reason: &str) {
        if let Some(operation) = &mut self.state.operation {
            operation.reason = if operation.reason.is_empty() {
                clip(reason)
            } else {
                clip(&format!("{}; {reason}", operation.reason))
            };
        }
    }

    pub(crate) fn complain(&mut self, text: &str) {
        if let Some(operation) = &mut self.state.operation {
            operation.complaint = clip(text);
        }
    }

    /// The operation of a phase that has one.
    pub(crate) fn operation(&self) -> Result<&Operation, Refused> {
        self.state.operation.as_ref().ok_or_else(|| self.not_now())
    }
}

const fn overtaken(given: u64, current: u64) -> Result<(), Refused> {
    if given == current { Ok(()) } else { Err(Refused::Overtaken { given, current }) }
}

/// Whether `phase` comes after the permit and before the end of an operation that has not failed.
pub(crate) const fn is_forward(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Draining
            | Phase::Stopping
            | Phase::Switching
            | Phase::Starting
            | Phase::Verifying
            | Phase::Admitting
            | Phase::Trial
    )
}

fn clip(text: &str) -> String {
    let end = (0..=text.len().min(TEXT_BYTES)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}
