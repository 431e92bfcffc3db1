//! A small fleet to order rollouts for: releases, hosts, statuses.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use windlass_proto::digest::Digest;
use windlass_proto::grant::Past;
use windlass_proto::id::{AppName, Environment, HostName, ReleaseVersion, RolloutId};
use windlass_proto::phase::{AppStatus, Attestation, Fault, Outcome, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::{ReleaseSpec, RolloutSpec};
use windlass_proto::time::Timestamp;
use windlass_rollout::plan::{Fleet, FleetHost, HostState, Order};
use windlass_rollout::state::Way;
use windlass_rollout::{Fetch, Kind, Plan, Rollout, Start, make_plan};

pub(crate) fn release(n: u8) -> ReleaseRef {
    ReleaseRef {
        app: AppName::new("shop").unwrap(),
        version: ReleaseVersion::new(format!("{n}.0")).unwrap(),
        digest: Digest::from_bytes([n; 32]),
        counter: u64::from(n),
    }
}

pub(crate) fn name(n: usize) -> HostName {
    HostName::new(format!("host-{n}")).unwrap()
}

pub(crate) fn spec(json: &str) -> RolloutSpec {
    serde_json::from_str(json).unwrap()
}

/// The rollout part of a spec with this strategy, targets and failure policy; quick deadlines.
pub(crate) fn rolling(strategy: &str, targets: &str, failure: &str) -> RolloutSpec {
    spec(&format!(
        r#"{{"targets": {{"selector": "role=app"{targets}}},
            "strategy": {{"min_healthy_time": "2s", "healthy_deadline": "60s", "progress_deadline": "3m"{strategy}}},
            "failure": {{"rollback": {{"max_parallel": 2, "deadline": "5m"}}{failure}}}}}"#
    ))
}

pub(crate) fn release_spec() -> ReleaseSpec {
    serde_json::from_str(
        r#"{"runtime": {"kind": "process", "command": ["bin/shop"]}, "drain": {"timeout": "5s"}, "stop": {"grace": "5s"},
            "probes": {"startup": {"tcp": {"port": 1}, "period": "1s", "failure_threshold": 10}}}"#,
    )
    .unwrap()
}

/// Hosts `host-1` … `host-N` with release 1 confirmed, racks `r1`, `r2`, `r3` in turn.
pub(crate) fn fleet(hosts: usize) -> Fleet {
    let host = |n: usize| FleetHost {
        name: name(n),
        labels: BTreeMap::from([
            ("role".into(), "app".into()),
            ("rack".into(), format!("r{}", (n - 1) % 3 + 1)),
        ]),
        state: HostState::Ready,
        environment: None,
        current: Some(release(1)),
        confirmed: Some(release(1)),
        leaving: None,
        attested: true,
        held: vec![release(1).digest],
        disk_free: Some(10 << 30),
        past: Some(Past { seen: 1, confirmed: vec![release(1).digest] }),
        offered: Arc::default(),
        full: false,
        features: None,
        agent_version: "0.1.0".into(),
    };
    Fleet { hosts: (1..=hosts).map(host).collect(), open: vec![], poisoned: vec![] }
}

pub(crate) fn order(spec: RolloutSpec) -> Order {
    Order {
        app: AppName::new("shop").unwrap(),
        environment: Environment::default(),
        take_from: None,
        kind: Kind::Deploy,
        rollback: false,
        from: Some(release(1)),
        to: release(2),
        to_bytes: 100 << 20,
        fetch: Fetch::whole(100 << 20),
        release: release_spec(),
        spec,
        revision: 2,
        expect_revision: 0,
        only: None,
    }
}

pub(crate) fn rollout_of(plan: &Plan, now: Timestamp) -> Rollout {
    let start = Start {
        id: RolloutId::new("r-1").unwrap(),
        by: "ana".into(),
        reason: String::new(),
        epoch: 1,
        trace: None,
    };
    Rollout::new(plan, start, now)
}

pub(crate) fn rollout(hosts: usize, spec: RolloutSpec) -> Rollout {
    let plan = make_plan(order(spec), &fleet(hosts));
    assert_eq!(plan.refusal(), None, "{:?}", plan.checks);
    rollout_of(&plan, Timestamp(0))
}

/// What a host says of its operation in `rollout`.
pub(crate) fn status(rollout: &Rollout, host: &HostName, seq: u64, phase: Phase) -> AppStatus {
    let own = &rollout.hosts[host];
    let target = if own.way == Way::Back { own.former.clone().unwrap() } else { rollout.to.clone() };
    let on_target = matches!(phase, Phase::Trial | Phase::Confirmed);
    let runs = if on_target { Some(target.clone()) } else { own.former.clone() };
    let (outcome, fault) = match phase {
        Phase::Confirmed => (Some(Outcome::Confirmed), None),
        Phase::Reverted => (Some(Outcome::Reverted), Some(Fault::App)),
        Phase::Failed => (Some(Outcome::Failed), Some(Fault::App)),
        Phase::Quarantined => (Some(Outcome::Quarantined), Some(Fault::App)),
        _ => (None, None),
    };
    AppStatus {
        app: rollout.app.clone(),
        seq,
        op: Some(own.op.clone()),
        rollout: Some(rollout.id.clone()),
        epoch: rollout.epoch,
        phase,
        outcome,
        fault,
        reason: if fault.is_some() { "readiness probe: connection refused".into() } else { String::new() },
        current: runs.clone(),
        confirmed: own.former.clone(),
        target: Some(target),
        attested: Attestation {
            ok: runs.is_some(),
            digest: runs.map(|release| release.digest),
            ..Attestation::default()
        },
        drained: None,
        phase_times: BTreeMap::new(),
        since: Timestamp(0),
        evidence: vec![],
        held: vec![],
        detail: String::new(),
        hooks: Vec::new(),
        past: None,
    }
}
