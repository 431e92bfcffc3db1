//! What plan foresees is what hosts say: every history × counter × grant, through the real planner and the real machine of a host.

use std::sync::Arc;

use windlass_proto::grant::{GRANT_FORMAT, Grant, Past, Presented};
use windlass_proto::id::{FleetName, OpId, RolloutId};
use windlass_proto::phase::{Fault, Phase};
use windlass_proto::spec::{HostOrder, RolloutSpec};
use windlass_proto::time::{Span, Timestamp};
use windlass_release::{Assign, BootTime, Event, Now, State, step};
use windlass_rollout::plan::{Fleet, FleetHost, HostState, Level, Order};
use windlass_rollout::{Fetch, Kind, Plan, make_plan};

use crate::scenario::{app, labels, release, release_spec};

const AT: Timestamp = Timestamp(1_000);

/// Grants of release 2 that do and do not do.
fn grants() -> Vec<Presented> {
    let fleet = FleetName::new("prod").unwrap();
    let good = Grant {
        format: GRANT_FORMAT,
        fleet: fleet.clone(),
        app: app(),
        digest: release(2).digest,
        up_to: 3,
        until: Timestamp(1_001),
    };
    let grants = [
        Ok(good.clone()),
        Ok(Grant { up_to: 2, ..good.clone() }),
        Ok(Grant { up_to: 9, ..good.clone() }),
        Ok(Grant { until: AT, ..good.clone() }),
        Ok(Grant { fleet: FleetName::new("test").unwrap(), ..good.clone() }),
        Ok(Grant { digest: release(1).digest, ..good.clone() }),
        Ok(Grant { app: "another".parse().unwrap(), ..good }),
        Err("it has 1 of 2 needed signatures".to_owned()),
    ];
    grants.into_iter().map(|grant| Presented { fleet: fleet.clone(), at: AT, grant }).collect()
}

/// A host that has seen this counter and remembers these releases, the first as the one that it is on.
fn host(seen: u64, history: &[u8]) -> State {
    let confirmed = history.first().map(|n| release(*n));
    State {
        counter: seen,
        current: confirmed.clone(),
        confirmed,
        history: history.iter().skip(1).map(|n| release(*n)).collect(),
        ..State::new(app())
    }
}

fn plan(host: &State, state: HostState, kind: Kind, rollback: bool, offered: &[Presented]) -> Plan {
    let host = FleetHost {
        name: "host-1".parse().unwrap(),
        labels: labels(0),
        state,
        environment: None,
        current: host.current.clone(),
        confirmed: host.confirmed.clone(),
        leaving: None,
        attested: host.current.is_some(),
        held: vec![],
        disk_free: None,
        full: false,
        features: None,
        agent_version: String::new(),
        past: Some(host.past()),
        offered: Arc::from(offered),
    };
    let spec: RolloutSpec = serde_json::from_str(
        r#"{"targets": {"selector": "role=app"}, "strategy": {"max_unavailable": 1, "healthy_deadline": "10m",
            "progress_deadline": "20m"}}"#,
    )
    .unwrap();
    let order = Order {
        app: app(),
        environment: Default::default(),
        take_from: None,
        kind,
        rollback,
        from: None,
        to: release(2),
        to_bytes: 1,
        fetch: Fetch::whole(1),
        release: release_spec(),
        spec,
        revision: 1,
        expect_revision: 0,
        only: None,
    };
    make_plan(order, &Fleet { hosts: vec![host], ..Fleet::default() })
}

/// Whether the host takes the order, and what it says if not.
fn takes(host: &State, rollback: bool, grant: Option<&Presented>) -> Result<(), String> {
    let assign = Assign {
        op: OpId::new("op-1").unwrap(),
        rollout: RolloutId::new("r-1").unwrap(),
        epoch: 1,
        to: release(2),
        order: HostOrder {
            host: serde_json::from_str("{}").unwrap(),
            min_healthy_time: Span(0),
            healthy_deadline: Span::secs(60),
        },
        rollback,
        grant: grant.cloned().map(Box::new),
        trace: None,
    };
    let now = Now { boot: BootTime(1), wall: AT, contact: Some(BootTime(1)) };
    let next = step(host, Event::Assign(assign), now).unwrap().state;
    let operation = next.operation.as_ref().unwrap();
    match next.phase() {
        Phase::Failed => {
            assert_eq!(operation.fault, Some(Fault::Policy));
            Err(operation.reason.clone())
        }
        _ => Ok(()),
    }
}

#[test]
fn nothing_that_plan_allows_is_refused_by_a_host_and_nothing_else_is() {
    let grants = grants();
    let histories: [&[u8]; 8] = [&[], &[1], &[2], &[3], &[3, 1], &[3, 2, 1], &[4, 3, 2, 1], &[4, 3, 1]];
    // None, each alone, and each two.
    let mut offers = vec![vec![]];
    offers.extend(grants.iter().map(|grant| vec![grant.clone()]));
    let two =
        |one: &Presented| grants.iter().map(|other| vec![one.clone(), other.clone()]).collect::<Vec<_>>();
    offers.extend(grants.iter().flat_map(two));
    let (mut allowed, mut refused) = (0, 0);
    for history in histories {
        for seen in 0..=10 {
            let host = host(seen, history);
            for offered in &offers {
                for (kind, rollback) in [
                    (Kind::Deploy, false),
                    (Kind::Deploy, true),
                    (Kind::Retry, false),
                    (Kind::Retry, true),
                    (Kind::Rollback, true),
                ] {
                    let plan = plan(&host, HostState::Ready, kind, rollback, offered);
                    // What goes along with the order is what the coordinator chooses.
                    let chosen = host.past().choose(&release(2), rollback, offered).ok().flatten();
                    let said = takes(&host, rollback, chosen.map(|at| &offered[at]));
                    let finding = plan.checks.iter().find(|check| check.id == "grant");
                    let error = finding.filter(|check| check.level == Level::Error);
                    let what =
                        format!("{history:?} {seen} {kind} {rollback} {offered:?}: {finding:?} {said:?}");
                    let changes = !plan.batches.is_empty();
                    assert_eq!(error.is_some(), changes && said.is_err(), "{what}");
                    assert_eq!(plan.refusing.is_empty(), error.is_none(), "{what}");
                    if let Some(check) = error {
                        assert!(check.message.contains("windlass bundle grant"), "{what}");
                        // No other grant would have done.
                        for other in offered {
                            takes(&host, rollback, Some(other)).unwrap_err();
                        }
                        refused += 1;
                    } else if changes {
                        allowed += 1;
                    }
                    // Away, it vetoes nothing, and is named.
                    let away = self::plan(&host, HostState::Silent, kind, rollback, offered);
                    assert!(
                        away.checks.iter().all(|check| check.id != "grant" || check.level != Level::Error)
                    );
                    assert_eq!(away.refusing.is_empty(), error.is_none(), "{what}");
                }
            }
        }
    }
    assert!(allowed > 5_000 && refused > 5_000, "{allowed} {refused}");
}

/// What a host has not said is no veto.
#[test]
fn a_host_whose_past_is_not_known_takes_part() {
    let known = host(9, &[1]);
    let mut plan = plan(&known, HostState::Ready, Kind::Rollback, true, &[]);
    assert!(plan.refusal().is_some_and(|check| check.id == "grant" && check.is_conflict()));
    assert_eq!(known.past(), Past { seen: 9, confirmed: vec![release(1).digest] });
    let host = FleetHost { past: None, ..picture_of(&plan) };
    plan = make_plan(plan.order, &Fleet { hosts: vec![host], ..Fleet::default() });
    assert!(plan.refusal().is_none(), "{:?}", plan.checks);
}

fn picture_of(plan: &Plan) -> FleetHost {
    FleetHost {
        name: plan.batches[0][0].clone(),
        labels: labels(0),
        state: HostState::Ready,
        environment: None,
        current: None,
        confirmed: None,
        leaving: None,
        attested: false,
        held: vec![],
        disk_free: None,
        full: false,
        features: None,
        agent_version: String::new(),
        past: Some(Past::default()),
        offered: Arc::default(),
    }
}
