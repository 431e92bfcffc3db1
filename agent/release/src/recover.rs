//! After a crash the same phase again, by asking for its effects again; after a reboot the old release.
//!
//! The record of a step is the record of intent of all that the step asks for. What is answered has its outcome in the
//! record of the answer's step, and so has what was asked with it, for a lane does one thing after the other. What nobody
//! answers has no record of its own: it is asked for again here until the phase is left.

use windlass_proto::phase::Fault;

use crate::effect::{Effect, HOOK_AT_MOST};
use crate::now::BootTime;
use crate::state::{Progress, RevertGoal, RevertStep, Supervision};
use crate::step::{Machine, is_forward};

impl Machine {
    pub(crate) fn recovered(&mut self, same_boot: bool) {
        if !same_boot {
            self.rebooted();
            return;
        }
        match self.state.progress {
            Progress::Assigned | Progress::Staging => {
                self.resume_service();
                self.stage_again();
            }
            Progress::Idle
            | Progress::Staged
            | Progress::Confirmed
            | Progress::Reverted
            | Progress::Failed => {
                self.resume_service();
                if self.state.is_settled() {
                    self.prune();
                }
            }
            Progress::Quarantined => {
                self.ask(Effect::WriteConfirmed { release: self.state.confirmed.clone() });
                self.take_out_of_service();
            }
            Progress::Reverting { .. } => self.revert_again(),
            Progress::Undraining { attempt, .. } => {
                self.enter(Progress::Undraining { attempt, retry_at: None });
                self.ask_undrain();
            }
            Progress::Draining { .. } => match self.state.current.clone() {
                Some(release) => self.drain(release),
                None => self.undrain(Fault::Agent, "nothing runs that could be drained"),
            },
            Progress::Stopping => self.stop_old(),
            Progress::Switching { .. } => {
                if let Some(to) = self.state.operation.as_ref().map(|operation| operation.to.clone()) {
                    self.switch_again(to);
                }
            }
            Progress::Starting { .. } => {
                if let Some(release) = self.state.current.clone() {
                    self.start(release);
                }
            }
            Progress::Verifying { healthy_by, .. } => {
                // Passes from before do not count.
                self.enter(Progress::Verifying { healthy_by, ready_since: None, smoke_passed: false });
                self.adopt();
            }
            Progress::Admitting { .. } | Progress::Trial { .. } => self.adopt(),
        }
    }

    fn adopt(&mut self) {
        if let Some(release) = self.state.current.clone() {
            self.ask(Effect::Adopt { release });
        }
    }

    /// The confirmed release's links and process, in case any of them was lost while nobody looked.
    fn resume_service(&mut self) {
        self.ask(Effect::WriteConfirmed { release: self.state.confirmed.clone() });
        if matches!(self.state.supervision, Supervision::Stopping | Supervision::Waiting { .. }) {
            self.ask(Effect::Withdraw);
        }
        self.resume_supervision();
    }

    fn stage_again(&mut self) {
        if let Some(operation) = &self.state.operation {
            let (op, release) = (operation.op.clone(), operation.to.clone());
            self.enter(Progress::Assigned);
            self.ask(Effect::Stage { op, release });
        }
    }

    fn revert_again(&mut self) {
        let Progress::Reverting { step, .. } = self.state.progress else { return };
        match step {
            RevertStep::Waiting { .. } => self.ask(Effect::Withdraw),
            RevertStep::Switching => self.revert_switch(),
            // The link is back. Starting adopts what runs already.
            RevertStep::Admitting => {
                let ready_by = self.ready_by().after(HOOK_AT_MOST);
                if let Some(release) = self.state.current.clone() {
                    self.revert_start(release, ready_by);
                }
            }
            RevertStep::Starting { ready_by } | RevertStep::Verifying { ready_by } => {
                if let Some(release) = self.state.current.clone() {
                    self.revert_start(release, ready_by);
                }
            }
            RevertStep::Stopping => {
                self.ask(Effect::Withdraw);
                self.freeze_evidence();
                self.ask_revert_stop();
            }
        }
        // What is to come back after a watch failure must be what boots.
        self.effects.insert(0, Effect::WriteConfirmed { release: self.state.confirmed.clone() });
    }

    /// Nothing runs, the link names the confirmed release or nothing, and all times are meaningless.
    fn rebooted(&mut self) {
        let phase = self.state.phase();
        // What load balancers look at may have outlived what ran.
        self.ask(Effect::Withdraw);
        self.state.entered = self.now.boot;
        self.state.restarts = 0;
        if let Some(watch) = &mut self.state.watch {
            watch.until = self.now.boot.after(watch.window);
        }
        if let Some(operation) = &mut self.state.operation {
            operation.switched_at = operation.switched_at.map(|_| BootTime(0));
        }
        if is_forward(phase) || matches!(self.state.progress, Progress::Undraining { .. }) {
            let during = if phase == windlass_proto::phase::Phase::Trial {
                "the trial".to_owned()
            } else {
                phase.to_string()
            };
            self.blame(Fault::Host, &format!("the host rebooted during {during}"));
            self.state.supervision = Supervision::Off;
            self.revert_after_boot(0);
            return;
        }
        match self.state.progress {
            Progress::Assigned | Progress::Staging => {
                self.resume_service();
                self.stage_again();
            }
            Progress::Reverting { goal: RevertGoal::Out, .. } => self.quarantine(),
            Progress::Reverting { attempt, .. } => self.revert_after_boot(attempt),
            Progress::Quarantined => {}
            _ => self.resume_service(),
        }
    }

    fn revert_after_boot(&mut self, attempt: u32) {
        let (goal, step) = (RevertGoal::Back, RevertStep::Switching);
        self.enter(Progress::Reverting { goal, step, attempt });
        self.ask(Effect::WriteConfirmed { release: self.state.confirmed.clone() });
        self.freeze_evidence();
        self.revert_switch();
    }
}
