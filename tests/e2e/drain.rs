//! Drain with a ledger: what is in flight is counted connection by connection, and whatever interrupts a drain, the host
//! goes back into traffic.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::{free_port, get};
use windlass_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(30);

/// One host, an app on it that drains as `drain` says, and the release 1.0 in service.
fn one_host(drain: &str, config: &str) -> (Fleet, App) {
    let fleet = fleet::new().hosts(1).up();
    let mut app = App::new("web", free_port(1));
    app.drain = drain.into();
    app.rollout =
        "  strategy: { max_parallel: 1, max_unavailable: 1, min_healthy_time: 100ms, healthy_deadline: 40s, \
                   progress_deadline: 60s }\n  host: { confirm_timeout: 20s }\n"
            .into();
    fleet.deploy(&app.configured(&format!("version=1.0\n{config}")), "1.0").expect(0);
    fleet.serves(app.port, "1.0");
    (fleet, app)
}

/// A request that the app takes so long to answer; sent when this returns.
fn slow_request(fleet: &Fleet, app: &App, milliseconds: u32) -> TcpStream {
    let mut stream = TcpStream::connect((fleet.host(1).address.as_str(), app.port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET /slow/{milliseconds} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream
}

/// Whether the whole answer came.
fn is_answered(mut stream: TcpStream) -> bool {
    let mut text = String::new();
    stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1.1 200")
}

fn newest(fleet: &Fleet) -> Value {
    let rollout = fleet.newest_rollout().unwrap();
    fleet.json(&["rollout", "show", rollout["id"].as_str().unwrap()])
}

/// The ledger of the only host in the newest rollout: in flight, closed, cut.
fn ledger(fleet: &Fleet) -> (u64, u64, u64) {
    let drained = newest(fleet)["hosts"][0]["drained"].clone();
    let part = |name: &str| drained[name].as_u64().unwrap();
    (part("in_flight"), part("closed"), part("cut"))
}

fn ready_file(fleet: &Fleet) -> PathBuf {
    fleet.host(1).run_dir().join("web/ready")
}

fn in_phase(fleet: &Fleet, version: &str, phase: &str) {
    until(&format!("{version} is {phase}"), LIMIT, || {
        let newest = fleet.newest_rollout().filter(|rollout| rollout["to"]["version"] == version)?;
        let shown = fleet.json(&["rollout", "show", newest["id"].as_str()?]);
        (shown["hosts"][0]["phase"] == phase).then_some(())
    });
}

/// The host serves the old release from the same process, and says that it may have traffic.
fn back_in_service(fleet: &Fleet, app: &App, pid: &str) {
    until("the host is back in service", LIMIT, || {
        let answer = get(&fleet.host(1).address, app.port, "/")?;
        (answer.member("pid")? == pid && ready_file(fleet).exists()).then_some(())
    });
}

#[test]
fn what_finishes_is_closed_what_does_not_is_cut_and_all_of_it_is_counted() {
    let (fleet, app) = one_host("{ delay: 300ms, timeout: 2s }", "term=finish\n");
    // One ends in the drain, one in the grace after SIGTERM, which the app waits for.
    let (short, long) = (slow_request(&fleet, &app, 1000), slow_request(&fleet, &app, 3500));
    let deploy = fleet.deploy_start(&app.configured("version=2.0\nterm=ignore\n"), "2.0");
    in_phase(&fleet, "2.0", "draining");
    assert!(!ready_file(&fleet).exists(), "load balancers are told first");
    until("the live view counts", LIMIT, || {
        let detail = newest(&fleet)["hosts"][0]["detail"].clone();
        detail.as_str()?.contains("1 connection open").then_some(())
    });
    deploy.finish().expect(0);
    assert!(is_answered(short) && is_answered(long), "nobody was cut");
    assert_eq!(ledger(&fleet), (2, 2, 0));

    // This app does not end by SIGTERM, and a request takes longer than all patience.
    let endless = slow_request(&fleet, &app, 50_000);
    fleet.deploy(&app.version("3.0"), "3.0").expect(0).says("1 connection was cut");
    assert!(!is_answered(endless));
    assert_eq!(ledger(&fleet), (1, 0, 1));
    fleet.serves(app.port, "3.0");
}

#[test]
fn a_slow_drain_takes_nothing_of_the_deadline() {
    let (fleet, mut app) = one_host("{ timeout: 15s }", "");
    // Ready within the five seconds that its startup probe allows, with a second to spare.
    app.rollout =
        "  strategy: { max_parallel: 1, max_unavailable: 1, min_healthy_time: 100ms, healthy_deadline: 6s, \
                   progress_deadline: 60s }\n  host: { confirm_timeout: 20s }\n"
            .into();
    let slow = slow_request(&fleet, &app, 9000);
    fleet.deploy(&app.version("2.0"), "2.0").expect(0);
    assert!(is_answered(slow));
    let host = newest(&fleet)["hosts"][0].clone();
    let draining = host["phase_seconds"]["draining"].as_f64().unwrap();
    assert!(draining > 6.0, "{host}");
    fleet.serves(app.port, "2.0");
}

#[test]
fn whatever_interrupts_a_drain_the_host_goes_back_into_traffic() {
    let (fleet, app) = one_host("{ timeout: 15s, on_timeout: abort }", "");
    let pid = get(&fleet.host(1).address, app.port, "/").unwrap().member("pid").unwrap();
    let failed = |version: &str, fault: &str, reason: &str| {
        until(&format!("{version} failed"), LIMIT, || {
            let host = newest(&fleet)["hosts"][0].clone();
            let ended = newest(&fleet)["to"]["version"] == version && host["outcome"] == "failed";
            ended.then(|| assert_eq!((&host["fault"], true), (&fault.into(), says(&host, reason)), "{host}"))
        });
        back_in_service(&fleet, &app, &pid);
    };

    // A person aborts.
    let held = slow_request(&fleet, &app, 50_000);
    let deploy = fleet.deploy_start(&app.version("2.0"), "2.0");
    in_phase(&fleet, "2.0", "draining");
    let id = newest(&fleet)["id"].as_str().unwrap().to_owned();
    fleet.windlass(&["rollout", "abort", &id, "--yes"]).expect(0);
    deploy.finish().expect(3);
    failed("2.0", "policy", "abort");

    // The agent is killed; the one after it goes on with the drain or undrains, and the time-out says abort.
    let deploy = fleet.deploy_start(&app.version("3.0"), "3.0");
    in_phase(&fleet, "3.0", "draining");
    fleet.host(1).kill();
    assert!(!ready_file(&fleet).exists());
    fleet.start();
    deploy.finish().expect(3);
    failed("3.0", "app", "outlived the drain");

    // The coordinator goes away for longer than a lease lasts.
    let deploy = fleet.deploy_start(&app.version("4.0"), "4.0");
    in_phase(&fleet, "4.0", "draining");
    let coordinator = Pid::from_raw(fleet.coordinator_pid());
    kill(coordinator, Signal::SIGSTOP).unwrap();
    until("the host undrains alone", LIMIT, || ready_file(&fleet).exists().then_some(()));
    back_in_service(&fleet, &app, &pid);
    drop(held);
    // Nobody's release is at fault, so the coordinator tries again.
    kill(coordinator, Signal::SIGCONT).unwrap();
    // Whoever watched may have given up; the rollout has not.
    deploy.finish();
    fleet.windlass(&["rollout", "watch", newest(&fleet)["id"].as_str().unwrap()]).expect(0);
    fleet.serves(app.port, "4.0");
    let why = fleet.json(&["why", newest(&fleet)["id"].as_str().unwrap()]);
    assert_eq!(why["fault"], "transport", "{why}");
    assert!(why["cause"].as_str().unwrap().contains("contact"), "{why}");
}

fn says(host: &Value, text: &str) -> bool {
    host["reason"].as_str().is_some_and(|reason| reason.contains(text))
}
