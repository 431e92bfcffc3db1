//! What the coordinator may order: assign, permit, confirm, abort. Each can come twice, late, or from the past.

use windlass_proto::counter;
use windlass_proto::id::OpId;
use windlass_proto::phase::{Fault, Outcome};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::OnWatchFailure;

use crate::effect::Effect;
use crate::event::{Assign, Staging};
use crate::now::{BootTime, LEASE_FRESH};
use crate::operation::Operation;
use crate::refused::Refused;
use crate::state::{HISTORY, Progress, Supervision, WatchWindow};
use crate::step::{Machine, is_forward};

impl Machine {
    pub(crate) fn assign(&mut self, assign: Assign) -> Result<(), Refused> {
        if assign.to.app != self.state.app {
            return Err(Refused::OtherApp);
        }
        self.obey(assign.epoch)?;
        let settled = self.state.is_settled();
        if let Some(operation) = &self.state.operation {
            if operation.op == assign.op {
                return self.reaffirm(assign.epoch);
            }
            if !settled {
                return Err(Refused::Busy { op: operation.op.clone(), phase: self.state.progress.phase() });
            }
        }
        let quarantine = match &self.state.operation {
            Some(last) if self.state.progress == Progress::Quarantined => Some(last.reason.clone()),
            _ => None,
        };
        // Nobody but its authors, or a person who rolls back to what was confirmed on this very host, brings an old release back.
        let leave = match counter::may_follow(self.state.counter, assign.to.counter) {
            Ok(()) => {
                let past = self.state.past();
                past.may_take(&assign.to, assign.rollback, assign.grant.as_deref())
                    .map_err(|it| it.to_string())
            }
            Err(far) => Err(format!("{} is refused: {far}", assign.to)),
        };
        let Assign { op, rollout, epoch, to, order, rollback, grant: _, trace } = assign;
        self.state.operation = Some(Operation {
            op: op.clone(),
            rollout,
            epoch,
            from: self.state.confirmed.clone(),
            to: to.clone(),
            order,
            rollback,
            leave: leave.as_ref().copied().unwrap_or_default(),
            trace,
            switched_at: None,
            outcome: None,
            fault: None,
            reason: String::new(),
            drained: None,
            network_before: None,
            network_in_trial: None,
            confirmed_late: false,
            hook: None,
            complaint: String::new(),
        });
        self.state.phase_times.clear();
        self.state.entered = self.now.boot;
        self.state.since = self.now.wall;
        if let Some(why) = quarantine {
            let why = why.strip_prefix(QUARANTINED).unwrap_or(&why);
            self.blame(Fault::Host, &format!("{QUARANTINED}{why}"));
            self.end(Progress::Quarantined, Outcome::Quarantined);
        } else if let Err(denied) = leave {
            self.blame(Fault::Policy, &denied);
            self.end(Progress::Failed, Outcome::Failed);
        } else if self.is_there(&to) {
            self.end(Progress::Confirmed, Outcome::Confirmed);
            self.accept();
        } else {
            // What comes next supersedes what was being watched.
            self.state.watch = None;
            self.state.progress = Progress::Assigned;
            self.ask(Effect::Stage { op, release: to });
        }
        Ok(())
    }

    fn is_there(&self, release: &ReleaseRef) -> bool {
        let is = |other: &Option<ReleaseRef>| other.as_ref().is_some_and(|o| o.digest == release.digest);
        is(&self.state.current) && is(&self.state.confirmed)
    }

    pub(crate) fn staging(&mut self, op: &OpId, news: Staging) -> Result<(), Refused> {
        // What is staged cannot be begun where the host cannot record it.
        let fails = matches!(news, Staging::Failed { .. }) && self.state.progress == Progress::Staged;
        if !fails && !matches!(self.state.progress, Progress::Assigned | Progress::Staging) {
            return Err(self.not_now());
        }
        self.at_hand(op)?;
        match news {
            Staging::Started => self.enter(Progress::Staging),
            Staging::Done => {
                let counter = self.operation()?.to.counter;
                self.state.counter = self.state.counter.max(counter);
                self.enter(Progress::Staged);
                self.accept();
            }
            Staging::Failed { fault, reason } => {
                self.blame(fault, &reason);
                self.end(Progress::Failed, Outcome::Failed);
                self.prune();
            }
        }
        Ok(())
    }

    pub(crate) fn permit(&mut self, op: &OpId, epoch: u64, expires: BootTime) -> Result<(), Refused> {
        self.obey(epoch)?;
        self.at_hand(op)?;
        if is_forward(self.state.phase()) {
            return self.reaffirm(epoch);
        }
        if self.state.progress != Progress::Staged {
            return Err(self.not_now());
        }
        if self.now.boot >= expires {
            return Err(Refused::PermitOver);
        }
        let contact = self.now.contact.filter(|_| self.now.in_contact()).ok_or(Refused::NoContact)?;
        self.reaffirm(epoch)?;
        let operation = self.operation()?;
        let to = operation.to.clone();
        match self.state.current.clone() {
            Some(release) => {
                let contact_by = contact.after(LEASE_FRESH);
                self.enter(Progress::Draining { contact_by });
                self.drain(release);
            }
            None => {
                self.state.supervision = Supervision::Off;
                self.switch(to);
            }
        }
        Ok(())
    }

    pub(crate) fn confirm(&mut self, op: &OpId, epoch: u64, opened_at: BootTime) -> Result<(), Refused> {
        self.obey(epoch)?;
        self.at_hand(op)?;
        match self.state.progress {
            Progress::Trial { .. } => {
                if self.operation()?.switched_at.is_none_or(|switched_at| opened_at < switched_at) {
                    return Err(Refused::OldSession);
                }
                self.reaffirm(epoch)?;
                self.make_permanent()
            }
            Progress::Reverting { .. } => {
                self.reaffirm(epoch)?;
                if let Some(operation) = &mut self.state.operation {
                    operation.confirmed_late = true;
                }
                Ok(())
            }
            Progress::Reverted => {
                self.reaffirm(epoch)?;
                if let Some(operation) = &mut self.state.operation {
                    operation.confirmed_late = true;
                    operation.outcome = Some(Outcome::AlreadyReverted);
                }
                Ok(())
            }
            // Said again: what became of it goes out again.
            Progress::Idle | Progress::Confirmed | Progress::Quarantined | Progress::Failed => {
                self.reaffirm(epoch)
            }
            _ => Err(self.not_now()),
        }
    }

    fn make_permanent(&mut self) -> Result<(), Refused> {
        let operation = self.operation()?;
        let (to, rollback, watch) =
            (operation.to.clone(), operation.rollback, operation.order.host.watch.clone());
        if let Some(old) = self.state.confirmed.take() {
            self.state.history.insert(0, old);
        }
        self.state.history.retain(|release| release.digest != to.digest);
        self.state.history.truncate(HISTORY);
        self.state.confirmed = Some(to.clone());
        // After a rollback there is nowhere to go: the release confirmed before is the one that was left on purpose.
        let reverts = watch.on_failure == OnWatchFailure::Revert && !rollback;
        self.state.watch = (reverts && watch.window.0 > 0)
            .then(|| WatchWindow { until: self.now.boot.after(watch.window), window: watch.window });
        self.state.restarts = 0;
        self.state.supervision = Supervision::Up { since: self.now.boot };
        self.end(Progress::Confirmed, Outcome::Confirmed);
        self.ask(Effect::WriteConfirmed { release: Some(to) });
        self.prune();
        Ok(())
    }

    pub(crate) fn abort(&mut self, op: &OpId, epoch: u64, reason: &str) -> Result<(), Refused> {
        self.obey(epoch)?;
        self.at_hand(op)?;
        let reason = if reason.is_empty() { "aborted by the coordinator" } else { reason };
        if self.state.progress == Progress::Confirmed {
            return Err(Refused::AlreadyConfirmed);
        }
        self.reaffirm(epoch)?;
        match self.state.progress {
            Progress::Assigned | Progress::Staging | Progress::Staged => {
                // Nothing was touched, so nothing has failed: the host is where it was.
                if let Some(operation) = &mut self.state.operation {
                    operation.reason = format!("not touched: {reason}");
                }
                self.ask(Effect::CancelStage { op: op.clone() });
                self.end(Progress::Idle, Outcome::Skipped);
                self.prune();
            }
            Progress::Draining { .. } => self.undrain(Fault::Policy, reason),
            _ if is_forward(self.state.phase()) => self.revert(Fault::Policy, reason),
            // On its way back or there already: what became of it goes out again.
            _ => {}
        }
        Ok(())
    }

    /// Refuses orders of a coordinator whose time is over.
    pub(crate) fn obey(&self, epoch: u64) -> Result<(), Refused> {
        let highest = self.state.epoch;
        if epoch < highest {
            return Err(Refused::Fenced { given: epoch, highest });
        }
        Ok(())
    }

    /// An epoch counts from the first release on whose signature was verified under it: whoever can say a number but has nothing
    /// that an author signed shuts nobody out.
    fn accept(&mut self) {
        if let Some(operation) = self.state.operation.as_ref().filter(|_| self.state.has_accepted()) {
            self.state.epoch = self.state.epoch.max(operation.epoch);
        }
    }

    fn at_hand(&self, op: &OpId) -> Result<(), Refused> {
        match &self.state.operation {
            Some(operation) if operation.op == *op => Ok(()),
            _ => Err(Refused::OtherOperation(op.clone())),
        }
    }

    fn reaffirm(&mut self, epoch: u64) -> Result<(), Refused> {
        match &mut self.state.operation {
            Some(operation) => {
                operation.epoch = epoch;
                self.accept();
                Ok(())
            }
            None => Err(self.not_now()),
        }
    }

    /// Ends the operation.
    pub(crate) fn end(&mut self, progress: Progress, outcome: Outcome) {
        self.enter(progress);
        if let Some(operation) = &mut self.state.operation {
            operation.outcome = Some(outcome);
        }
    }

    pub(crate) fn prune(&mut self) {
        let keep = self.state.keep();
        self.ask(Effect::Prune { keep });
    }
}

const QUARANTINED: &str = "the app is quarantined on this host; release it first: ";
