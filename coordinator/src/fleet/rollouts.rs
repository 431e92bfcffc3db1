//! Rollouts: events go into the machine, its new state to disk, its effects to hosts, log and timers.

use tokio::sync::watch;
use windlass_proto::id::{AppName, Environment, HostName, OpId, RolloutId};
use windlass_proto::phase::{AppStatus, Fault};
use windlass_proto::refused::OrderRefused;
use windlass_proto::rpc::{self, ErrorKind, coordinator_message::Kind as Message};
use windlass_proto::time::Timestamp;
use windlass_proto::trace::TraceParent;
use windlass_rollout::state::Host;
use windlass_rollout::{Effect, Event, Kind, Plan, Refused, Rollout, Start};

use super::hosts::cut;
use super::log::event;
use super::persist::{self, RolloutHead};
use super::traced;
use super::{ENDED_ROLLOUTS, Fleet, OrderText, Refusal, RolloutEntry};

/// Operators' reasons are kept and shown; longer ones are cut.
const REASON: usize = 1000;

/// Whether a host's row would say nothing new. What only moves while a host works is said again when it greets.
fn says_the_same(before: &Host, now: &Host) -> bool {
    let still = |host: &Host| Host { seq: 0, detail: String::new(), ..host.clone() };
    before == now || still(before) == still(now)
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::wrong_state(refused.to_string())
    }
}

impl Fleet {
    /// A rollout by id.
    pub fn rollout(&self, id: &str) -> Result<&Rollout, Refusal> {
        let entry = RolloutId::new(id).ok().and_then(|id| self.rollouts.get(&id));
        entry
            .map(|entry| &entry.rollout)
            .ok_or_else(|| Refusal::unknown("rollout", id, self.rollouts.keys().map(RolloutId::as_str)))
    }

    /// Rollouts, newest first.
    pub fn rollouts(
        &self,
        app: Option<&AppName>,
        environment: Option<&Environment>,
        open_only: bool,
        limit: usize,
    ) -> Vec<&Rollout> {
        let mut rollouts: Vec<_> = self
            .rollouts
            .values()
            .map(|entry| &entry.rollout)
            .filter(|r| app.is_none_or(|app| r.app == *app) && !(open_only && r.ended()))
            .filter(|r| environment.is_none_or(|environment| r.environment == *environment))
            .collect();
        rollouts.sort_by_key(|r| std::cmp::Reverse((r.started_at, r.revision)));
        rollouts.truncate(limit);
        rollouts
    }

    /// Open rollouts with this host.
    pub(super) fn open_with(&self, host: &HostName) -> Vec<RolloutId> {
        let open = self.rollouts.values().map(|entry| &entry.rollout).filter(|r| !r.ended());
        open.filter(|r| r.hosts.contains_key(host)).map(|r| r.id.clone()).collect()
    }

    /// Open rollouts with this host, the ended one whose operation the host still reports, which tells it to drop it, and
    /// those that found the host on their target already, where it has left that since.
    pub(super) fn concerned<'a>(
        &self,
        host: &HostName,
        statuses: impl IntoIterator<Item = &'a AppStatus>,
    ) -> Vec<RolloutId> {
        let mut concerned = self.open_with(host);
        for status in statuses {
            let own = status.rollout.as_ref().and_then(|id| self.rollouts.get(id));
            let own = own.map(|entry| &entry.rollout).filter(|rollout| rollout.hosts.contains_key(host));
            let all = self.rollouts.values().map(|entry| &entry.rollout);
            let found = all.filter(|rollout| rollout.was_left_by(host, status));
            for rollout in own.into_iter().chain(found) {
                if !concerned.contains(&rollout.id) {
                    concerned.push(rollout.id.clone());
                }
            }
        }
        concerned
    }

    /// Plans, records and starts. The same idempotency key gives the same rollout. `id` is what a new one is called, `trace` under
    /// what its span lies.
    pub fn start(
        &mut self,
        who: &str,
        text: &OrderText,
        reason: &str,
        idempotency_key: &str,
        id: RolloutId,
        trace: Option<TraceParent>,
    ) -> Result<&Rollout, Refusal> {
        if let Some(known) = self.started_before(idempotency_key)? {
            return self.rollout(known.as_str());
        }
        let plan = self.plan(text)?;
        self.begin(who, plan, reason, idempotency_key, id, trace)
    }

    fn started_before(&self, key: &str) -> Result<Option<RolloutId>, Refusal> {
        if key.len() > 100 {
            return Err(Refusal::invalid("the idempotency key is longer than 100 bytes"));
        }
        let same = |entry: &&RolloutEntry| !key.is_empty() && entry.idempotency_key == key;
        Ok(self.rollouts.values().find(same).map(|entry| entry.rollout.id.clone()))
    }

    fn begin(
        &mut self,
        who: &str,
        plan: Plan,
        reason: &str,
        idempotency_key: &str,
        id: RolloutId,
        trace: Option<TraceParent>,
    ) -> Result<&Rollout, Refusal> {
        if let Some(check) = plan.refusal() {
            let kind = match check.id {
                "busy" => ErrorKind::Busy,
                "poisoned" => ErrorKind::Poisoned,
                "revision" => ErrorKind::StateMoved,
                "grant" => ErrorKind::GrantNeeded,
                "environment" => ErrorKind::HostsElsewhere,
                _ => ErrorKind::PlanRefused,
            };
            return Err(Refusal::new(kind, check.message.clone()));
        }
        let reason = cut(reason.to_owned(), REASON);
        let start = Start { id: id.clone(), by: who.to_owned(), reason, epoch: self.fence().epoch, trace };
        let rollout = Rollout::new(&plan, start, self.now);
        self.room_for(&rollout.app, &rollout.environment)?;
        let mut environment = self.environment(&rollout.app, &rollout.environment);
        environment.revision = rollout.revision;
        self.keep_environment(&rollout.app, &rollout.environment, environment);
        let mut app = self.app(&rollout.app);
        if app.failures.begin(&rollout.to.digest) {
            self.keep_app(&rollout.app, app);
        }
        self.take_hosts(who, &plan, &id);
        let entry = RolloutEntry { rollout, idempotency_key: idempotency_key.to_owned() };
        self.rollouts.insert(id.clone(), entry);
        self.keep_rollout(&id, None);
        self.acting = Some(who.to_owned());
        self.advance(&id, Event::Start);
        self.acting = None;
        self.forget_rollouts();
        self.rollout(id.as_str())
    }

    /// A new rollout for the hosts that an ended one left behind.
    pub fn retry(
        &mut self,
        who: &str,
        id: &str,
        reason: &str,
        new: RolloutId,
        trace: Option<TraceParent>,
    ) -> Result<&Rollout, Refusal> {
        let old = self.rollout(id)?;
        let only = old.left_behind()?;
        let (app, environment) = (old.app.clone(), old.environment.clone());
        let (to, spec) = (self.target(&old.to)?, old.spec.clone());
        let mut order = self.order_of(app, environment, Kind::Retry, to, spec, Some(only));
        order.rollback |= self.rollout(id)?.rollback;
        let plan = self.plan_order(order);
        let reason = if reason.is_empty() { format!("retry of {id}") } else { reason.to_owned() };
        self.begin(who, plan, &reason, "", new, trace)
    }

    /// An operator's event for a rollout.
    pub fn command(&mut self, who: &str, id: &str, event: Event) -> Result<&Rollout, Refusal> {
        let id = self.rollout(id)?.id.clone();
        self.acting = Some(who.to_owned());
        let applied = self.apply(&id, event);
        self.acting = None;
        applied?;
        self.rollout(id.as_str())
    }

    /// Something happened to a rollout; what it refuses does not concern it.
    pub(super) fn advance(&mut self, id: &RolloutId, event: Event) {
        if let Err(refused) = self.apply(id, event) {
            tracing::debug!(rollout = %id, %refused, "event does not apply");
        }
    }

    fn apply(&mut self, id: &RolloutId, event: Event) -> Result<(), Refused> {
        let Some(entry) = self.rollouts.get_mut(id) else { return Ok(()) };
        let step = windlass_rollout::step(&entry.rollout, event, self.now)?;
        if step.state != entry.rollout {
            let before = std::mem::replace(&mut entry.rollout, step.state);
            self.keep_rollout(id, Some(before));
        }
        let declined: Vec<Event> =
            step.effects.into_iter().filter_map(|effect| self.perform(id, effect)).collect();
        declined.into_iter().try_for_each(|event| self.apply(id, event))
    }

    /// Writes the rows that differ from before: a status of one host changes that host's, and rarely the rollout's own, which
    /// names all hosts.
    fn keep_rollout(&mut self, id: &RolloutId, before: Option<Rollout>) {
        let Some(entry) = self.rollouts.get_mut(id) else { return };
        let hosts = std::mem::take(&mut entry.rollout.hosts);
        let before = before.map(|mut before| (std::mem::take(&mut before.hosts), before));
        // Hosts of a rollout are fixed, so before and after are walked side by side: no search for each.
        let mut former = before.as_ref().map(|(hosts, _)| hosts.values());
        for (name, host) in &hosts {
            let before = former.as_mut().and_then(Iterator::next);
            if let Some(before) = before {
                self.counted.host(before, host);
            }
            if before.is_none_or(|before| !says_the_same(before, host)) {
                self.changes.put(persist::rollout_host_key(id, name), host);
            }
        }
        let is_same = before
            .is_some_and(|(_, before)| Rollout { version: entry.rollout.version, ..before } == entry.rollout);
        entry.rollout.hosts = hosts;
        if !is_same {
            self.keep_head(id);
        }
        self.changes.rollouts.insert(id.clone());
    }

    /// Writes a rollout without its hosts, which are many and have rows of their own.
    pub(super) fn keep_head(&mut self, id: &RolloutId) {
        let Some(entry) = self.rollouts.get_mut(id) else { return };
        let hosts = std::mem::take(&mut entry.rollout.hosts);
        let (rollout, idempotency_key) = (entry.rollout.clone(), entry.idempotency_key.clone());
        entry.rollout.hosts = hosts;
        self.changes.put(persist::rollout_key(id), &RolloutHead { rollout, idempotency_key });
    }

    /// Does it; what the rollout has to hear of that comes back.
    fn perform(&mut self, id: &RolloutId, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Assign { host, op, release, order, rollback } => {
                let grant = match self.grant_of(id, &host, &op, &release, rollback) {
                    Ok(grant) => grant,
                    Err(declined) => return Some(*declined),
                };
                let order_json = match serde_json::to_string(&order) {
                    Ok(json) => json,
                    Err(error) => {
                        let reason = format!("the coordinator cannot write the order down: {error}");
                        let (op, app) = (Some(op), Some(release.app));
                        let refused = OrderRefused { op, app, fault: Fault::Agent, reason, not_yet: false };
                        return Some(Event::HostRefused { host, refused: Box::new(refused) });
                    }
                };
                let needs = self.bundle(&release.digest).map(|bundle| bundle.spec.needs().word().to_owned());
                let trace = self.rollouts.get(id).and_then(|entry| traced::id(&entry.rollout));
                let mark = self.lead_on(true);
                self.tell(&host, op, |op_id, epoch| {
                    Message::Assign(rpc::Assign {
                        op_id,
                        rollout_id: id.to_string(),
                        epoch,
                        release: Some(release.into()),
                        order_json,
                        rollback,
                        mark,
                        grant,
                        needs: needs.into_iter().collect(),
                        traceparent: trace.map(|trace| trace.to_string()).unwrap_or_default(),
                    })
                });
            }
            Effect::Permit { host, op, ttl } => self
                .tell(&host, op, |op_id, epoch| Message::Permit(rpc::Permit { op_id, epoch, ttl_ms: ttl.0 })),
            Effect::Confirm { host, op } => {
                self.tell(&host, op, |op_id, epoch| Message::Confirm(rpc::Confirm { op_id, epoch }));
            }
            Effect::AbortOp { host, op, reason } => {
                self.tell(&host, op, |op_id, epoch| Message::Abort(rpc::AbortOp { op_id, epoch, reason }))
            }
            Effect::Event { kind, host, message } => {
                let who = self.acting.clone().unwrap_or_else(|| "coordinator".to_owned());
                let mut record = event(kind, &who, cut(message, REASON));
                record.app = self.rollouts.get(id).map(|e| e.rollout.app.to_string()).unwrap_or_default();
                record.rollout = id.to_string();
                record.host = host.map(|host| host.to_string()).unwrap_or_default();
                self.log(record);
            }
            Effect::SetTimer { at } => {
                self.timers.insert(id.clone(), at);
            }
            Effect::Ended { state } => {
                tracing::info!(rollout = %id, state = state.word(), "rollout ended");
                self.timers.remove(id);
                if let Some(entry) = self.rollouts.get(id) {
                    self.counted.rollout(entry.rollout.kind, state);
                    traced::span(&entry.rollout).into_iter().for_each(|span| self.spans.tell(span));
                }
                self.conclude(id, false);
            }
            Effect::Revised => self.conclude(id, true),
        }
        None
    }

    fn tell(&mut self, host: &HostName, op: OpId, message: impl FnOnce(String, u64) -> Message) {
        let Some(id) = self.names.get(host).cloned() else { return };
        self.lead_on(false);
        self.changes.sends.push((id, message(op.to_string(), self.fence().epoch)));
    }

    /// Sends `Tick` to the rollouts whose time has come.
    pub(super) fn fire_timers(&mut self) {
        let now = self.now;
        let due: Vec<_> =
            self.timers.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.timers.remove(&id);
            self.advance(&id, Event::Tick);
        }
    }

    /// After a start of the coordinator: every open rollout learns of it.
    pub fn recover(&mut self) {
        let open: Vec<_> =
            self.rollouts.values().filter(|e| !e.rollout.ended()).map(|e| e.rollout.id.clone()).collect();
        for id in open {
            tracing::info!(rollout = %id, "rollout goes on");
            let epoch = self.fence().epoch;
            self.advance(&id, Event::Recovered { epoch });
        }
    }

    /// The rollout now and after each change.
    pub fn watch_rollout(&mut self, id: &str) -> Result<watch::Receiver<rpc::Rollout>, Refusal> {
        let rollout = self.rollout(id)?;
        let (id, shown) = (rollout.id.clone(), crate::rpc::show::rollout(rollout));
        if rollout.ended() {
            return Ok(watch::channel(shown).1);
        }
        let watcher = self.watchers.entry(id).or_insert_with(|| watch::channel(shown.clone()).0);
        watcher.send_if_modified(|seen| std::mem::replace(seen, shown.clone()) != shown);
        Ok(watcher.subscribe())
    }

    /// Drops the oldest ended rollouts beyond the bound.
    pub(super) fn forget_rollouts(&mut self) {
        // The newest rollout of an environment says how to go back and with which order, however long ago it was.
        let mut newest = std::collections::BTreeMap::new();
        for rollout in self.rollouts.values().map(|entry| &entry.rollout) {
            let at = newest.entry((&rollout.app, &rollout.environment)).or_insert(rollout.revision);
            *at = rollout.revision.max(*at);
        }
        let mut ended: Vec<(Timestamp, RolloutId)> = self
            .rollouts
            .values()
            .filter(|entry| {
                let Rollout { app, environment, revision, .. } = &entry.rollout;
                entry.rollout.ended() && newest[&(app, environment)] != *revision
            })
            .map(|entry| (entry.rollout.started_at, entry.rollout.id.clone()))
            .collect();
        if ended.len() <= ENDED_ROLLOUTS {
            return;
        }
        ended.sort();
        let excess = ended.len() - ENDED_ROLLOUTS;
        for (_, id) in ended.into_iter().take(excess.min(2)) {
            let Some(entry) = self.rollouts.remove(&id) else { continue };
            for name in entry.rollout.hosts.keys() {
                self.changes.delete(persist::rollout_host_key(&id, name));
            }
            self.changes.delete(persist::rollout_key(&id));
        }
    }
}
