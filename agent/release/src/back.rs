//! The ways back: undraining, reverting, quarantine. A revert goes to [`crate::State::confirmed`] and nowhere else,
//! and it is never followed by another one without a person.

use windlass_proto::phase::{Fault, HookName, Outcome};
use windlass_proto::time::Span;

use crate::effect::{Checks, Effect, HOOK_AT_MOST};
use crate::event::{Done, Health};
use crate::now::BootTime;
use crate::refused::Refused;
use crate::state::{Progress, RevertGoal, RevertStep, Supervision};
use crate::step::Machine;

/// How often a revert is tried before a person is needed.
const REVERT_ATTEMPTS: u32 = 3;

/// How often returning to traffic is tried.
const UNDRAIN_ATTEMPTS: u32 = 5;

/// For the old release to become ready when no operation says otherwise.
const READY_WITHIN: Span = Span::secs(300);

impl Machine {
    /// Back into traffic on the old release, which was never stopped.
    pub(crate) fn undrain(&mut self, fault: Fault, reason: &str) {
        self.blame(fault, reason);
        self.enter(Progress::Undraining { attempt: 0, retry_at: None });
        self.freeze_evidence();
        self.ask_undrain();
    }

    pub(crate) fn ask_undrain(&mut self) {
        match self.state.current.clone() {
            Some(release) => {
                self.hook_if_it_works(&release, HookName::BeforeAllowTraffic);
                self.ask(Effect::Undrain { release: release.clone() });
                self.hook_if_it_works(&release, HookName::AfterAllowTraffic);
            }
            None => self.undrained(),
        }
    }

    pub(crate) fn undrain_done(&mut self, done: &Done) -> Result<(), Refused> {
        if *done != Done::Undrained {
            return Err(self.not_now());
        }
        self.undrained();
        Ok(())
    }

    fn undrained(&mut self) {
        self.end(Progress::Failed, Outcome::Failed);
        self.prune();
        // It may have ended meanwhile; and its probes go on.
        self.resume_supervision();
    }

    pub(crate) fn undrain_failed(&mut self, reason: &str) -> Result<(), Refused> {
        let Progress::Undraining { attempt, .. } = self.state.progress else { return Err(self.not_now()) };
        let attempt = attempt + 1;
        if attempt < UNDRAIN_ATTEMPTS {
            let retry_at = Some(self.now.boot.after(backoff(attempt)));
            self.enter(Progress::Undraining { attempt, retry_at });
            self.complain(reason);
        } else {
            self.blame_more(&format!("and the return to traffic failed: {reason}"));
            self.undrained();
        }
        Ok(())
    }

    pub(crate) fn undrain_again(&mut self) {
        if let Progress::Undraining { attempt, .. } = self.state.progress {
            self.enter(Progress::Undraining { attempt, retry_at: None });
            self.ask_undrain();
        }
    }

    /// Back to the last confirmed release.
    pub(crate) fn revert(&mut self, fault: Fault, reason: &str) {
        self.go_back(RevertGoal::Back, fault, reason);
    }

    pub(crate) fn go_back(&mut self, goal: RevertGoal, fault: Fault, reason: &str) {
        self.blame(fault, reason);
        self.state.supervision = Supervision::Off;
        self.state.watch = None;
        if let Some(operation) = &mut self.state.operation {
            operation.outcome = None;
        }
        self.enter(Progress::Reverting { goal, step: RevertStep::Stopping, attempt: 0 });
        self.ask(Effect::StopProbes);
        self.ask(Effect::Withdraw);
        self.freeze_evidence();
        self.ask_revert_stop();
    }

    pub(crate) fn freeze_evidence(&mut self) {
        if let Some(operation) = &self.state.operation {
            let (op, release) = (operation.op.clone(), operation.to.clone());
            self.ask(Effect::FreezeEvidence { op, release });
        }
    }

    /// Stops whatever runs; goes on at once when nothing can.
    pub(crate) fn ask_revert_stop(&mut self) {
        let settings = self.state.current.clone();
        let settings = settings.or_else(|| self.state.operation.as_ref().map(|op| op.to.clone()));
        match settings.or_else(|| self.state.confirmed.clone()) {
            Some(release) => {
                if let Some(current) = self.state.current.clone() {
                    self.hook_if_it_works(&current, HookName::ApplicationStop);
                }
                self.ask(Effect::Stop { release });
            }
            None => self.revert_stopped(),
        }
    }

    fn revert_stopped(&mut self) {
        match self.state.progress {
            Progress::Reverting { goal: RevertGoal::Out, .. } => self.quarantine(),
            _ => self.revert_switch(),
        }
    }

    pub(crate) fn revert_switch(&mut self) {
        self.revert_to(RevertStep::Switching);
        let to = self.state.confirmed.clone();
        self.ask(Effect::Switch { to });
    }

    fn revert_to(&mut self, step: RevertStep) {
        if let Progress::Reverting { goal, attempt, .. } = self.state.progress {
            self.enter(Progress::Reverting { goal, step, attempt });
        }
    }

    pub(crate) fn revert_done(&mut self, done: &Done) -> Result<(), Refused> {
        let Progress::Reverting { step, .. } = self.state.progress else { return Err(self.not_now()) };
        match (step, done) {
            (RevertStep::Stopping, Done::Stopped { cut }) => {
                self.note_cut(*cut);
                self.revert_stopped();
            }
            (RevertStep::Switching, Done::Switched) => {
                self.state.current = self.state.confirmed.clone();
                match self.state.current.clone() {
                    None => self.reverted(),
                    Some(release) => {
                        let ready_by = self.ready_by().after(HOOK_AT_MOST);
                        self.revert_start(release, ready_by);
                    }
                }
            }
            (RevertStep::Starting { .. }, Done::Started) => {
                // A hook that hung has taken nothing of the release's own time.
                let ready_by = self.ready_by();
                self.revert_to(RevertStep::Starting { ready_by });
                if let Some(release) = self.state.current.clone() {
                    self.ask(Effect::Probe { release, checks: Checks::Startup });
                }
            }
            (RevertStep::Admitting, Done::Admitted) => self.reverted(),
            _ => return Err(self.not_now()),
        }
        Ok(())
    }

    /// When the release that comes back must be ready, if it is started now.
    pub(crate) fn ready_by(&self) -> BootTime {
        let within = self.state.operation.as_ref().map(|op| op.order.healthy_deadline);
        self.now.boot.after(within.unwrap_or(READY_WITHIN))
    }

    pub(crate) fn revert_start(&mut self, release: windlass_proto::release::ReleaseRef, ready_by: BootTime) {
        self.revert_to(RevertStep::Starting { ready_by });
        self.ask(Effect::Start { release: release.clone() });
        self.hook_if_it_works(&release, HookName::ApplicationStart);
    }

    pub(crate) fn revert_health(&mut self, health: Health) -> Result<(), Refused> {
        let Progress::Reverting { step, .. } = self.state.progress else { return Err(self.not_now()) };
        let Some(release) = self.state.current.clone() else { return Err(self.not_now()) };
        match (step, health) {
            (RevertStep::Starting { ready_by }, Health::StartupPassed) => {
                self.revert_to(RevertStep::Verifying { ready_by });
                self.ask(Effect::Probe { release, checks: Checks::Service });
                Ok(())
            }
            (RevertStep::Starting { .. }, Health::StartupFailed { why }) => {
                self.revert_failed(&format!("startup probe failed: {why}"))
            }
            (RevertStep::Verifying { .. }, Health::Ready) => {
                self.revert_to(RevertStep::Admitting);
                self.hook_if_it_works(&release, HookName::BeforeAllowTraffic);
                self.ask(Effect::Admit { release: release.clone() });
                self.hook_if_it_works(&release, HookName::AfterAllowTraffic);
                Ok(())
            }
            (RevertStep::Verifying { .. }, Health::NotReady { why }) => {
                self.complain(&why);
                Ok(())
            }
            (RevertStep::Verifying { .. } | RevertStep::Admitting, Health::LivenessFailed { why }) => {
                self.revert_failed(&format!("liveness probe failed: {why}"))
            }
            _ => Err(self.not_now()),
        }
    }

    pub(crate) fn revert_exited(&mut self, how: &str) -> Result<(), Refused> {
        let Progress::Reverting { step, .. } = self.state.progress else { return Err(self.not_now()) };
        match step {
            RevertStep::Starting { .. } | RevertStep::Verifying { .. } | RevertStep::Admitting => {
                self.revert_failed(&format!("the app ended: {how}"))
            }
            RevertStep::Stopping | RevertStep::Switching | RevertStep::Waiting { .. } => Err(self.not_now()),
        }
    }

    /// The same way back again after a pause, a few times; then a person is needed.
    pub(crate) fn revert_failed(&mut self, reason: &str) -> Result<(), Refused> {
        let Progress::Reverting { goal, attempt, .. } = self.state.progress else {
            return Err(self.not_now());
        };
        let attempt = attempt + 1;
        if attempt < REVERT_ATTEMPTS {
            let step = RevertStep::Waiting { until: self.now.boot.after(backoff(attempt)) };
            self.enter(Progress::Reverting { goal, step, attempt });
            self.complain(reason);
            self.overtake();
            self.ask(Effect::StopProbes);
            self.ask(Effect::Withdraw);
        } else {
            self.old_did_not_come_up(reason);
        }
        Ok(())
    }

    pub(crate) fn revert_tick(&mut self) {
        let Progress::Reverting { step, .. } = self.state.progress else { return };
        match step {
            RevertStep::Waiting { .. } => {
                self.revert_to(RevertStep::Stopping);
                self.ask_revert_stop();
            }
            RevertStep::Starting { .. } | RevertStep::Verifying { .. } => {
                let complaint = self.state.operation.as_ref().map(|op| op.complaint.clone());
                let complaint = complaint.filter(|text| !text.is_empty());
                self.old_did_not_come_up(&match complaint {
                    Some(complaint) => format!("not ready in time: {complaint}"),
                    None => "not ready in time".to_owned(),
                });
            }
            RevertStep::Stopping | RevertStep::Switching | RevertStep::Admitting => {}
        }
    }

    fn old_did_not_come_up(&mut self, reason: &str) {
        let old = self.state.confirmed.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
        self.blame_more(&format!("and the way back to {old} failed: {reason}"));
        self.quarantine();
        self.take_out_of_service();
    }

    /// Nothing of the app is in traffic, and nothing runs.
    pub(crate) fn take_out_of_service(&mut self) {
        self.ask(Effect::StopProbes);
        self.ask(Effect::Withdraw);
        if let Some(release) = self.state.current.clone() {
            self.hook_if_it_works(&release, HookName::ApplicationStop);
            self.ask(Effect::Stop { release });
        }
    }

    pub(crate) fn quarantine(&mut self) {
        self.state.supervision = Supervision::Off;
        self.end(Progress::Quarantined, Outcome::Quarantined);
    }

    pub(crate) fn reverted(&mut self) {
        let late = self.state.operation.as_ref().is_some_and(|operation| operation.confirmed_late);
        self.state.restarts = 0;
        self.state.supervision = match self.state.current {
            Some(_) => Supervision::Up { since: self.now.boot },
            None => Supervision::Off,
        };
        self.end(Progress::Reverted, if late { Outcome::AlreadyReverted } else { Outcome::Reverted });
        self.prune();
    }

    pub(crate) fn release_quarantine(&mut self, epoch: u64, leave_down: bool) -> Result<(), Refused> {
        self.obey(epoch)?;
        if self.state.progress != Progress::Quarantined {
            return Err(self.not_now());
        }
        if leave_down {
            // Out of service it is. The next release finds nothing that it would have to stop, and goes back to what is confirmed.
            self.enter(Progress::Idle);
            self.state.current = None;
            self.state.supervision = Supervision::Linking;
            self.ask(Effect::StopProbes);
            self.ask(Effect::Withdraw);
            self.ask(Effect::Switch { to: None });
            return Ok(());
        }
        self.enter(Progress::Reverting { goal: RevertGoal::Back, step: RevertStep::Stopping, attempt: 0 });
        if let Some(operation) = &mut self.state.operation {
            operation.outcome = None;
        }
        self.ask(Effect::StopProbes);
        self.ask_revert_stop();
        Ok(())
    }
}

/// 1 s, 2 s, 4 s and so on, at most 5 minutes.
pub(crate) fn backoff(attempt: u32) -> Span {
    Span::secs((1_u64 << attempt.saturating_sub(1).min(9)).min(300))
}
