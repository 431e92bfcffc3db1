//! The app outside of a deployment: restarted with backoff when it ends or liveness fails. In the watch window after
//! confirm that is the release's fault instead: the host goes back, once.

use windlass_proto::phase::Fault;
use windlass_proto::time::Span;

use crate::back::backoff;
use crate::effect::{Checks, Effect};
use crate::event::{Done, Health};
use crate::refused::Refused;
use crate::state::{Progress, RevertGoal, Supervision};
use crate::step::Machine;

/// An app that ran for so long starts with a clean record.
const STEADY_AFTER: Span = Span::secs(600);

/// So many ends within the watch window are a failure of the release, as failing liveness is.
const EXITS_IN_WATCH: u32 = 3;

impl Machine {
    /// Makes what runs what should run, and watches it.
    pub(crate) fn resume_supervision(&mut self) {
        match self.state.current.clone() {
            Some(release) => {
                self.state.supervision = Supervision::Linking;
                self.ask(Effect::Switch { to: Some(release) });
            }
            None => self.state.supervision = Supervision::Off,
        }
    }

    pub(crate) fn supervision_done(&mut self, done: &Done) -> Result<(), Refused> {
        if (self.state.supervision, done) == (Supervision::Linking, &Done::Switched)
            && self.state.current.is_none()
        {
            // Left down by a person.
            self.state.supervision = Supervision::Off;
            return Ok(());
        }
        let Some(release) = self.state.current.clone() else { return Err(self.not_now()) };
        match (self.state.supervision, done) {
            (Supervision::Linking, Done::Switched) => {
                self.state.supervision = Supervision::Starting;
                self.ask(Effect::Start { release });
            }
            (Supervision::Starting, Done::Started) => {
                self.state.supervision = Supervision::Up { since: self.now.boot };
                self.ask(Effect::Probe { release, checks: Checks::Startup });
            }
            (Supervision::Up { .. }, Done::Admitted) => {}
            // The agent was restarted in the trial, and the confirm was quicker than the search for the process.
            (Supervision::Up { .. }, Done::Adopted) => {
                self.ask(Effect::Probe { release, checks: Checks::Service });
            }
            (Supervision::Stopping, Done::Stopped { .. }) => self.start_later(),
            _ => return Err(self.not_now()),
        }
        Ok(())
    }

    pub(crate) fn supervision_failed(&mut self, reason: &str) -> Result<(), Refused> {
        match self.state.supervision {
            Supervision::Linking | Supervision::Starting | Supervision::Stopping => {
                self.state.restarts = self.state.restarts.saturating_add(1);
                self.complain(reason);
                self.start_later();
                Ok(())
            }
            _ => Err(self.not_now()),
        }
    }

    pub(crate) fn supervision_exited(&mut self, how: &str) -> Result<(), Refused> {
        match self.state.supervision {
            Supervision::Up { since } if self.now.boot.since(since) >= STEADY_AFTER => {
                self.state.restarts = 0
            }
            Supervision::Up { .. } | Supervision::Starting => {}
            _ => return Err(self.not_now()),
        }
        self.state.restarts = self.state.restarts.saturating_add(1);
        if self.is_watched() && self.state.restarts >= EXITS_IN_WATCH {
            let times = self.state.restarts;
            self.watch_failed(&format!("the app ended {times} times soon after confirm: {how}"));
        } else {
            self.complain(&format!("the app ended: {how}"));
            self.ask(Effect::StopProbes);
            self.ask(Effect::Withdraw);
            self.start_later();
        }
        Ok(())
    }

    pub(crate) fn supervision_health(&mut self, health: Health) -> Result<(), Refused> {
        let Supervision::Up { since } = self.state.supervision else { return Err(self.not_now()) };
        let Some(release) = self.state.current.clone() else { return Err(self.not_now()) };
        match health {
            Health::StartupPassed => self.ask(Effect::Probe { release, checks: Checks::Service }),
            Health::Ready => {
                self.complain("");
                self.ask(Effect::Admit { release });
            }
            Health::NotReady { why } => {
                self.complain(&format!("not ready: {why}"));
                self.ask(Effect::Withdraw);
            }
            Health::StartupFailed { why } | Health::LivenessFailed { why } => {
                if self.is_watched() {
                    self.watch_failed(&format!("liveness probe failed soon after confirm: {why}"));
                } else {
                    let steady = self.now.boot.since(since) >= STEADY_AFTER;
                    self.state.restarts = if steady { 1 } else { self.state.restarts.saturating_add(1) };
                    self.state.supervision = Supervision::Stopping;
                    self.complain(&format!("liveness probe failed: {why}"));
                    self.ask(Effect::StopProbes);
                    self.ask(Effect::Withdraw);
                    self.ask(Effect::Stop { release });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn supervision_tick(&mut self) {
        if let Supervision::Waiting { .. } = self.state.supervision {
            self.resume_supervision();
        }
    }

    fn start_later(&mut self) {
        self.overtake();
        let until = self.now.boot.after(backoff(self.state.restarts.max(1)));
        self.state.supervision = Supervision::Waiting { until };
    }

    /// Whether a failure now would be the confirmed release's fault, with somewhere to go.
    fn is_watched(&self) -> bool {
        self.state.progress == Progress::Confirmed
            && !self.state.history.is_empty()
            && self.state.watch.as_ref().is_some_and(|watch| self.now.boot < watch.until)
    }

    /// Back to the release confirmed before, which becomes the confirmed one again; and never again by itself.
    fn watch_failed(&mut self, reason: &str) {
        let previous = self.state.history.remove(0);
        self.state.confirmed = Some(previous.clone());
        // The link first: a reboot on the way must come up on the old release.
        self.ask(Effect::WriteConfirmed { release: Some(previous) });
        self.go_back(RevertGoal::Back, Fault::App, reason);
    }
}
