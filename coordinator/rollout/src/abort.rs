//! The way back: untouched hosts are let go, hosts in flight go back by themselves, confirmed hosts are taken back under
//! the guard.

use windlass_proto::id::HostName;
use windlass_proto::phase::{Outcome, Phase};

use crate::check::names;
use crate::guard::Blocked;
use crate::state::{Host, Part, State, Way};
use crate::turn::{Turn, cut};

impl Turn {
    /// Begins to go back, or ends at once when nothing was touched.
    pub(crate) fn abort(&mut self, why: String) {
        self.r.failure = cut(why);
        self.r.conditions.clear();
        self.r.paused.clear();
        self.r.recovery_until = None;
        self.r.back_until = Some(self.now.after(self.r.spec.failure.rollback.deadline));
        self.r.state = State::Aborting;
        let message = self.r.failure.clone();
        self.log("rollout.aborting", None, message);
        let id = self.r.id.clone();
        for (name, host) in &mut self.r.hosts {
            if host.unchanged {
                continue;
            }
            match (host.part, host.outcome) {
                (Part::Stage, _) => (host.part, host.sent) = (Part::Released, None),
                (Part::Go, _) => {
                    (host.part, host.sent) = (Part::Abort, None);
                    host.aborted = !host.overdue;
                }
                (Part::Settled, Some(Outcome::Confirmed)) if host.former.is_some() => {
                    host.begin(&id, name, Way::Back, 1);
                }
                (Part::Settled, Some(Outcome::Lost)) => host.drop_lost(),
                _ => {}
            }
        }
    }

    /// Takes hosts back as far as the guard lets, and ends when all are through.
    pub(crate) fn go_back(&mut self) {
        let id = self.r.id.clone();
        for (name, host) in &mut self.r.hosts {
            // The confirm was faster than the abort.
            let won = host.way == Way::Forward && host.part == Part::Settled && !host.unchanged;
            if won && host.outcome == Some(Outcome::Confirmed) && host.former.is_some() {
                host.begin(&id, name, Way::Back, 1);
            }
        }
        let ready = |host: &Host| {
            let staged = host.phase == Phase::Staged && host.heard_op.as_ref() == Some(&host.op);
            host.way == Way::Back && host.part == Part::Stage && staged
        };
        let mut waiting: Vec<(bool, HostName)> = self
            .r
            .hosts
            .iter()
            .filter(|(_, host)| ready(host))
            .map(|(name, host)| (host.is_on(&self.r.to), name.clone()))
            .collect();
        // Those that fail on the bad release first: `false` sorts before `true`.
        waiting.sort();
        for (_, name) in waiting {
            match self.r.guard(&name) {
                Ok(()) => self.permit(&name),
                // Used up for all that follow: those that cost nothing came first.
                Err(Blocked::BackParallel | Blocked::Budget) => break,
                Err(_) => {}
            }
        }
        let open: Vec<HostName> = self
            .r
            .hosts
            .iter()
            .filter(|(_, host)| self.on_the_way(host))
            .map(|(name, _)| name.clone())
            .collect();
        let late = self.r.back_until.is_some_and(|until| self.now >= until);
        if open.is_empty() || late {
            self.settle(&open);
        }
    }

    /// Whether a host must still be waited for.
    fn on_the_way(&self, host: &Host) -> bool {
        match (host.way, host.part) {
            (_, Part::Go) => true,
            (_, Part::Abort) => host.outcome.is_none() || host.outcome == Some(Outcome::Lost),
            (Way::Back, Part::Stage) => true,
            // Back by its own word; still to be seen running what it had.
            (Way::Back, Part::Settled) => {
                host.outcome == Some(Outcome::Reverted)
                    && host.former.as_ref().is_some_and(|former| !host.is_on(former))
            }
            _ => false,
        }
    }

    fn settle(&mut self, open: &[HostName]) {
        let deadline = self.r.spec.failure.rollback.deadline;
        for name in open {
            if let Some(host) = self.r.hosts.get_mut(name)
                && (host.outcome.is_none() || host.outcome == Some(Outcome::Lost))
            {
                host.outcome = Some(Outcome::Lost);
                if host.reason.is_empty() {
                    host.reason = format!("not back within {deadline} (failure.rollback.deadline)");
                }
            }
        }
        let bad = |host: &Host| {
            let back = host.way == Way::Back;
            match host.outcome {
                Some(Outcome::Quarantined) => host.touched,
                Some(Outcome::Lost) => back || host.permit_at.is_some(),
                Some(Outcome::Failed) => back,
                _ => false,
            }
        };
        let list = |keep: &dyn Fn(&Host) -> bool| -> Vec<HostName> {
            let chosen = self.r.hosts.iter().filter(|(_, host)| keep(host) && !host.unchanged);
            chosen.map(|(name, _)| name.clone()).collect()
        };
        let stuck: Vec<HostName> = list(&|host| bad(host) || host.in_flight());
        let stuck = if stuck.is_empty() { open.to_vec() } else { stuck };
        let staying = list(&|host| host.way == Way::Forward && host.outcome == Some(Outcome::Confirmed));
        let reverted = |host: &Host| {
            host.touched && matches!(host.outcome, Some(Outcome::Reverted | Outcome::AlreadyReverted))
        };
        let back = list(&|host| reverted(host) && host.former.is_some());
        let emptied = list(&|host| reverted(host) && host.former.is_none());
        let from = self.r.from.as_ref().map_or_else(String::new, |from| format!(" to {}", from.version));
        let (state, end) = if !stuck.is_empty() {
            let end = format!("{} did not come back{from} and need a person", names(&stuck));
            (State::RollbackFailed, end)
        } else if !staying.is_empty() {
            let end = format!("{} stay on {}: nothing to go back to", names(&staying), self.r.to.version);
            (State::Failed, end)
        } else if !back.is_empty() {
            (State::RolledBack, format!("{} went back{from}", names(&back)))
        } else if !emptied.is_empty() {
            (State::Failed, format!("{}: nothing runs; there was no former release", names(&emptied)))
        } else if self.r.aborted_by.is_some() {
            (State::Cancelled, "nothing was changed".into())
        } else {
            (State::Failed, "nothing was changed".into())
        };
        self.r.failure = cut(format!("{}; {end}", self.r.failure));
        self.end(state, end);
    }
}
