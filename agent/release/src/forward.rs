//! From the permit to the trial.

use windlass_proto::phase::{Drained, Fault, HookName, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::OnContactLost;
use windlass_proto::time::Span;

use crate::effect::{Checks, Effect};
use crate::event::{Done, Health};
use crate::network::{self, Network};
use crate::now::LEASE_FRESH;
use crate::refused::Refused;
use crate::state::{Progress, RevertGoal, Supervision};
use crate::step::Machine;

/// Longest that letting traffic in may take.
const ADMIT_WITHIN: Span = Span::secs(60);

/// How much longer than `confirm_timeout` a healthy host holds under `on_contact_lost: hold_if_healthy`.
const HOLD_AT_MOST: Span = Span::secs(15 * 60);

impl Machine {
    pub(crate) fn forward_done(&mut self, done: Done) -> Result<(), Refused> {
        let to = self.operation()?.to.clone();
        match (&self.state.progress, done) {
            (Progress::Draining { contact_by }, Done::Drained(drained)) => {
                let contact_by = *contact_by;
                self.note_drained(drained);
                if self.now.boot < contact_by || self.now.in_contact() {
                    self.stop_old();
                } else {
                    self.undrain(Fault::Transport, CONTACT_LOST);
                }
            }
            (Progress::Draining { .. }, Done::DrainTimedOut(drained)) => {
                self.note_drained(drained);
                let left = drained.in_flight.saturating_sub(drained.closed);
                let noun = if left == 1 { "connection" } else { "connections" };
                self.undrain(Fault::App, &format!("{left} {noun} outlived the drain"));
            }
            (Progress::Stopping, Done::Stopped { cut }) => {
                self.settle_drained(cut);
                self.switch(to);
            }
            (Progress::Switching { healthy_by }, Done::Switched) => {
                let healthy_by = *healthy_by;
                self.state.current = Some(to.clone());
                if let Some(operation) = &mut self.state.operation {
                    operation.switched_at = Some(self.now.boot);
                }
                self.enter(Progress::Starting { healthy_by });
                self.ask(Effect::Redial);
                self.start(to);
            }
            (Progress::Starting { .. }, Done::Started) => {
                self.ask(Effect::Probe { release: to, checks: Checks::Startup });
            }
            (Progress::Verifying { .. } | Progress::Trial { .. }, Done::Adopted) => {
                self.ask(Effect::Probe { release: to, checks: Checks::Service });
            }
            (Progress::Admitting { .. }, Done::Adopted) => {
                self.ask(Effect::Probe { release: to.clone(), checks: Checks::Service });
                self.admit(to);
            }
            (Progress::Verifying { healthy_by, ready_since, .. }, Done::SmokePassed) => {
                let (healthy_by, ready_since) = (*healthy_by, *ready_since);
                self.enter(Progress::Verifying { healthy_by, ready_since, smoke_passed: true });
                self.admit_if_healthy();
            }
            (Progress::Verifying { .. }, Done::SmokeFailed { why }) => {
                self.revert(Fault::App, &format!("smoke check failed: {why}"));
            }
            (Progress::Admitting { .. }, Done::Admitted) => {
                let confirm_by = self.now.boot.after(self.operation()?.order.host.confirm_timeout);
                self.enter(Progress::Trial { confirm_by, holding: false });
            }
            _ => return Err(self.not_now()),
        }
        Ok(())
    }

    fn note_drained(&mut self, drained: Drained) {
        if let Some(operation) = &mut self.state.operation {
            operation.drained = Some(drained);
        }
    }

    /// What ended while the old release finished its work was not cut after all; what came late was.
    fn settle_drained(&mut self, cut: u32) {
        if let Some(operation) = &mut self.state.operation {
            let closed = operation.drained.map_or(0, |drained| drained.closed);
            let in_flight = operation.drained.map_or(0, |drained| drained.in_flight);
            let in_flight = in_flight.max(closed.saturating_add(cut));
            operation.drained = Some(Drained { in_flight, closed: in_flight - cut, cut });
        }
    }

    /// What a release that goes back had open, on top of what the drain saw: nobody waits for it.
    pub(crate) fn note_cut(&mut self, more: u32) {
        if let Some(operation) = self.state.operation.as_mut().filter(|_| more > 0) {
            let drained = operation.drained.get_or_insert_default();
            drained.in_flight = drained.in_flight.saturating_add(more);
            drained.cut = drained.cut.saturating_add(more);
        }
    }

    /// Out of traffic, with the hooks of the release to come around it.
    pub(crate) fn drain(&mut self, release: ReleaseRef) {
        let Some(to) = self.state.operation.as_ref().map(|operation| operation.to.clone()) else { return };
        self.hook(&to, HookName::BeforeBlockTraffic);
        self.ask(Effect::Drain { release });
        self.hook(&to, HookName::AfterBlockTraffic);
    }

    /// The old release has gone: from here on the time of the new one counts.
    pub(crate) fn switch(&mut self, to: ReleaseRef) {
        let within = self.state.operation.as_ref().map_or(Span(0), |op| op.order.healthy_deadline);
        self.enter(Progress::Switching { healthy_by: self.now.boot.after(within) });
        self.switch_again(to);
    }

    pub(crate) fn switch_again(&mut self, to: ReleaseRef) {
        self.hook(&to, HookName::BeforeInstall);
        self.ask(Effect::Switch { to: Some(to) });
    }

    pub(crate) fn start(&mut self, release: ReleaseRef) {
        self.hook(&release, HookName::AfterInstall);
        self.ask(Effect::Start { release: release.clone() });
        self.hook(&release, HookName::ApplicationStart);
    }

    fn smoke(&mut self, release: ReleaseRef) {
        self.ask(Effect::Smoke { release: release.clone() });
        self.hook(&release, HookName::ValidateService);
    }

    fn admit(&mut self, release: ReleaseRef) {
        self.hook(&release, HookName::BeforeAllowTraffic);
        self.ask(Effect::Admit { release: release.clone() });
        self.hook(&release, HookName::AfterAllowTraffic);
    }

    /// From here on a failure is a revert.
    pub(crate) fn stop_old(&mut self) {
        self.state.supervision = Supervision::Off;
        self.state.restarts = 0;
        self.enter(Progress::Stopping);
        self.ask(Effect::StopProbes);
        if let Some(release) = self.state.current.clone() {
            self.hook_if_it_works(&release, HookName::ApplicationStop);
            self.ask(Effect::Stop { release });
        }
    }

    pub(crate) fn forward_health(&mut self, health: Health) -> Result<(), Refused> {
        let to = self.operation()?.to.clone();
        match (&self.state.progress, health) {
            (Progress::Starting { healthy_by }, Health::StartupPassed) => {
                let healthy_by = *healthy_by;
                self.enter(Progress::Verifying { healthy_by, ready_since: None, smoke_passed: false });
                self.ask(Effect::Probe { release: to, checks: Checks::Service });
            }
            (Progress::Starting { .. }, Health::StartupFailed { why }) => {
                self.revert(Fault::App, &format!("startup probe failed: {why}"));
            }
            (Progress::Verifying { healthy_by, smoke_passed, .. }, Health::Ready) => {
                let (healthy_by, smoke_passed) = (*healthy_by, *smoke_passed);
                let ready_since = Some(self.now.boot);
                self.enter(Progress::Verifying { healthy_by, ready_since, smoke_passed });
                self.complain_of_the_past();
                let validating = self.operation()?.hook.is_some();
                if smoke_passed {
                    self.admit_if_healthy();
                } else if !validating {
                    self.smoke(to);
                }
            }
            (Progress::Verifying { healthy_by, smoke_passed, .. }, Health::NotReady { why }) => {
                let (healthy_by, smoke_passed) = (*healthy_by, *smoke_passed);
                self.enter(Progress::Verifying { healthy_by, ready_since: None, smoke_passed });
                self.complain(&why);
            }
            (Progress::Admitting { .. } | Progress::Trial { .. }, Health::NotReady { why }) => {
                let reason = format!("readiness probe failed while {}: {why}", self.state.phase());
                self.revert(Fault::App, &reason);
            }
            (
                Progress::Verifying { .. } | Progress::Admitting { .. } | Progress::Trial { .. },
                Health::LivenessFailed { why },
            ) => {
                let reason = format!("liveness probe failed while {}: {why}", self.state.phase());
                self.revert(Fault::App, &reason);
            }
            _ => return Err(self.not_now()),
        }
        Ok(())
    }

    /// Ready again: what it complained of stays on record, for one that flaps never says it at the deadline.
    fn complain_of_the_past(&mut self) {
        const BEFORE: &str = "not ready before: ";
        let complaint = self.state.operation.as_ref().map(|op| op.complaint.clone()).unwrap_or_default();
        if !complaint.is_empty() && !complaint.starts_with(BEFORE) {
            self.complain(&format!("{BEFORE}{complaint}"));
        }
    }

    fn admit_if_healthy(&mut self) {
        if self.state.healthy_at().is_some_and(|at| self.now.boot >= at)
            && let Progress::Verifying { healthy_by, .. } = self.state.progress
            && let Some(release) = self.state.current.clone()
        {
            // The hooks around it have their time within `healthy_deadline`.
            let admit_by = healthy_by.max(self.now.boot.after(ADMIT_WITHIN));
            self.enter(Progress::Admitting { admit_by });
            self.admit(release);
        }
    }

    pub(crate) fn forward_tick(&mut self) {
        let now = self.now.boot;
        match self.state.progress {
            Progress::Draining { .. } => match self.now.contact {
                Some(contact) if self.now.in_contact() => {
                    let contact_by = contact.after(LEASE_FRESH);
                    self.enter(Progress::Draining { contact_by });
                }
                _ => self.undrain(Fault::Transport, CONTACT_LOST),
            },
            Progress::Verifying { healthy_by, .. } if now < healthy_by => self.admit_if_healthy(),
            Progress::Verifying { .. } => {
                // Healthy to the last moment counts, should the timer come late.
                if self.state.healthy_at().is_some_and(|at| now >= at) {
                    self.admit_if_healthy();
                } else {
                    self.revert(Fault::App, &self.too_late("not ready"));
                }
            }
            Progress::Switching { .. } => self.revert(Fault::Host, &self.too_late("the link did not move")),
            Progress::Starting { .. } => self.revert(Fault::App, &self.too_late("startup did not pass")),
            Progress::Admitting { .. } => {
                let reason =
                    format!("not in traffic {} after being healthy", self.now.boot.since(self.state.entered));
                self.revert(Fault::Agent, &reason);
            }
            Progress::Trial { holding, .. } => self.unconfirmed(holding),
            _ => {}
        }
    }

    fn too_late(&self, what: &str) -> String {
        let Some(operation) = &self.state.operation else { return what.to_owned() };
        let within = operation.order.healthy_deadline;
        if operation.complaint.is_empty() {
            format!("{what}, so not healthy within {within}")
        } else {
            format!("{what}, so not healthy within {within}: {}", operation.complaint)
        }
    }

    /// Before the switch it is what to compare with.
    pub(crate) fn note_network(&mut self, seen: Network) -> Result<(), Refused> {
        let phase = self.state.phase();
        let refused = self.not_now();
        match (&mut self.state.operation, phase) {
            (Some(operation), Phase::Trial) => operation.network_in_trial = Some(seen),
            (Some(operation), Phase::Staged | Phase::Draining) => operation.network_before = Some(seen),
            _ => return Err(refused),
        }
        Ok(())
    }

    fn unconfirmed(&mut self, holding: bool) {
        let Some(operation) = &self.state.operation else { return };
        let host = &operation.order.host;
        let (fault, why) =
            network::blame(operation.network_before.as_ref(), operation.network_in_trial.as_ref());
        let (policy, within) = (host.on_contact_lost, host.confirm_timeout);
        let because = if why.is_empty() { String::new() } else { format!("; {why}") };
        let reason = format!("no confirm came within {within}{because}");
        match policy {
            OnContactLost::HoldIfHealthy if !holding => {
                let confirm_by = self.now.boot.after(HOLD_AT_MOST);
                self.enter(Progress::Trial { confirm_by, holding: true });
            }
            OnContactLost::HoldIfHealthy => {
                self.revert(fault, &format!("{reason}, nor within {HOLD_AT_MOST} more"));
            }
            OnContactLost::Revert => self.revert(fault, &reason),
            OnContactLost::Stop => self.go_back(RevertGoal::Out, fault, &reason),
        }
    }
}

const CONTACT_LOST: &str = "contact with the coordinator was lost before anything was stopped";
