//! The coordinator: its disk, its sessions, and the loop of event, step, disk, effects.

use std::collections::BTreeMap;
use std::sync::Arc;

use windlass_proto::grant::Past;
use windlass_proto::id::{HostName, RolloutId};
use windlass_proto::phase::{AppStatus, Phase};
use windlass_proto::spec::RolloutSpec;
use windlass_proto::time::Timestamp;
use windlass_rollout::plan::{Fleet, FleetHost, HostState, Order};
use windlass_rollout::{Effect, Event, Fetch, Kind, Refused, Rollout, Start, make_plan, step};

use crate::scenario::{app, labels, release, release_spec};

/// A host without a heartbeat for so long is silent.
pub(crate) const SILENT_AFTER: i64 = 15_000;

pub(crate) struct Coordinator {
    pub(crate) up: bool,
    pub(crate) epoch: u64,
    /// What is on disk: rollouts in the order of their start.
    pub(crate) rollouts: Vec<Rollout>,
    pub(crate) timers: BTreeMap<RolloutId, i64>,
    pub(crate) sessions: BTreeMap<HostName, Contact>,
    /// Dies after so many more steps: on disk, but none of the effects performed.
    pub(crate) dies: Option<u64>,
    /// Newest status of each host.
    pub(crate) known: BTreeMap<HostName, AppStatus>,
}

pub(crate) struct Contact {
    pub(crate) session: u64,
    pub(crate) heard: i64,
    pub(crate) silent: bool,
}

/// What the world is to do after a step.
#[derive(Default)]
pub(crate) struct After {
    pub(crate) effects: Vec<Effect>,
    pub(crate) died: bool,
    pub(crate) permitted: bool,
}

impl Coordinator {
    pub(crate) fn new(hosts: impl Iterator<Item = HostName>) -> Self {
        // Nobody has called yet; who does not for long enough is silent.
        let unseen = |name| (name, Contact { session: 0, heard: 0, silent: false });
        Self {
            up: true,
            epoch: 1,
            rollouts: vec![],
            timers: BTreeMap::new(),
            sessions: hosts.map(unseen).collect(),
            dies: None,
            known: BTreeMap::new(),
        }
    }

    /// Plans and records a rollout, if the plan allows it.
    pub(crate) fn order(&mut self, number: u64, n: u8, kind: Kind, spec: RolloutSpec, now: i64) -> bool {
        let host = |(at, (name, contact)): (usize, (&HostName, &Contact))| {
            let status = self.known.get(name);
            let quarantined = status.is_some_and(|status| status.phase == Phase::Quarantined);
            let state = match (contact.silent, quarantined) {
                (true, _) => HostState::Silent,
                (_, true) => HostState::Quarantined,
                _ => HostState::Ready,
            };
            FleetHost {
                name: name.clone(),
                labels: labels(at as u64),
                state,
                environment: None,
                current: status.and_then(|status| status.current.clone()),
                confirmed: status.and_then(|status| status.confirmed.clone()),
                leaving: None,
                attested: status.is_some_and(|status| status.attested.ok),
                held: vec![],
                disk_free: None,
                past: status.map_or_else(|| Some(Past::default()), |status| status.past.clone()),
                offered: Arc::default(),
                full: false,
                features: None,
                agent_version: String::new(),
            }
        };
        let fleet = Fleet { hosts: self.sessions.iter().enumerate().map(host).collect(), ..Fleet::default() };
        let to = release(n);
        let order = Order {
            app: app(),
            environment: Default::default(),
            take_from: None,
            kind,
            rollback: kind == Kind::Rollback,
            from: Some(release(1)),
            to,
            to_bytes: 1 << 20,
            fetch: Fetch::whole(1 << 20),
            release: release_spec(),
            spec,
            revision: number,
            expect_revision: 0,
            only: None,
        };
        let plan = make_plan(order, &fleet);
        if plan.refusal().is_some() {
            return false;
        }
        let id = RolloutId::new(format!("r-{number}")).unwrap();
        let start = Start { id, by: "ana".into(), reason: String::new(), epoch: self.epoch, trace: None };
        self.rollouts.push(Rollout::new(&plan, start, Timestamp(now)));
        true
    }

    /// One event for one rollout.
    pub(crate) fn step(&mut self, at: usize, event: Event, now: i64) -> Result<After, Refused> {
        let next = step(&self.rollouts[at], event, Timestamp(now))?;
        // On disk first.
        let json = |rollout: &Rollout| serde_json::to_string(rollout).unwrap();
        let before = std::mem::replace(&mut self.rollouts[at], next.state);
        let mut after = After { effects: next.effects, died: false, permitted: false };
        after.permitted = after.effects.iter().any(|effect| matches!(effect, Effect::Permit { .. }));
        let rollout = &self.rollouts[at];
        assert!(rollout.version >= before.version);
        if let Some(steps) = &mut self.dies {
            if *steps == 0 {
                after.effects.clear();
                after.died = true;
                self.dies = None;
                assert_eq!(serde_json::from_str::<Rollout>(&json(rollout)).unwrap(), *rollout);
            } else {
                *steps -= 1;
            }
        }
        for effect in &after.effects {
            if let Effect::SetTimer { at: due } = effect {
                assert!(due.0 > now, "a timer in the past would spin");
                self.timers.insert(rollout.id.clone(), due.0);
            }
        }
        Ok(after)
    }

    /// The rollouts that want to hear of a status: the open one, and the one that the host still works for.
    pub(crate) fn concerned(&self, host: &HostName, status: &AppStatus) -> Vec<usize> {
        let wants = |rollout: &Rollout| {
            rollout.hosts.contains_key(host)
                && (!rollout.ended() || status.rollout.as_ref() == Some(&rollout.id))
        };
        (0..self.rollouts.len()).filter(|at| wants(&self.rollouts[*at])).collect()
    }

    pub(crate) fn open(&self) -> Option<usize> {
        self.rollouts.iter().position(|rollout| !rollout.ended())
    }
}
