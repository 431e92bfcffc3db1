//! What passes between hosts, coordinator and operator, and what cuts it off.

use windlass_proto::id::HostName;
use windlass_proto::phase::Phase;
use windlass_release::{Assign, Event as HostEvent};
use windlass_rollout::{Effect, Event};

use super::{Happens, Said, Told, World};
use crate::coordinator::Contact;
use crate::host::{DIAL_AGAIN, Due, Session};

impl World {
    pub(super) fn send(&mut self, host: &HostName, what: Happens) {
        if self.cut.contains(host) {
            return;
        }
        if self.dice.chance(self.loss) {
            // A stream delivers or breaks. The agent notices, sooner or later.
            if let Some(session) = self.hosts[host].session {
                let delay = 50 + self.dice.below(4000);
                self.at(delay, Happens::Broken(host.clone(), session.number));
            }
            return;
        }
        let delay = 1 + self.dice.below(if self.dice.0.is_multiple_of(7) { 1500 } else { 60 });
        if self.dice.chance(self.loss) {
            let later = delay + self.dice.below(3000);
            self.at(later, what.clone());
        }
        self.at(delay, what);
    }

    pub(super) fn dial(&mut self, host: &HostName) {
        let own = self.hosts.get_mut(host).unwrap();
        own.sessions += 1;
        let number = own.sessions;
        own.session = Some(Session { number, opened_at: own.boot_time(self.now), answered: self.now });
        let status = own.status();
        self.send(host, Happens::Said(host.clone(), number, Said::Hello(status)));
        self.at(3000, Happens::Heartbeat(host.clone(), number));
    }

    pub(super) fn heartbeat(&mut self, host: &HostName, number: u64) {
        let own = &self.hosts[host];
        let Some(session) = own.session.filter(|session| own.up && session.number == number) else { return };
        if self.now - session.answered > DIAL_AGAIN.0 as i64 {
            self.dial(host);
            return;
        }
        self.send(host, Happens::Said(host.clone(), number, Said::Heartbeat));
        self.at(3000, Happens::Heartbeat(host.clone(), number));
    }

    pub(super) fn report(&mut self, host: &HostName) {
        let own = &self.hosts[host];
        if let Some(session) = own.session.filter(|_| own.up) {
            let status = own.status();
            self.send(host, Happens::Said(host.clone(), session.number, Said::Status(status)));
        }
    }

    pub(super) fn said(&mut self, host: &HostName, session: u64, said: Said) {
        if !self.coordinator.up || self.cut.contains(host) {
            return;
        }
        let now = self.now;
        let contact = self.coordinator.sessions.get_mut(host).unwrap();
        let status = match said {
            Said::Hello(status) if session > contact.session => {
                *contact = Contact { session, heard: now, silent: false };
                self.send(host, Happens::Told(host.clone(), session, Told::Lease));
                self.coordinator.known.insert(host.clone(), (*status).clone());
                for at in self.coordinator.concerned(host, &status) {
                    self.give(at, Event::HostConnected { host: host.clone(), status: Some(status.clone()) });
                }
                return;
            }
            // A session that went silent is over; so is one that was replaced.
            _ if session != contact.session || contact.silent => return,
            Said::Hello(_) => return,
            Said::Heartbeat => {
                contact.heard = now;
                self.send(host, Happens::Told(host.clone(), session, Told::Lease));
                return;
            }
            Said::Status(status) => {
                contact.heard = now;
                status
            }
        };
        if self.coordinator.known.get(host).is_none_or(|known| known.seq <= status.seq) {
            self.coordinator.known.insert(host.clone(), (*status).clone());
        }
        for at in self.coordinator.concerned(host, &status) {
            self.give(at, Event::HostStatus { host: host.clone(), status: status.clone() });
        }
    }

    pub(super) fn told(&mut self, host: &HostName, number: u64, told: Told) {
        let now = self.now;
        let own = self.hosts.get_mut(host).unwrap();
        let session = own.session.as_mut().filter(|session| session.number == number);
        let Some(session) = session.filter(|_| own.up && !self.cut.contains(host)) else { return };
        session.answered = now;
        let opened_at = session.opened_at;
        let boot = own.boot_time(now);
        let event = match told {
            Told::Lease => {
                own.contact = Some(boot);
                return;
            }
            Told::Order(Effect::Assign { op, release, order, rollback, .. }, epoch) => {
                let rollout =
                    self.coordinator.rollouts.iter().find(|r| op.as_str().starts_with(&format!("{}-", r.id)));
                let rollout = rollout.unwrap().id.clone();
                HostEvent::Assign(Assign {
                    op,
                    rollout,
                    epoch,
                    to: release,
                    order,
                    rollback,
                    grant: None,
                    trace: None,
                })
            }
            Told::Order(Effect::Permit { op, ttl, .. }, epoch) => {
                HostEvent::Permit { op, epoch, expires: boot.after(ttl) }
            }
            Told::Order(Effect::Confirm { op, .. }, epoch) => {
                HostEvent::Confirm { op, epoch, session_opened_at: opened_at }
            }
            Told::Order(Effect::AbortOp { op, reason, .. }, epoch) => HostEvent::Abort { op, epoch, reason },
            Told::Order(other, _) => panic!("{other:?} is no order"),
        };
        if !self.feed(host, event) {
            // What is refused is answered by the truth.
            self.report(host);
        }
    }

    // Hosts.

    pub(super) fn feed(&mut self, host: &HostName, event: HostEvent) -> bool {
        let own = self.hosts.get_mut(host).unwrap();
        let before = own.phase();
        let shown = if self.keep_log { format!("{event:?}") } else { String::new() };
        let after = match own.feed(event, self.now, &mut self.dice) {
            Ok(after) => after,
            Err(_) => return false,
        };
        let (phase, life) = (own.phase(), own.life);
        let quiet = phase == before && shown == "Tick";
        if !quiet {
            self.note(|| format!("{host} {before} -> {phase}: {shown}"));
        }
        if before == Phase::Staged && matches!(phase, Phase::Draining | Phase::Switching) {
            self.check_budget(host);
        }
        for (delay, due) in after.due {
            self.at(delay, Happens::Host(host.clone(), life, due));
        }
        if after.died {
            self.note(|| format!("{host}: the agent dies in this step"));
            let down = 100 + self.dice.below(20_000);
            self.host_crash(host, false, down);
        } else if after.redial {
            self.dial(host);
        } else {
            self.report(host);
        }
        true
    }

    pub(super) fn host_due(&mut self, host: &HostName, life: u64, due: Due) {
        let own = self.hosts.get_mut(host).unwrap();
        if !own.up || own.life != life {
            return;
        }
        let mut after = crate::host::After::default();
        let event = own.happens(due, &mut after, &mut self.dice);
        for (delay, due) in after.due {
            self.at(delay, Happens::Host(host.clone(), life, due));
        }
        if let Some(event) = event {
            self.feed(host, event);
        }
    }

    pub(super) fn host_crash(&mut self, host: &HostName, reboot: bool, down: u64) {
        let own = self.hosts.get_mut(host).unwrap();
        if own.up {
            own.die(reboot, self.now, down, &mut self.dice);
            self.note(|| format!("{host} crashes, reboot: {reboot}, for {down} ms"));
            self.at(down, Happens::HostUp(host.clone(), !reboot));
        }
    }

    // The coordinator.

    pub(super) fn give(&mut self, at: usize, event: Event) {
        if !self.coordinator.up {
            return;
        }
        let shown = match &event {
            _ if !self.keep_log => String::new(),
            Event::HostStatus { host, status } | Event::HostConnected { host, status: Some(status) } => {
                let op = status.op.as_ref().map_or("-", |op| op.as_str());
                let connected = if matches!(event, Event::HostConnected { .. }) { " connected" } else { "" };
                format!("{host}{connected}: {op} {} {:?} {:?}", status.phase, status.outcome, status.fault)
            }
            other => format!("{other:?}"),
        };
        let was = self.coordinator.rollouts[at].state;
        let Ok(after) = self.coordinator.step(at, event, self.now) else { return };
        let rollout = &self.coordinator.rollouts[at];
        let (id, state) = (rollout.id.clone(), rollout.state.word());
        let ended = rollout.ended() && !was.ended();
        self.note(|| format!("{id} {state} <- {shown}"));
        if ended {
            self.check_rollout(at);
        }
        let epoch = self.coordinator.epoch;
        for effect in after.effects {
            let host = match &effect {
                Effect::Assign { host, .. }
                | Effect::Permit { host, .. }
                | Effect::Confirm { host, .. }
                | Effect::AbortOp { host, .. } => host.clone(),
                Effect::Event { kind, host, message } => {
                    let host = host.as_ref().map_or("", |host| host.as_str());
                    self.note(|| format!("    {kind} {host} {message}"));
                    continue;
                }
                Effect::SetTimer { .. } | Effect::Ended { .. } | Effect::Revised => continue,
            };
            if matches!(effect, Effect::Permit { .. }) {
                self.check_permit(at, &host);
            }
            let session = self.coordinator.sessions[&host].session;
            self.send(&host, Happens::Told(host.clone(), session, Told::Order(effect, epoch)));
        }
        if after.died {
            self.note(|| "the coordinator dies in this step".into());
            let down = 500 + self.dice.below(60_000);
            self.crash(down);
        }
    }

    pub(super) fn crash(&mut self, down: u64) {
        if self.coordinator.up {
            self.note(|| format!("the coordinator is down for {down} ms"));
            self.coordinator.up = false;
            self.coordinator.timers.clear();
            self.at(down, Happens::CoordinatorUp);
        }
    }

    pub(super) fn coordinator_up(&mut self) {
        self.coordinator.up = true;
        self.coordinator.epoch += 1;
        let (now, epoch) = (self.now, self.coordinator.epoch);
        for contact in self.coordinator.sessions.values_mut() {
            (contact.heard, contact.silent) = (now, false);
        }
        for at in 0..self.coordinator.rollouts.len() {
            self.give(at, Event::Recovered { epoch });
        }
        // Connections to the one before are gone.
        for host in self.hosts.keys().cloned().collect::<Vec<_>>() {
            if self.hosts[&host].up {
                self.dial(&host);
            }
        }
    }

    pub(super) fn operator(&mut self, what: u8) {
        let Some(open) = self.coordinator.open() else { return };
        let by = "ana".to_owned();
        self.give(
            open,
            match what {
                0 => Event::Pause { by, reason: "lunch".into() },
                1 => Event::Resume { by },
                _ => Event::Abort { by, reason: String::new() },
            },
        );
    }

    // What must hold.
}
