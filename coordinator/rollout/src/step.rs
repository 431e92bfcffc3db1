//! One event: taken into the books, then as far as the rollout can go, then what the hosts lack.

use windlass_proto::time::Timestamp;

use crate::check::names;
use crate::event::Event;
use crate::refused::Refused;
use crate::state::{Condition, Rollout, State, Step};
use crate::turn::Turn;

/// What follows from an event. Only operators' events are refused, and events of hosts that take no part.
pub fn step(rollout: &Rollout, event: Event, now: Timestamp) -> Result<Step, Refused> {
    let mut turn = Turn { r: rollout.clone(), now, effects: vec![] };
    turn.take_and_revise(event)?;
    turn.advance();
    turn.say();
    turn.timer();
    if turn.r != *rollout {
        turn.r.version += 1;
    }
    Ok(Step { state: turn.r, effects: turn.effects })
}

impl Turn {
    pub(crate) fn take(&mut self, event: Event) -> Result<(), Refused> {
        match event {
            Event::Start => {
                self.start();
                Ok(())
            }
            Event::HostStatus { host, status } => self.heard(&host, *status),
            Event::HostConnected { host, status } => self.connected(&host, status),
            Event::Declined { host, op, why } => self.declined(&host, &op, &why),
            Event::HostRefused { host, refused } => self.host_refused(&host, *refused),
            Event::HostSilent { host } => self.silent(&host),
            Event::Tick => Ok(()),
            Event::Recovered { epoch } => {
                self.recovered(epoch);
                Ok(())
            }
            Event::Pause { by, reason } => self.pause(&by, &reason),
            Event::Resume { by } => self.resume(&by),
            Event::Abort { by, reason } => self.abort_by(by, &reason),
        }
    }

    fn start(&mut self) {
        if self.r.state != State::Validating {
            return;
        }
        self.r.state = State::Preparing;
        self.r.progress_since = self.now;
        let hosts = self.r.batches.iter().map(Vec::len).sum::<usize>();
        let message = format!("{} to {} on {hosts} hosts by {}", self.r.kind, self.r.to, self.r.started_by);
        self.log("rollout.started", None, message);
    }

    fn open(&self) -> Result<(), Refused> {
        let id = self.r.id.clone();
        match self.r.state {
            state if state.ended() => Err(Refused::Ended { id, state: state.word() }),
            State::Aborting => Err(Refused::GoingBack { id }),
            _ => Ok(()),
        }
    }

    fn pause(&mut self, by: &str, reason: &str) -> Result<(), Refused> {
        self.open()?;
        if self.r.conditions.insert(Condition::Manual) {
            self.r.paused = crate::turn::cut(with_reason(format!("paused by {by}"), reason));
            let message = self.r.paused.clone();
            self.log("rollout.paused", None, message);
        }
        Ok(())
    }

    fn resume(&mut self, by: &str) -> Result<(), Refused> {
        self.open()?;
        let silent: Vec<_> = self
            .r
            .hosts
            .iter()
            .filter(|(_, host)| !host.gone && !host.in_flight() && host.silent_since.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        let lost = self.r.conditions.contains(&Condition::LostHosts) && !silent.is_empty();
        if !self.r.conditions.contains(&Condition::Manual) && !lost {
            let waits = crate::view::waiting_for(&self.r);
            let waits = if waits.is_empty() { "nothing".into() } else { waits };
            return Err(Refused::NothingToResume { id: self.r.id.clone(), waits });
        }
        self.r.conditions.remove(&Condition::Manual);
        self.clocks();
        self.r.paused.clear();
        self.r.accepted = self.r.accepted.max(crate::batches::count(self.r.failed().count()));
        self.r.progress_since = self.now;
        for name in &silent {
            self.excuse(name, &format!("silent; excused by {by}"));
        }
        let mut message = format!("resumed by {by}");
        if !silent.is_empty() {
            message.push_str(&format!(" without {}", names(&silent)));
        }
        self.log("rollout.resumed", None, message);
        Ok(())
    }

    fn abort_by(&mut self, by: String, reason: &str) -> Result<(), Refused> {
        if self.r.state == State::Aborting {
            return Ok(());
        }
        self.open()?;
        let message = with_reason(format!("aborted by {by}"), reason);
        self.r.aborted_by = Some(by);
        self.abort(message);
        Ok(())
    }
}

fn with_reason(text: String, reason: &str) -> String {
    if reason.is_empty() { text } else { format!("{text}: {reason}") }
}
