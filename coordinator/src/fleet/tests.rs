//! The fleet without sockets: what is on disk is always what is in memory, and history leads where it should.

mod environments;
mod golden;
mod room;
mod rows;
mod why;

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use windlass_proto::digest::Digest;
use windlass_proto::id::{HostId, RolloutId};
use windlass_proto::phase::{AppStatus, Attestation, Fault, Outcome, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::rpc::ErrorKind;
use windlass_proto::time::{Span, Timestamp};
use windlass_rollout::{Event, Rollout, State};

use super::record::BundleRecord;
use super::{Enrolment, EventFilter, Fleet, Greeting, HostState, OrderText, Removal, SILENT_AFTER};
use crate::store::{MAX_OPS, Member, MemoryStore, Rise, StateStore, Txn};

const SPEC: &str = r#"{"targets":{"selector":"role=app"},
    "strategy":{"max_parallel":1,"max_unavailable":"50%","min_healthy_time":"0s","healthy_deadline":"60s"}}"#;

struct World {
    fleet: Fleet,
    store: MemoryStore,
    fence: crate::store::Fence,
    orders: Vec<mpsc::Receiver<windlass_proto::rpc::CoordinatorMessage>>,
    hosts: Vec<HostId>,
    seq: u64,
}

impl World {
    async fn new(hosts: usize) -> Self {
        let store = MemoryStore::default();
        let member = Member { id: "a".into(), address: "here".into() };
        let fence = store.campaign(&member, Rise::ONE).await.unwrap().fence;
        let fleet = Fleet::new("test".into(), fence, Timestamp(1_000_000));
        let mut world = Self { fleet, store, fence, orders: vec![], hosts: vec![], seq: 0 };
        for n in 0..hosts {
            let id = HostId::new(format!("id-{n}")).unwrap();
            world.enrol(n, "role").unwrap();
            world.hosts.push(id.clone());
            world.connect(&id);
        }
        world.settle().await;
        world
    }

    fn enrol(&mut self, n: usize, label: &str) -> Result<HostId, super::Refusal> {
        let secret = Digest::of(format!("secret {n}").as_bytes());
        let token = (format!("t{n}"), secret);
        let labels = BTreeMap::from([("role".to_owned(), "app".to_owned())]);
        if !self.fleet.tokens.contains_key(&token.0) {
            self.fleet.create_token("operator/ana", token.clone(), labels, None, None)?;
        }
        let enrolment = Enrolment {
            name: format!("host-{n}").parse().unwrap(),
            key: Digest::of(format!("key {n}").as_bytes()),
            address: "127.0.0.1".into(),
            labels: BTreeMap::from([(label.to_owned(), "app".to_owned())]),
            token: Some(token),
        };
        Ok(self.fleet.enrol(enrolment, HostId::new(format!("id-{n}")).unwrap())?.id)
    }

    fn connect(&mut self, id: &HostId) {
        let apps = self.fleet.hosts.get(id).map(|host| host.statuses.values().cloned().collect());
        let (sender, orders) = mpsc::channel(64);
        let greeting = Greeting {
            agent_version: "1".into(),
            address: "127.0.0.1".into(),
            facts: None,
            features: None,
            apps: apps.unwrap_or_default(),
            authors: None,
        };
        self.fleet.connect(id, 1, sender, greeting).unwrap();
        self.orders.push(orders);
    }

    /// Commits, and checks that what is on disk is what is in memory.
    async fn settle(&mut self) {
        let (writes, outbox) = self.fleet.take_changes();
        for part in writes.chunks(MAX_OPS) {
            let txn = Txn { conditions: vec![], writes: part.to_vec() };
            self.store.commit(&self.fence, txn).await.unwrap();
        }
        self.fleet.dispatch(outbox);
        for orders in &mut self.orders {
            while orders.try_recv().is_ok() {}
        }
        let mut read = Fleet::new("test".into(), self.fence, self.fleet.now);
        read.load(&self.store).await.unwrap();
        let (a, b) = (&self.fleet, &read);
        assert_eq!((&a.tokens, &a.bundles, &a.apps, &a.names), (&b.tokens, &b.bundles, &b.apps, &b.names));
        assert_eq!(a.environments, b.environments);
        assert_eq!(a.grants, b.grants);
        assert_eq!((&a.events, a.next_event), (&b.events, b.next_event));
        assert_eq!(a.audit, b.audit);
        assert_eq!(a.leads.lineage, b.leads.lineage);
        for (id, host) in &a.hosts {
            assert_eq!(host.record, b.hosts[id].record);
            // What only moves while a host works is not written.
            let still = |statuses: &BTreeMap<_, AppStatus>| {
                let still =
                    |s: &AppStatus| AppStatus { seq: 0, since: Timestamp(0), held: vec![], ..s.clone() };
                statuses.values().map(still).collect::<Vec<_>>()
            };
            assert_eq!(still(&host.statuses), still(&b.hosts[id].statuses));
        }
        assert_eq!(a.rollouts.len(), b.rollouts.len());
        for (id, entry) in &a.rollouts {
            // What only moves while hosts work is not written here either.
            let still = |rollout: &Rollout| {
                let mut rollout = Rollout { version: 0, ..rollout.clone() };
                rollout.hosts.values_mut().for_each(|host| (host.seq, host.detail) = (0, String::new()));
                rollout
            };
            assert_eq!(still(&entry.rollout), still(&b.rollouts[id].rollout));
            assert!(b.rollouts[id].rollout.version > entry.rollout.version);
        }
    }

    fn push(&mut self, version: &str) -> ReleaseRef {
        let release = ReleaseRef {
            app: "shop".parse().unwrap(),
            version: version.parse().unwrap(),
            digest: Digest::of(version.as_bytes()),
            counter: 1,
        };
        let spec = r#"{"runtime":{"kind":"static"},"drain":{"timeout":"1s"}}"#;
        let record = BundleRecord {
            release: release.clone(),
            spec: serde_json::from_str(spec).unwrap(),
            files: 1,
            bytes: 1,
            chunks: 1,
            stored_bytes: 1,
            key_ids: vec!["k".into()],
            pushed_at: self.fleet.now,
            pushed_by: "operator/ana".into(),
        };
        self.fleet.add_bundle(record).unwrap();
        release
    }

    fn order(version: &str, rollback: bool) -> OrderText {
        let spec_json = if rollback { String::new() } else { SPEC.into() };
        OrderText { app: "shop".into(), target: version.into(), spec_json, rollback, ..OrderText::default() }
    }

    /// Starts a rollout and plays all hosts until it has ended; they fail where `broken`.
    async fn roll(&mut self, order: &OrderText, id: &str, broken: bool) -> State {
        let id = RolloutId::new(id).unwrap();
        self.fleet.start("operator/ana", order, "", "", id.clone(), None).unwrap();
        for _ in 0..200 {
            self.settle().await;
            let rollout = &self.fleet.rollouts[&id].rollout;
            if rollout.ended() {
                return rollout.state;
            }
            let (to, parts) = (rollout.to.clone(), rollout.hosts.clone());
            for host in self.hosts.clone() {
                let name = self.fleet.hosts[&host].record.name.clone();
                let Some(part) = parts.get(&name) else { continue };
                let go = part.permit_at.is_some() && part.part == windlass_rollout::state::Part::Go;
                let phase = match (part.phase, go) {
                    _ if part.outcome.is_some() => continue,
                    (Phase::Trial, _) => Phase::Confirmed,
                    (_, true) if broken => Phase::Reverted,
                    (_, true) => Phase::Trial,
                    _ => Phase::Staged,
                };
                let status = self.status(&host, &id, part.op.clone(), &to, phase);
                self.fleet.now = self.fleet.now.after(Span(100));
                assert!(self.fleet.report(&host, 1, status).unwrap());
            }
            self.fleet.now = self.fleet.now.after(Span::secs(1));
            for host in self.hosts.clone() {
                assert!(self.fleet.heartbeat(&host, 1, None));
            }
            self.fleet.tick();
        }
        panic!("rollout {id} does not end: {:?}", self.fleet.rollouts[&id].rollout);
    }

    fn status(
        &mut self,
        host: &HostId,
        rollout: &RolloutId,
        op: windlass_proto::id::OpId,
        to: &ReleaseRef,
        phase: Phase,
    ) -> AppStatus {
        self.seq += 1;
        let former = self.fleet.hosts[host].statuses.get(&to.app).and_then(|status| status.confirmed.clone());
        let runs =
            if matches!(phase, Phase::Trial | Phase::Confirmed) { Some(to.clone()) } else { former.clone() };
        AppStatus {
            app: to.app.clone(),
            seq: self.seq,
            op: Some(op),
            rollout: Some(rollout.clone()),
            epoch: 1,
            phase,
            outcome: match phase {
                Phase::Confirmed => Some(Outcome::Confirmed),
                Phase::Reverted => Some(Outcome::Reverted),
                _ => None,
            },
            fault: (phase == Phase::Reverted).then_some(Fault::App),
            reason: if phase == Phase::Reverted { "readiness failed".into() } else { String::new() },
            attested: Attestation {
                ok: true,
                digest: runs.as_ref().map(|r| r.digest),
                ..Attestation::default()
            },
            current: runs,
            confirmed: if phase == Phase::Confirmed { Some(to.clone()) } else { former },
            target: Some(to.clone()),
            drained: None,
            phase_times: BTreeMap::new(),
            since: self.fleet.now,
            evidence: vec![],
            held: vec![to.digest],
            detail: String::new(),
            hooks: Vec::new(),
            past: None,
        }
    }
}

#[tokio::test]
async fn history_leads_back_release_by_release() {
    let mut world = World::new(3).await;
    for version in ["1", "2", "3", "4"] {
        world.push(version);
    }
    let none = world.fleet.plan(&World::order("", true)).unwrap_err();
    assert!(none.message.contains("no good release yet"), "{none}");
    for version in ["1", "2", "3"] {
        assert_eq!(
            world.roll(&World::order(version, false), &format!("r-{version}"), false).await,
            State::Succeeded
        );
    }
    let never = world.fleet.plan(&World::order("4", true)).unwrap_err();
    assert!(never.message.contains("has never succeeded"), "{never}");
    let failed = world.roll(&World::order("4", false), "r-4", true).await;
    assert!(matches!(failed, State::RolledBack | State::Failed), "{failed:?}");
    let to = |plan: windlass_rollout::Plan| plan.order.to.version.to_string();
    assert_eq!(to(world.fleet.plan(&World::order("1", true)).unwrap()), "1");
    // After a failure it is to be named, and after having gone back, until the next success.
    for (id, version, ways) in [("r-5", "2", ["3", "2"]), ("r-6", "1", ["2", "1"])] {
        let asks = world.fleet.plan(&World::order("", true)).unwrap_err();
        for way in ways {
            assert!(asks.message.contains(&format!("windlass rollback shop --to {way}")), "{asks}");
        }
        assert_eq!(world.roll(&World::order(version, true), id, false).await, State::Succeeded);
    }
    let why = world.fleet.why("r-4", "").unwrap();
    assert_eq!((why.fault, why.cause.as_str()), (Some(Fault::App), "readiness failed"));
    assert!(world.fleet.why("r-1", "").is_err());
    // Of a host that is well again it is history.
    let host = why.host.unwrap().to_string();
    let why = world.fleet.why(&host, "").unwrap();
    assert_eq!(why.rollout.unwrap().as_str(), "r-4");
    assert!(why.cause.starts_with("readiness failed; since then shop 1 ("), "{}", why.cause);
    assert!(why.cause.ends_with(" was confirmed there"), "{}", why.cause);
}

#[tokio::test]
async fn silence_is_noticed_once_and_ends_with_a_heartbeat() {
    let mut world = World::new(2).await;
    let before = world.fleet.newest_event();
    world.fleet.now = world.fleet.now.after(SILENT_AFTER).after(Span(1));
    assert!(world.fleet.next_deadline().unwrap() <= world.fleet.now);
    world.fleet.tick();
    world.fleet.tick();
    world.settle().await;
    let log = world.fleet.events(before, &EventFilter::default(), 100, false);
    let kinds: Vec<_> = log.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["host.silent", "host.silent"]);
    assert_eq!(world.fleet.host("host-0").unwrap().state(world.fleet.now, None), HostState::Silent);
    let host = world.hosts[0].clone();
    assert!(!world.fleet.heartbeat(&host, 1, None), "the old session is gone");
    world.connect(&host);
    world.settle().await;
    assert_eq!(world.fleet.host("host-0").unwrap().state(world.fleet.now, None), HostState::Ready);
}

#[tokio::test]
async fn a_host_cannot_say_another_label_than_its_token() {
    let mut world = World::new(1).await;
    let labels = BTreeMap::from([("role".to_owned(), "db".to_owned())]);
    let token = ("other".to_owned(), Digest::of(b"x"));
    world.fleet.create_token("operator/ana", token.clone(), labels, None, None).unwrap();
    let enrolment = Enrolment {
        name: "host-9".parse().unwrap(),
        key: Digest::of(b"k"),
        address: "127.0.0.1".into(),
        labels: BTreeMap::from([("role".to_owned(), "app".to_owned())]),
        token: Some(token),
    };
    let refusal = world.fleet.enrol(enrolment, HostId::new("id-9").unwrap()).unwrap_err();
    assert_eq!(refusal.kind, ErrorKind::NotAllowed, "{refusal}");
    assert_eq!(world.fleet.tokens()[0].used, None, "a refused enrolment does not use the token up");
    world.settle().await;
}

#[tokio::test]
async fn a_removed_host_does_not_come_back_by_its_old_token_or_key() {
    let mut world = World::new(1).await;
    assert_eq!(world.enrol(0, "role").unwrap(), world.hosts[0], "the answer was lost");
    world.fleet.disconnect(&world.hosts[0].clone(), 1);
    world.fleet.remove_host("operator/ana", "host-0", Removal::Gone).unwrap();
    world.settle().await;
    assert_eq!(world.enrol(0, "role").unwrap_err().kind, ErrorKind::NotSignedIn);
    world.settle().await;
}

#[tokio::test]
async fn events_and_rollouts_are_bounded() {
    let mut world = World::new(1).await;
    for n in 0..super::EVENTS + 50 {
        world.fleet.cordon("operator/ana", "host-0", n.is_multiple_of(2).then(String::new)).unwrap();
        if n.is_multiple_of(1000) {
            world.settle().await;
        }
    }
    world.settle().await;
    assert_eq!(world.fleet.events.len(), super::EVENTS);
    let command = world.fleet.command("operator/ana", "r-none", Event::Resume { by: "operator/ana".into() });
    assert_eq!(command.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_hosts_word_alone_opens_no_bundle() {
    let mut world = World::new(2).await;
    let own = world.push("1");
    let secret = ReleaseRef {
        app: "ledger".parse().unwrap(),
        digest: Digest::of(b"ledger"),
        ..world.fleet.bundles[&own.digest].release.clone()
    };
    let record = BundleRecord { release: secret.clone(), ..world.fleet.bundles[&own.digest].clone() };
    world.fleet.add_bundle(record).unwrap();
    world.roll(&World::order("1", false), "r-1", false).await;
    let host = world.hosts[0].clone();
    world.fleet.may_fetch(&host, &own.digest).unwrap();
    let op = "op".parse().unwrap();
    let status = world.status(&host, &"r-1".parse().unwrap(), op, &secret, Phase::Confirmed);
    assert!(world.fleet.report(&host, 1, status).unwrap());
    assert_eq!(world.fleet.may_fetch(&host, &secret.digest).unwrap_err().kind, ErrorKind::NotAllowed);
    world.settle().await;
}

#[tokio::test]
async fn watchers_end_with_their_rollout_and_the_newest_one_stays() {
    let mut world = World::new(1).await;
    world.push("1");
    let id: RolloutId = "r-1".parse().unwrap();
    world.fleet.start("operator/ana", &World::order("1", false), "", "", id.clone(), None).unwrap();
    let mut seen = world.fleet.watch_rollout("r-1").unwrap();
    world
        .fleet
        .command("operator/ana", "r-1", Event::Abort { by: "ana".into(), reason: String::new() })
        .unwrap();
    world.settle().await;
    assert!(world.fleet.rollouts[&id].rollout.ended());
    assert!(world.fleet.watchers.is_empty());
    assert_ne!(seen.borrow_and_update().ended_at_ms, 0, "the reader has the last word");
    let old = world.fleet.rollouts[&id].rollout.clone();
    for n in 0..super::ENDED_ROLLOUTS as u64 + 2 {
        let id: RolloutId = format!("r-other-{n}").parse().unwrap();
        let mut rollout =
            windlass_rollout::Rollout { id: id.clone(), app: "other".parse().unwrap(), ..old.clone() };
        (rollout.revision, rollout.started_at) = (n, old.started_at.after(Span(n + 1)));
        let entry = super::RolloutEntry { rollout, idempotency_key: String::new() };
        world.fleet.rollouts.insert(id, entry);
    }
    world.fleet.forget_rollouts();
    assert!(world.fleet.rollouts.contains_key(&id), "the only one of its app, and the oldest");
    assert!(!world.fleet.rollouts.contains_key(&"r-other-0".parse::<RolloutId>().unwrap()));
}
