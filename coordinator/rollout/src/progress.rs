//! The way forward: staging everywhere, batch after batch, the end.

use std::collections::BTreeSet;

use windlass_proto::id::HostName;
use windlass_proto::phase::{Fault, Outcome, Phase};
use windlass_proto::spec::OnFailure;

use crate::budget::error_threshold;
use crate::check::{hosts_word, names};
use crate::guard::Blocked;
use crate::state::{BatchStep, Condition, Host, Part, State};
use crate::turn::Turn;

impl Turn {
    /// Goes as far as it can go now.
    pub(crate) fn advance(&mut self) {
        self.recover();
        self.clocks();
        if self.r.forward() {
            self.absences();
            self.host_deadlines();
            self.judge();
        }
        while self.r.forward() && !self.r.held() {
            let before = self.r.state;
            match self.r.state {
                State::Preparing => self.prepare(),
                State::Progressing { batch, step: BatchStep::Deploying } => self.deploy(batch),
                State::Progressing { batch, step: BatchStep::Baking { until } } if self.now >= until => {
                    self.r.progress_since = self.now;
                    self.enter(batch + 1);
                }
                State::Promoting => self.promote(),
                _ => {}
            }
            if self.r.state == before {
                break;
            }
        }
        if self.r.state == State::Aborting {
            self.go_back();
        }
        self.clocks();
    }

    /// Ends or pauses the rollout when too much has failed.
    fn judge(&mut self) {
        let total = self.r.total();
        let allowed = error_threshold(&self.r.spec, total).max(self.r.accepted);
        let failed = crate::batches::count(self.r.failed().count());
        let fatal = self.r.state == State::Preparing
            && self.r.failed().any(|(_, host)| matches!(host.fault, Some(Fault::App | Fault::Policy)));
        if failed > allowed || (fatal && failed > self.r.accepted) {
            let place = match self.r.state {
                State::Progressing { batch, .. } => format!("in batch {}", batch + 1),
                State::Preparing => "while staging".into(),
                _ => "after the last batch".into(),
            };
            let threshold = error_threshold(&self.r.spec, total);
            let message = format!(
                "{failed} of {} failed {place}, {threshold} allowed: {}",
                hosts_word(total),
                self.r.failures()
            );
            self.fail(message, failed);
            return;
        }
        let strategy = &self.r.spec.strategy;
        let resting = matches!(self.r.state, State::Progressing { step: BatchStep::Baking { .. }, .. });
        let idle = self.now.since(self.r.progress_since);
        if !self.r.held() && !resting && idle >= strategy.progress_deadline {
            let waiting = crate::view::waiting_for(&self.r);
            let doing =
                if self.r.state == State::Preparing { "staged the release" } else { "became healthy" };
            let message = format!(
                "no host {doing} for {} (progress_deadline); it waited for {waiting}",
                strategy.progress_deadline
            );
            self.fail(message, failed);
        }
    }

    fn fail(&mut self, message: String, failed: u32) {
        let pause = self.r.spec.failure.on_failure == OnFailure::Pause && self.r.state != State::Preparing;
        if !pause {
            self.abort(message);
        } else if self.r.conditions.insert(Condition::Manual) {
            self.r.accepted = self.r.accepted.max(failed);
            self.r.paused = format!("on_failure: pause: {message}");
            self.log("rollout.paused", None, message);
        }
    }

    fn prepare(&mut self) {
        let staged = |name: &HostName| {
            let host = &self.r.hosts[name];
            host.part != Part::Stage
                || host.phase == Phase::Staged && host.heard_op.as_ref() == Some(&host.op)
        };
        if self.r.batches.iter().flatten().all(staged) {
            self.r.progress_since = self.now;
            if self.r.batches.is_empty() {
                self.r.state = State::Promoting;
            } else {
                self.log("rollout.staged", None, format!("{} is staged on every host", self.r.to.version));
                self.enter(0);
            }
        }
    }

    fn enter(&mut self, batch: usize) {
        let Some(hosts) = self.r.batches.get(batch) else {
            self.r.state = State::Promoting;
            return;
        };
        let message = format!("batch {} of {}: {}", batch + 1, self.r.batches.len(), names(hosts));
        self.r.state = State::Progressing { batch, step: BatchStep::Deploying };
        self.log("rollout.batch", None, message);
    }

    fn deploy(&mut self, batch: usize) {
        self.permit_batch(batch);
        let done = |name: &HostName| {
            let host = &self.r.hosts[name];
            let down = host.outcome == Some(Outcome::Confirmed) && !host.is_on(&self.r.to) && !host.gone;
            host.is_through() && !down
        };
        // Hosts of earlier batches count too: one that was lost may be back.
        if !self.r.batches[..=batch].iter().flatten().all(done) {
            return;
        }
        self.blocked(BTreeSet::new());
        let pause = self.r.spec.strategy.pause_between;
        let last = batch + 1 == self.r.batches.len();
        if last || pause.0 == 0 {
            self.enter(batch + 1);
        } else {
            let step = BatchStep::Baking { until: self.now.after(pause) };
            self.r.state = State::Progressing { batch, step };
            self.log("rollout.baking", None, format!("batch {} is through; rest of {pause}", batch + 1));
        }
    }

    /// Gives every host of the batch, and of those before it, its permit that the guard lets go.
    fn permit_batch(&mut self, batch: usize) {
        let mut reasons = BTreeSet::new();
        let mut flying = self.r.hosts.values().any(|host| host.in_flight());
        for name in self.r.batches[..=batch].concat() {
            let host = &self.r.hosts[&name];
            let ready = host.phase == Phase::Staged && host.heard_op.as_ref() == Some(&host.op);
            if host.part != Part::Stage || !ready {
                continue;
            }
            match self.r.guard(&name) {
                Ok(()) => {
                    self.permit(&name);
                    flying = true;
                }
                Err(blocked @ (Blocked::Budget | Blocked::LastHealthy)) => {
                    let silent = self.r.silence_counts();
                    reasons.insert(if silent { Condition::LostHosts } else { Condition::Budget });
                    if blocked == Blocked::Budget {
                        break;
                    }
                }
                // What is used up is so for every host; to ask for each of thousands would take seconds.
                Err(Blocked::Unconfirmed) => break,
                Err(_) => {}
            }
        }
        // While something is in flight the budget is merely in use.
        self.blocked(if flying { BTreeSet::new() } else { reasons });
    }

    pub(crate) fn permit(&mut self, name: &HostName) {
        let now = self.now;
        if let Some(host) = self.r.hosts.get_mut(name) {
            (host.part, host.permit_at, host.touched) = (Part::Go, Some(now), true);
            host.sent = None;
            self.log("host.permitted", Some(name), "may leave service");
        }
    }

    fn blocked(&mut self, reasons: BTreeSet<Condition>) {
        for condition in [Condition::Budget, Condition::LostHosts] {
            let (had, has) = (self.r.conditions.contains(&condition), reasons.contains(&condition));
            if has && !had {
                self.r.conditions.insert(condition);
                let waiting = crate::view::waiting_for(&self.r);
                self.log("rollout.blocked", None, format!("waits for {waiting}"));
            } else if had && !has {
                self.r.conditions.remove(&condition);
            }
        }
    }

    /// The end, if every host attests or was excused by name.
    fn promote(&mut self) {
        let to = &self.r.to;
        let version = to.version.clone();
        if let Some(last) = self.r.batches.len().checked_sub(1)
            && !self.r.hosts.values().all(Host::is_through)
        {
            // A host that was lost is back.
            self.r.state = State::Progressing { batch: last, step: BatchStep::Deploying };
            return;
        }
        let down = |(_, host): &(&HostName, &Host)| {
            host.outcome == Some(Outcome::Confirmed) && !host.is_on(to) && !host.unchanged && !host.gone
        };
        if self.r.hosts.iter().any(|pair| down(&pair)) {
            return;
        }
        let failed = crate::batches::count(self.r.failed().count());
        if failed > 0 {
            let message = format!(
                "{failed} of {} not on {version}, as the threshold allows: {}; `windlass rollout retry {}` tries them again",
                hosts_word(self.r.total()),
                self.r.failures(),
                self.r.id
            );
            self.r.failure = crate::turn::cut(message.as_str());
            self.end(State::Failed, message);
            return;
        }
        let confirmed = || self.r.hosts.values().filter(|host| host.outcome == Some(Outcome::Confirmed));
        let on = confirmed().count();
        if !self.r.batches.is_empty() && confirmed().all(|host| host.unchanged) {
            // All that were to change were excused one by one: nobody failed, and nothing was done.
            let message = format!(
                "no host was changed: {}; `windlass rollout retry {}` tries again",
                self.r.excuses(),
                self.r.id
            );
            self.r.failure = crate::turn::cut(message.as_str());
            self.end(State::Failed, message);
            return;
        }
        let excused = self.r.hosts.iter().filter(|(_, host)| host.outcome == Some(Outcome::Skipped));
        let excused: Vec<_> = excused.map(|(name, _)| name).collect();
        let mut message = format!("{} on {version}", hosts_word(crate::batches::count(on)));
        if !excused.is_empty() {
            message.push_str(&format!("; excused: {}", names(excused)));
        }
        self.end(State::Succeeded, message);
    }
}
