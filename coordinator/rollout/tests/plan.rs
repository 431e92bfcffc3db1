//! Each finding of the planner, by table: what must be refused, warned of, or passed, and that it names the way out.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;

use windlass_proto::grant::Past;
use windlass_proto::spec::RolloutSpec;
use windlass_proto::time::Span;
use windlass_rollout::failures::Parole;
use windlass_rollout::plan::{Fleet, HostState, Level, OpenRollout, Order, Poisoned};
use windlass_rollout::{Fetch, Kind, Plan, make_plan};

use fleet::{fleet, name, order, release, rolling};

fn plan_with(change: impl FnOnce(&mut Order, &mut Fleet)) -> Plan {
    let mut fleet = fleet(5);
    let mut order = order(rolling(r#", "max_parallel": 2, "max_unavailable": 2"#, "", ""));
    change(&mut order, &mut fleet);
    make_plan(order, &fleet)
}

fn finding(plan: &Plan, id: &str) -> (Level, String) {
    let check = plan.checks.iter().find(|check| check.id == id);
    let check = check.unwrap_or_else(|| panic!("no {id} in {:#?}", plan.checks));
    (check.level, check.message.clone())
}

fn with(spec: RolloutSpec) -> impl FnOnce(&mut Order, &mut Fleet) {
    move |order, _| order.spec = spec
}

#[track_caller]
fn refused(id: &str, words: &[&str], change: impl FnOnce(&mut Order, &mut Fleet)) {
    let plan = plan_with(change);
    let (level, message) = finding(&plan, id);
    assert_eq!(level, Level::Error, "{message}");
    assert!(plan.refusal().is_some());
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[track_caller]
fn warned(id: &str, words: &[&str], change: impl FnOnce(&mut Order, &mut Fleet)) -> Plan {
    let plan = plan_with(change);
    let (level, message) = finding(&plan, id);
    assert_eq!(level, Level::Warn, "{message}");
    assert_eq!(plan.refusal(), None);
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    plan
}

#[test]
fn a_sound_order_is_planned() {
    let plan = plan_with(|_, _| {});
    assert_eq!(plan.refusal(), None, "{:#?}", plan.checks);
    assert_eq!(plan.batches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(plan.bytes_to_send, 500 << 20);
    // Staging 2 s, three batches of one round: drain 5 s, stop 5 s, 2 s min_healthy_time, 2 s of its own; back without waits.
    assert_eq!((plan.estimate_seconds, plan.rollback_seconds), (2 + 3 * 14, 3 * 4));
    assert!(!plan.wide);
    assert_eq!(finding(&plan, "budget").1, "max_unavailable 2 of 5 hosts is 2");
}

#[test]
fn what_others_did_comes_first_and_is_a_conflict() {
    let open = |order: &mut Order, fleet: &mut Fleet| {
        let id = windlass_proto::id::RolloutId::new("r-7").unwrap();
        fleet.open.push(OpenRollout {
            id,
            app: order.app.clone(),
            environment: order.environment.clone(),
            hosts: Default::default(),
            started_by: "bo".into(),
            age: windlass_proto::time::Span::secs(90),
            reason: "the spring sale".into(),
            state: "Preparing",
        });
        order.spec.targets.selector = "role=nobody".into();
    };
    let said = [
        "shop is held by rollout r-7 (Preparing), which bo started 1m30s ago",
        "\"the spring sale\"",
        "windlass rollout watch",
    ];
    refused("busy", &said, open);
    assert!(plan_with(open).refusal().unwrap().is_conflict());
    refused("revision", &["is 2, not 9", "history"], |order, _| order.expect_revision = 9);
    refused("poisoned", &["host-1, host-2", "r-5", "corrected"], |order, fleet| {
        let rollout = windlass_proto::id::RolloutId::new("r-5").unwrap();
        let hosts = vec![name(1), name(2)];
        fleet.poisoned.push(Poisoned { digest: order.to.digest, hosts, rollout, paroled: None });
    });
}

#[test]
fn targets_are_checked() {
    refused("selector", &["empty", "character 1"], |order, _| order.spec.targets.selector = String::new());
    refused("selector", &["role=db", "5 hosts", "windlass host list"], |order, _| {
        order.spec.targets.selector = "role=db".into();
    });
    refused(
        "expect_hosts",
        &["matches 5 hosts", "6 to 9"],
        with(rolling("", r#", "expect_hosts": {"min": 6, "max": 9}"#, "")),
    );
    refused("expect_hosts", &["at least 6"], with(rolling("", r#", "expect_hosts": {"min": 6}"#, "")));
    refused("absent", &["none of the selected"], |_, fleet| {
        fleet.hosts.iter_mut().for_each(|host| host.state = HostState::Cordoned);
    });
    let silent = |_: &mut Order, fleet: &mut Fleet| fleet.hosts[1].state = HostState::Silent;
    let plan = warned("absent", &["host-2", "excused"], silent);
    assert_eq!(plan.excused.keys().collect::<Vec<_>>(), [&name(2)]);
    refused("absent", &["host-2", "cordon", "skip"], |order, fleet| {
        silent(order, fleet);
        order.spec = rolling("", r#", "absent": "count_as_failed""#, "");
    });
    let plan = warned("absent", &["wait"], |order, fleet| {
        silent(order, fleet);
        order.spec = rolling("", r#", "absent": "wait""#, "");
    });
    assert!(plan.batches.concat().contains(&name(2)));
    warned("cordoned", &["host-3"], |_, fleet| fleet.hosts[2].state = HostState::Cordoned);
    warned("quarantined", &["host-3", "windlass host release"], |_, fleet| {
        fleet.hosts[2].state = HostState::Quarantined;
    });
    refused("foreign", &["host-3", "another coordinator", "windlass host show"], |_, fleet| {
        fleet.hosts[2].state = HostState::Foreign;
    });
}

#[test]
fn unchanged_hosts_are_left_alone() {
    let on_target = |fleet: &mut Fleet, hosts: std::ops::Range<usize>| {
        for host in &mut fleet.hosts[hosts] {
            (host.current, host.confirmed) = (Some(release(2)), Some(release(2)));
        }
    };
    let plan = plan_with(|_, fleet| on_target(fleet, 0..2));
    assert_eq!(plan.unchanged, [name(1), name(2)]);
    assert_eq!(plan.batches.concat(), [name(3), name(4), name(5)]);
    let plan = plan_with(|_, fleet| on_target(fleet, 0..5));
    assert!(plan.nothing_to_do() && plan.refusal().is_none());
    assert_eq!((plan.estimate_seconds, plan.bytes_to_send), (0, 0));
    let plan = warned("attested", &["host-1", "windlass why host-1"], |_, fleet| {
        on_target(fleet, 0..1);
        fleet.hosts[0].attested = false;
    });
    assert_eq!(plan.unchanged, [name(1)]);
}

#[test]
fn hosts_fetch_what_none_of_their_releases_holds() {
    let chunk = |n| windlass_proto::digest::Digest::from_bytes([n; 32]);
    let plan = plan_with(|order, fleet| {
        // Release 1 holds one chunk of three, release 3 another.
        let sizes = [(chunk(11), 1 << 20), (chunk(12), 10 << 20), (chunk(13), 500 << 20)];
        order.fetch = Fetch::count(sizes, vec![release(1).digest, release(3).digest], |n, held| {
            *held == chunk([11, 13][n])
        });
        // host-1 has nothing, host-2 both, host-3 runs release 1 and says no more, host-4 the target.
        fleet.hosts[0].held.clear();
        (fleet.hosts[0].current, fleet.hosts[0].confirmed) = (None, None);
        fleet.hosts[1].held.push(release(3).digest);
        fleet.hosts[2].held.clear();
        fleet.hosts[3].held.push(order.to.digest);
    });
    assert_eq!(plan.bytes_to_send, (511 + 10 + 510 + 510) << 20);
    // The slowest host: 511 MiB at 50 MiB/s.
    assert_eq!(plan.estimate_seconds, 11 + 3 * 14);
}

#[test]
fn amounts_are_shown_as_hosts() {
    refused(
        "budget",
        &["max_unavailable 0", "1 or more"],
        with(rolling(r#", "max_unavailable": 0"#, "", "")),
    );
    let plan = plan_with(with(rolling(r#", "max_unavailable": "10%""#, "", "")));
    assert_eq!(finding(&plan, "budget"), (Level::Ok, "max_unavailable 10% of 5 hosts is 1".into()));
    let plan = plan_with(with(rolling(r#", "batches": [1, "50%", "100%"]"#, "", "")));
    assert_eq!(finding(&plan, "batches").1, "1 = 1, 50% = 3, 100% = 5 of 5 hosts");
    warned("batches", &["ends at 3 of 5"], with(rolling(r#", "batches": [1, "50%"]"#, "", "")));
    refused("batches", &["cumulative"], with(rolling(r#", "batches": [3, 1, "100%"]"#, "", "")));
    let plan = warned("wide", &["5 of 5"], with(rolling(r#", "type": "all_at_once""#, "", "")));
    assert!(plan.wide);
}

#[test]
fn what_hosts_cannot_do_is_found() {
    refused("disk", &["host-4 (10 MiB free)", "make room"], |_, fleet| {
        fleet.hosts[3].disk_free = Some(10 << 20)
    });
    let plan = plan_with(|order, fleet| {
        fleet.hosts[3].disk_free = Some(0);
        fleet.hosts[3].held.push(order.to.digest);
    });
    assert_eq!(plan.refusal(), None);
    assert_eq!(plan.bytes_to_send, 400 << 20);
    let grant = ["host-1", "counter 2 is below the highest seen there, 9", "windlass bundle grant shop 2.0"];
    refused("grant", &[&grant[..], &["--counter"]].concat(), |_, fleet| {
        fleet.hosts[0].past = Some(Past { seen: 9, confirmed: vec![] });
    });
    refused("grant", &[&grant[..], &["not confirmed there lately"]].concat(), |order, fleet| {
        order.kind = Kind::Rollback;
        fleet.hosts[0].past = Some(Past { seen: 9, confirmed: vec![release(1).digest] });
    });
    warned("grant", &[&grant[..], &["away"]].concat(), |order, fleet| {
        order.kind = Kind::Rollback;
        fleet.hosts[0].state = HostState::Silent;
        fleet.hosts[0].past = Some(Past { seen: 9, confirmed: vec![] });
    });
    for poison in [u64::MAX, u64::MAX - 2, 2 << 48] {
        refused("counter", &["host-1, host-2", "too far above", "--counter"], |order, _| {
            order.to.counter = poison;
        });
    }
    let plan = warned("target", &["host-1", "fetch"], |order, fleet| {
        order.kind = Kind::Rollback;
        for host in &mut fleet.hosts {
            host.confirmed = Some(release(9));
            host.held = vec![release(9).digest, order.to.digest];
        }
        fleet.hosts[0].held.pop();
    });
    assert!(plan.order.kind == Kind::Rollback);
    warned("way_back", &["host-2", "first release"], |_, fleet| {
        (fleet.hosts[1].current, fleet.hosts[1].confirmed) = (None, None);
    });
    warned("way_back", &["host-2", "fetch"], |_, fleet| fleet.hosts[1].held.clear());
    warned("failure_domain", &["host-1", "rack"], |order, fleet| {
        order.spec = rolling("", r#", "failure_domain": "rack""#, "");
        fleet.hosts[0].labels.remove("rack");
    });
}

#[test]
fn deadlines_must_add_up() {
    // startup 10 s + min_healthy_time 2 s; drain and stop are not part of it.
    refused("deadlines", &["= 12s", "raise"], |order, _| {
        order.spec.strategy.healthy_deadline = "11s".parse().unwrap();
    });
    let tight = plan_with(|order, _| order.spec.strategy.healthy_deadline = "12s".parse().unwrap());
    assert_eq!((tight.refusal(), tight.leaving), (None, Span::secs(10)));
    // What runs may take to leave, and so may the target one day: both count where nothing has become healthy for a while.
    refused("deadlines", &["progress_deadline 1m10s", "58s on host-3", "above 1m10s"], |order, fleet| {
        order.spec.strategy.progress_deadline = "70s".parse().unwrap();
        order.spec.strategy.healthy_deadline = "12s".parse().unwrap();
        fleet.hosts[2].leaving = Some(Span::secs(58));
    });
    let slow = plan_with(|order, fleet| {
        order.spec.strategy.progress_deadline = "71s".parse().unwrap();
        order.spec.strategy.healthy_deadline = "12s".parse().unwrap();
        fleet.hosts[2].leaving = Some(Span::secs(58));
    });
    assert_eq!((slow.refusal(), slow.leaving), (None, Span::secs(58)));
    refused("confirm_timeout", &["30s"], |order, _| order.spec.host.confirm_timeout = "1s".parse().unwrap());
    warned("confirm_timeout", &["10s"], |order, _| order.spec.host.confirm_timeout = "10s".parse().unwrap());
    let slow =
        |order: &mut Order, _: &mut Fleet| order.spec.failure.rollback.deadline = "5s".parse().unwrap();
    refused("rollback", &["about 12s", "5s"], slow);
    warned("rollback", &["about 12s"], |order, fleet| {
        slow(order, fleet);
        order.spec.failure.on_failure = windlass_proto::spec::OnFailure::Pause;
    });
}

#[test]
fn a_retry_is_for_those_left_behind() {
    let plan = plan_with(|order, _| {
        order.kind = Kind::Retry;
        order.only = Some([name(2)].into());
    });
    assert_eq!(plan.batches, [vec![name(2)]]);
    assert!(finding(&plan, "selector").1.contains("5 hosts"));
}

#[test]
fn hosts_that_are_named_have_to_be_targeted() {
    let plan = plan_with(|order, _| order.only = Some([name(2), name(4)].into()));
    assert_eq!(plan.refusal(), None);
    let changed: Vec<_> = plan.batches.iter().flatten().cloned().collect();
    assert_eq!(changed, [name(2), name(4)]);
    // What is expected of the selector is expected all the same.
    assert!(finding(&plan, "selector").1.contains("5 hosts"));
    refused("hosts", &["host-4: not among", "host-1, host-2, host-3, host-5"], |order, fleet| {
        order.only = Some([name(2), name(4)].into());
        fleet.hosts[3].labels.clear();
    });
}

#[test]
fn what_hosts_cannot_run_is_refused_by_name() {
    let unit = |order: &mut Order, fleet: &mut Fleet| {
        order.release.runtime = serde_json::from_str(r#"{"kind":"systemd","command":["bin/shop"]}"#).unwrap();
        for host in &mut fleet.hosts[1..] {
            host.features = Some(["runtime.process".to_owned(), "runtime.systemd".to_owned()].into());
        }
    };
    // An agent that does not say is believed to be able.
    assert_eq!(plan_with(unit).refusal(), None);
    refused("runtime", &["host-1: no systemd here", "kind: process works"], |order, fleet| {
        unit(order, fleet);
        fleet.hosts[0].features = Some(["runtime.process".to_owned()].into());
    });
    refused("runtime", &["host-2: agent 0.0.9 has no runtime.process", "install"], |_, fleet| {
        fleet.hosts[1].features = Some(["runtime.static".to_owned()].into());
        fleet.hosts[1].agent_version = "0.0.9".into();
    });
}

#[test]
fn a_host_that_is_full_is_refused_by_name() {
    refused("apps", &["host-3: has 64 apps", "windlass host cordon"], |_, fleet| fleet.hosts[2].full = true);
    // One that is on the target takes nothing.
    let plan = plan_with(|order, fleet| {
        fleet.hosts[2].full = true;
        (fleet.hosts[2].current, fleet.hosts[2].confirmed) = (Some(order.to.clone()), Some(order.to.clone()));
    });
    assert_eq!(plan.refusal(), None);
}

#[test]
fn a_paroled_release_is_planned_with_a_warning_that_names_who_let_it_off() {
    warned(
        "poisoned",
        &["host-1", "r-5", "operator/ana lets it be tried once more", "the disks were full"],
        |order, fleet| {
            let parole = Parole {
                by: "operator/ana".into(),
                reason: "the disks were full".into(),
                at: windlass_proto::time::Timestamp(1),
            };
            fleet.poisoned.push(Poisoned {
                digest: order.to.digest,
                hosts: vec![name(1)],
                rollout: windlass_proto::id::RolloutId::new("r-5").unwrap(),
                paroled: Some(parole),
            });
        },
    );
}
