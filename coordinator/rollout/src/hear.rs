//! What a host says, taken into the books. The newest status says everything, so a lost or doubled one does no harm.

use windlass_proto::id::{HostName, OpId};
use windlass_proto::limits::HOOK_RUNS;
use windlass_proto::phase::{AppStatus, Fault, HookRun, Outcome, Phase};
use windlass_proto::spec::Absent;
use windlass_proto::time::Span;

use crate::after::has_left;
use crate::refused::Refused;
use crate::state::{Host, Part, State, Way};
use crate::turn::{Turn, cut};

/// How often an operation is tried when the network was at fault.
const ATTEMPTS: u32 = 3;

/// Rest before the next try; grows with each.
const BACKOFF: Span = Span::secs(5);

impl Turn {
    /// A host opened a session and said what it knows.
    pub(crate) fn connected(
        &mut self,
        name: &HostName,
        status: Option<Box<AppStatus>>,
    ) -> Result<(), Refused> {
        let host = self.host(name)?;
        host.sent = None;
        match status {
            // A new session says the truth of now, whatever the numbers of an earlier life of the host were.
            Some(status) => {
                host.seq = 0;
                self.heard(name, *status)
            }
            None => {
                (host.attested, host.elsewhere) = (None, false);
                self.present(name)?;
                self.forgotten(name)
            }
        }
    }

    /// A host reported.
    pub(crate) fn heard(&mut self, name: &HostName, status: AppStatus) -> Result<(), Refused> {
        self.present(name)?;
        let (ended, to, now) = (self.r.ended(), self.r.to.clone(), self.now);
        let host = self.host(name)?;
        if status.seq < host.seq {
            return Ok(());
        }
        if host.unchanged && has_left(&status, &to) {
            return self.unchanged_left(name, status);
        }
        if ended && host.part == Part::Settled {
            return self.heard_after_end(name, status);
        }
        host.seq = status.seq;
        host.attested = status.attested.digest.filter(|_| status.attested.ok);
        host.elsewhere = status.op.as_ref() != Some(&host.op) && is_disruptive(status.phase);
        if status.op.as_ref() != Some(&host.op) {
            // An operation of a former life, of another rollout, or the try before this one.
            let known = host.heard_op.as_ref() == Some(&host.op);
            host.heard_op = status.op;
            return if known { self.forgotten(name) } else { Ok(()) };
        }
        host.heard_op = Some(host.op.clone());
        host.note(&status, now);
        host.phase = status.phase;
        if !host.touched && status.outcome.is_none() {
            // The host knows better than the plan what it would go back to.
            host.former = status.confirmed;
        }
        host.drained = status.drained.or(host.drained);
        host.phase_times = status.phase_times;
        host.detail = cut(status.detail);
        let hooks: Vec<_> = status.hooks.into_iter().take(HOOK_RUNS).map(bounded).collect();
        let before = std::mem::replace(&mut host.hooks, hooks.clone());
        for run in hooks.iter().filter(|run| run.took.is_some() && !before.contains(run)) {
            let message = format!("{} of {}: {}: {}", run.hook, run.version, run.command, run.end);
            self.log(if run.passed() { "host.hook" } else { "host.hook_failed" }, Some(name), message);
        }
        let host = self.host(name)?;
        if host.part == Part::Released {
            return Ok(());
        }
        match status.outcome {
            Some(Outcome::Skipped) => self.dropped(name)?,
            None => {
                // Thought lost, and found at work.
                if host.outcome == Some(Outcome::Lost) {
                    host.outcome = None;
                    host.part = match host.part {
                        Part::Settled if is_disruptive(host.phase) => Part::Go,
                        Part::Settled => Part::Stage,
                        other => other,
                    };
                    if host.part == Part::Stage {
                        // It never took its permit; the guard is asked again.
                        host.permit_at = None;
                    }
                }
            }
            Some(outcome) if host.outcome == Some(outcome) || host.settled_for_good(outcome) => {}
            Some(outcome) => {
                host.fault = status.fault;
                host.reason = cut(status.reason);
                // Dropped before it was touched although this rollout wants it: an order of somebody else's.
                let outcome = if outcome == Outcome::Skipped { Outcome::Failed } else { outcome };
                let own_doing =
                    host.outcome == Some(Outcome::Confirmed) && host.fault != Some(Fault::Transport);
                match host.way {
                    Way::Forward if own_doing => self.left(name, outcome)?,
                    Way::Forward => self.through(name, outcome, to.version.as_ref())?,
                    Way::Back => self.back(name, outcome)?,
                }
            }
        }
        Ok(())
    }

    /// The host dropped the operation before it had done anything for it.
    fn dropped(&mut self, name: &HostName) -> Result<(), Refused> {
        let id = self.r.id.clone();
        let host = self.host(name)?;
        match host.part {
            // It takes part again since: under a new operation, as the old one is over on the host.
            Part::Stage | Part::Go => host.begin(&id, name, host.way, host.attempt + 1),
            Part::Abort => {
                (host.part, host.outcome, host.permit_at) = (Part::Released, None, None);
                host.touched = host.attempt > 1;
            }
            Part::Settled | Part::Released => {}
        }
        Ok(())
    }

    /// A host is not given the order that it would refuse: it counts as one that is absent, and vetoes nothing.
    pub(crate) fn declined(&mut self, name: &HostName, op: &OpId, why: &str) -> Result<(), Refused> {
        let host = self.host(name)?;
        if host.op == *op && host.part == Part::Stage && host.may_be_left_out() {
            host.sent = None;
            self.excuse(name, &cut(why));
        }
        Ok(())
    }

    /// A host is not heard of any more.
    pub(crate) fn silent(&mut self, name: &HostName) -> Result<(), Refused> {
        let now = self.now;
        let ended = self.r.ended();
        let host = self.host(name)?;
        if host.silent_since.is_none() && !ended {
            host.silent_since = Some(now);
            self.log("host.silent", Some(name), "not heard of any more");
        }
        Ok(())
    }

    pub(crate) fn present(&mut self, name: &HostName) -> Result<(), Refused> {
        let (forward, current) = (self.r.forward(), self.r.state);
        let upcoming = self.r.batches.iter().position(|batch| batch.contains(name));
        let host = self.host(name)?;
        host.reported = true;
        let was_silent = host.silent_since.take().is_some();
        if !host.gone {
            return Ok(());
        }
        let passed = match (current, upcoming) {
            (State::Progressing { batch, .. }, Some(own)) => own < batch,
            (_, own) => own.is_none(),
        };
        let confirmed = host.outcome == Some(Outcome::Confirmed);
        if confirmed {
            host.gone = false;
        } else if was_silent && forward && !passed && host.outcome == Some(Outcome::Skipped) {
            (host.gone, host.outcome, host.part) = (false, None, Part::Stage);
            host.reason.clear();
            self.log("host.returned", Some(name), "heard of again, and takes part again");
        }
        Ok(())
    }

    /// The host knows nothing of an operation that it knew before: it was set up anew.
    fn forgotten(&mut self, name: &HostName) -> Result<(), Refused> {
        let now = self.now;
        let host = self.host(name)?;
        host.sent = None;
        match host.part {
            Part::Stage => (host.heard_op, host.phase) = (None, Phase::Idle),
            Part::Go | Part::Abort if host.outcome.is_none() || host.outcome == Some(Outcome::Lost) => {
                (host.part, host.outcome) = (Part::Settled, Some(Outcome::Failed));
                (host.heard_op, host.fault) = (None, Some(Fault::Agent));
                let why = "the host no longer knows of the operation: its state directory was lost";
                host.judge(Fault::Agent, why, now);
                let reason = host.reason.clone();
                self.log("host.failed", Some(name), reason);
            }
            Part::Go | Part::Abort | Part::Settled | Part::Released => {}
        }
        Ok(())
    }

    /// An operation forward has ended.
    pub(crate) fn through(
        &mut self,
        name: &HostName,
        outcome: Outcome,
        version: &str,
    ) -> Result<(), Refused> {
        let (now, id, forward) = (self.now, self.r.id.clone(), self.r.forward());
        let absent = self.r.spec.targets.absent;
        let preparing = self.r.state == State::Preparing;
        let host = self.host(name)?;
        let on_the_way = if outcome == Outcome::AlreadyReverted { Fault::Transport } else { Fault::Agent };
        if outcome == Outcome::Confirmed {
            (host.part, host.outcome, host.overdue) = (Part::Settled, Some(outcome), false);
            host.fault = None;
            host.reason.clear();
            self.r.progress_since = now;
            self.log("host.confirmed", Some(name), format!("on {version}"));
            return Ok(());
        }
        let fault = *host.fault.get_or_insert(on_the_way);
        // The network's fault says nothing against the release: try again, later.
        if fault == Fault::Transport && forward && host.part != Part::Abort && outcome != Outcome::Quarantined
        {
            if host.attempt < ATTEMPTS {
                let attempt = host.attempt + 1;
                let why = host.why();
                host.begin(&id, name, Way::Forward, attempt);
                host.not_before = Some(now.after(BACKOFF * u64::from(attempt - 1)));
                self.log("host.again", Some(name), format!("{why}; trying again ({attempt} of {ATTEMPTS})"));
                return Ok(());
            }
            if preparing && absent == Absent::Skip {
                (host.part, host.outcome) = (Part::Settled, Some(Outcome::Skipped));
                let why = host.why();
                self.log("host.skipped", Some(name), why);
                return Ok(());
            }
        }
        host.outcome = Some(outcome);
        host.part = Part::Settled;
        let why = host.why();
        let kind = match outcome {
            Outcome::Quarantined => "host.quarantined",
            Outcome::Reverted | Outcome::AlreadyReverted => "host.reverted",
            _ => "host.failed",
        };
        self.log(kind, Some(name), why);
        Ok(())
    }

    /// An operation back has ended.
    pub(crate) fn back(&mut self, name: &HostName, outcome: Outcome) -> Result<(), Refused> {
        let (now, id, ended) = (self.now, self.r.id.clone(), self.r.ended());
        let host = self.host(name)?;
        match outcome {
            Outcome::Confirmed => {
                (host.part, host.outcome) = (Part::Settled, Some(Outcome::Reverted));
                host.fault = None;
                host.reason = "taken back with the rollout".into();
                let former =
                    host.former.as_ref().map(|former| former.version.to_string()).unwrap_or_default();
                self.log("host.back", Some(name), format!("back on {former}"));
            }
            Outcome::Quarantined => {
                (host.part, host.outcome) = (Part::Settled, Some(outcome));
                let why = host.why();
                self.log("host.quarantined", Some(name), why);
            }
            _ if host.fault == Some(Fault::Transport) && host.attempt < ATTEMPTS && !ended => {
                let attempt = host.attempt + 1;
                host.begin(&id, name, Way::Back, attempt);
                host.not_before = Some(now.after(BACKOFF * u64::from(attempt - 1)));
                self.log("host.again", Some(name), "going back failed on the way; trying again");
            }
            _ => {
                (host.part, host.outcome) = (Part::Settled, Some(Outcome::Failed));
                host.reason = cut(format!("could not go back: {}", host.why()));
                let why = host.reason.clone();
                self.log("host.failed", Some(name), why);
            }
        }
        Ok(())
    }

    pub(crate) fn host(&mut self, name: &HostName) -> Result<&mut Host, Refused> {
        let id = &self.r.id;
        self.r.hosts.get_mut(name).ok_or_else(|| Refused::UnknownHost { id: id.clone(), host: name.clone() })
    }
}

impl Host {
    /// Whether what is recorded stands against a newly reported outcome: a way back that is done reports `confirmed`.
    fn settled_for_good(&self, outcome: Outcome) -> bool {
        self.part == Part::Settled
            && self.way == Way::Back
            && self.outcome == Some(Outcome::Reverted)
            && outcome == Outcome::Confirmed
    }
}

/// A hook as it is kept: what a host says is cut.
fn bounded(mut run: HookRun) -> HookRun {
    run.command = cut(run.command);
    run.end = cut(run.end);
    run.output = cut(run.output);
    run
}

/// Whether a host in this phase may be out of service, or serves what is not confirmed.
pub(crate) const fn is_disruptive(phase: Phase) -> bool {
    !matches!(
        phase,
        Phase::Idle
            | Phase::Assigned
            | Phase::Staging
            | Phase::Staged
            | Phase::Confirmed
            | Phase::Reverted
            | Phase::Failed
    )
}
