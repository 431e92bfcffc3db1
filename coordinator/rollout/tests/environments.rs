//! Environments of an app: what holds one holds no other, and hosts are not taken from one without leave.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use windlass_proto::id::{AppName, Environment, RolloutId};
use windlass_proto::time::Span;
use windlass_rollout::plan::{Fleet, HostState, Level, OpenRollout, Order};
use windlass_rollout::{Kind, Plan, make_plan};

use fleet::{name, order, rolling};

fn environment(name: &str) -> Environment {
    Environment::new(name).unwrap()
}

fn open(app: &str, of: &str, hosts: &[usize]) -> OpenRollout {
    OpenRollout {
        id: RolloutId::new("r-7").unwrap(),
        app: AppName::new(app).unwrap(),
        environment: environment(of),
        hosts: hosts.iter().map(|n| name(*n)).collect(),
        started_by: "operator/bo".into(),
        age: Span::secs(90),
        reason: String::new(),
        state: "Progressing",
    }
}

/// A plan for production on four hosts, the first two of which belong to these environments.
fn plan(of: [&str; 2], change: impl FnOnce(&mut Order, &mut Fleet)) -> Plan {
    let mut fleet = fleet::fleet(4);
    for (host, of) in fleet.hosts.iter_mut().zip(of) {
        host.environment = (!of.is_empty()).then(|| environment(of));
    }
    let mut order = Order { environment: environment("production"), ..order(rolling("", "", "")) };
    change(&mut order, &mut fleet);
    make_plan(order, &fleet)
}

/// Findings about environments and locks.
fn found(plan: &Plan) -> Vec<(&'static str, Level, &str)> {
    let all = plan.checks.iter().filter(|check| matches!(check.id, "busy" | "environment"));
    all.map(|check| (check.id, check.level, check.message.as_str())).collect()
}

#[test]
fn only_the_rollout_of_the_same_environment_holds_it() {
    for (app, of, holds) in [
        ("shop", "production", true),
        ("shop", "staging", false),
        ("shop", "default", false),
        ("ledger", "production", false),
    ] {
        let plan = plan(["", ""], |_, fleet| fleet.open.push(open(app, of, &[])));
        let busy = plan.refusal().is_some_and(|check| check.id == "busy");
        assert_eq!(busy, holds, "{app} in {of}: {:?}", plan.checks);
    }
}

#[test]
fn the_lock_says_who_holds_it_since_when_and_why() {
    let held = plan(["", ""], |_, fleet| {
        let reason = "the spring sale".into();
        fleet.open.push(OpenRollout { reason, ..open("shop", "production", &[]) });
    });
    assert_eq!(
        held.refusal().unwrap().message,
        "shop in production is held by rollout r-7 (Progressing), which operator/bo started 1m30s ago, with the reason \"the \
         spring sale\"; wait for it (`windlass rollout watch r-7`) or abort it"
    );
    let held = plan(["", ""], |_, fleet| fleet.open.push(open("shop", "production", &[])));
    assert!(held.refusal().unwrap().message.contains("started 1m30s ago, without a reason; wait"));
}

#[test]
fn a_host_of_another_environment_is_taken_only_with_leave() {
    let plans = |of, from: &str| {
        let from = (!from.is_empty()).then(|| environment(from));
        plan(of, |order, _| order.take_from = from)
    };
    let free = plans(["production", ""], "");
    assert_eq!(
        found(&free),
        [("environment", Level::Ok, "all hosts are of shop in production, or of no other environment")]
    );

    let refused = plans(["staging", "staging"], "");
    let check = refused.refusal().unwrap();
    assert_eq!(
        (check.id, check.message.as_str(), check.is_conflict()),
        (
            "environment",
            "host-1, host-2: of shop in staging, and not to be taken from there without leave; correct the selector or the labels, or \
             take them with --take-from staging",
            true
        )
    );
    assert!(refused.moving.is_empty());

    let taken = plans(["staging", "production"], "staging");
    assert_eq!(taken.refusal(), None, "{:?}", taken.checks);
    assert_eq!(
        found(&taken),
        [("environment", Level::Warn, "host-1: taken from staging, for production from now on")]
    );
    assert_eq!(taken.moving.into_iter().collect::<Vec<_>>(), [(name(1), environment("staging"))]);

    // Leave for one is no leave for another.
    let other = plans(["staging", "demo"], "staging");
    assert!(other.refusal().unwrap().message.starts_with("host-2: of shop in demo"), "{:?}", other.checks);
    let none = plans(["production", ""], "staging");
    assert_eq!(none.refusal(), None);
    assert_eq!(
        found(&none),
        [("environment", Level::Warn, "no selected host is of shop in staging: none is taken")]
    );
}

#[test]
fn a_host_that_takes_no_part_is_not_taken() {
    let plan = plan(["staging", ""], |_, fleet| fleet.hosts[0].state = HostState::Cordoned);
    assert_eq!(plan.refusal(), None, "{:?}", plan.checks);
}

/// Whatever the labels say meanwhile, a rollback goes through with the environment's own hosts.
#[test]
fn a_rollback_leaves_out_hosts_of_other_environments() {
    for kind in [Kind::Rollback, Kind::Retry] {
        let back = plan(["staging", "production"], |order, fleet| {
            order.kind = kind;
            fleet.open.push(open("shop", "staging", &[1]));
        });
        assert_eq!(back.refusal(), None, "{:?}", back.checks);
        assert_eq!(
            found(&back)[0],
            ("environment", Level::Warn, "host-1: not of shop in production; left out")
        );
        assert_eq!(back.excused, BTreeMap::from([(name(1), "of staging".to_owned())]));
        assert_eq!(back.batches.iter().flatten().count(), 3);
        let rollout = fleet::rollout_of(&back, windlass_proto::time::Timestamp(0));
        assert_eq!(rollout.takers().cloned().collect::<Vec<_>>(), [name(2), name(3), name(4)]);
    }
    let none = plan(["staging", "staging"], |order, fleet| {
        order.kind = Kind::Rollback;
        fleet.hosts.truncate(2);
    });
    assert_eq!(
        none.refusal().unwrap().message,
        "host-1, host-2: none of these is of shop in production; see `windlass versions shop`"
    );
}

#[test]
fn no_host_is_taken_from_the_middle_of_a_rollout() {
    let busy = |hosts: &[usize]| {
        plan(["staging", ""], |order, fleet| {
            order.take_from = Some(environment("staging"));
            fleet.open.push(open("shop", "staging", hosts));
        })
    };
    let refused = busy(&[1, 4]);
    let check = refused.refusal().unwrap();
    assert_eq!(check.id, "busy");
    assert!(
        check.message.starts_with("host-1, host-4: of shop in staging, which is held by rollout r-7"),
        "{check:?}"
    );
    assert_eq!(busy(&[9]).refusal(), None);
}

#[test]
fn the_rollout_is_of_the_environment_of_its_order() {
    let plan = plan(["", ""], |_, _| {});
    let rollout = fleet::rollout_of(&plan, windlass_proto::time::Timestamp(0));
    assert_eq!(rollout.environment, environment("production"));
    assert_eq!(rollout.view().environment, environment("production"));
    assert_eq!(rollout.hosts.keys().cloned().collect::<BTreeSet<_>>(), (1..=4).map(name).collect());
}

proptest! {
    /// Whatever hosts and open rollouts there are: what may start shares no host with an open rollout of the app, takes hosts from
    /// nobody but whom it may, and says whom it takes; what leads back takes none.
    #[test]
    fn hosts_are_of_one_environment_at_a_time(
        of in proptest::collection::vec(0..4_usize, 4),
        open_in in 0..3_usize,
        held in proptest::collection::vec(proptest::bool::weighted(0.1), 4),
        own in 0..3_usize,
        from in 0..4_usize,
        kind in 0..3_usize,
    ) {
        let names = ["production", "staging", "demo"];
        let mut fleet = fleet::fleet(4);
        for (host, of) in fleet.hosts.iter_mut().zip(&of) {
            host.environment = names.get(*of).map(|of| environment(of));
        }
        let held: Vec<usize> = (1..=4).filter(|n| held[n - 1]).collect();
        fleet.open.push(open("shop", names[open_in], &held));
        let kind = [Kind::Deploy, Kind::Rollback, Kind::Retry][kind];
        let take_from = names.get(from).filter(|_| kind == Kind::Deploy && from != own).map(|from| environment(from));
        let own = environment(names[own]);
        let order = Order { environment: own.clone(), take_from: take_from.clone(), kind, ..order(rolling("", "", "")) };
        let plan = make_plan(order, &fleet);
        if plan.refusal().is_some() {
            return Ok(());
        }
        for name in plan.batches.iter().flatten().chain(&plan.unchanged) {
            prop_assert!(!fleet.open[0].hosts.contains(name), "{name} is in an open rollout");
            let host = fleet.hosts.iter().find(|host| host.name == *name).unwrap();
            match &host.environment {
                Some(other) if *other != own => {
                    prop_assert_eq!(Some(other), take_from.as_ref());
                    prop_assert_eq!(plan.moving.get(name), Some(other));
                    prop_assert_eq!(kind, Kind::Deploy);
                }
                _ => prop_assert!(!plan.moving.contains_key(name)),
            }
        }
    }
}
