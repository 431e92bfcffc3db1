//! Local health: releases that misbehave in every way the fixture knows, and what becomes of the host.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::{free_port, get};
use windlass_tests::report::measured;
use windlass_tests::sample::is_long;
use windlass_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// One host and an app whose answers must name its version; 1.0 is in service.
fn one_host(first: &str, watch: &str) -> (Fleet, App) {
    let fleet = fleet::new().hosts(1).up();
    let mut app = App::new("web", free_port(1));
    app.expect = ", expect_json: {version: \"{release.version}\"}".into();
    app.drain = "{ timeout: 0s }".into();
    app.liveness = "period: 200ms, timeout: 1s, failure_threshold: 2".into();
    app.rollout = format!(
        "  strategy: {{ max_parallel: 1, max_unavailable: 1, min_healthy_time: 2s, healthy_deadline: 11s, \
         progress_deadline: 60s }}\n  host: {{ confirm_timeout: 5s, watch: {{ window: {watch} }} }}\n"
    );
    fleet.deploy(&app.configured(&format!("version=1.0\n{first}")), "1.0").expect(0);
    fleet.serves(app.port, "1.0");
    (fleet, app)
}

fn deploy(fleet: &Fleet, app: &App, version: &str, config: &str, code: i32) {
    fleet.deploy(&app.configured(&format!("version={version}\n{config}")), version).expect(code);
}

fn host(fleet: &Fleet) -> Value {
    fleet.json(&["host", "show", "host-1"])["apps"][0].clone()
}

fn why(fleet: &Fleet, fault: &str, text: &str) {
    let why = fleet.json(&["why", "host-1"]);
    assert_eq!(why["fault"], fault, "{why}");
    assert!(why["cause"].as_str().unwrap().contains(text), "{why}");
}

fn says(fleet: &Fleet, app: &App) -> Option<String> {
    get(&fleet.host(1).address, app.port, "/")?.member("version")
}

/// Processes that have this word in their command line.
fn with_word(word: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(word.len()).any(|part| part == word.as_bytes())).count()
}

#[test]
fn every_kind_of_sick_release_goes_back_and_is_named_for_what_it_is() {
    let (fleet, app) = one_host("", "1m");
    let cases = [
        ("crash=yes", "the app ended"),
        ("die_after_ms=1200", "the app ended"),
        ("listen=never", "startup"),
        ("ready=flap:1000", "readiness"),
        ("ready_for_ms=700", "readiness"),
        ("healthy_for_ms=900", "liveness"),
        ("ready=no", "readiness"),
    ];
    for (n, (config, text)) in cases.into_iter().enumerate() {
        let version = format!("2.{n}");
        deploy(&fleet, &app, &version, config, 3);
        why(&fleet, "app", text);
        fleet.serves(app.port, "1.0");
        assert_eq!(host(&fleet)["phase"], "reverted", "{config}");
    }
    // One that says it is another release than it is.
    fleet.deploy(&app.configured("version=1.0\n"), "3.0").expect(3);
    why(&fleet, "app", "\"version\" is \"1.0\", expected \"3.0\"");
    fleet.serves(app.port, "1.0");
}

#[test]
fn an_answer_of_somebody_elses_process_does_not_count() {
    let (fleet, app) = one_host("", "1m");
    let started = fleet.host(1).run_dir().join("web/started.json");
    let (address, port) = (fleet.host(1).address, app.port);
    let before = std::fs::read_to_string(&started).unwrap();
    let (done, ended) = std::sync::mpsc::sync_channel::<()>(1);
    let squatter = std::thread::spawn(move || {
        // The agent has seen the port free; then somebody else takes it and answers everything well.
        until("the new release is started", LIMIT, || {
            (std::fs::read_to_string(&started).unwrap_or_default() != before).then_some(())
        });
        let listener = TcpListener::bind((address.as_str(), port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            if let Ok((mut stream, _)) = listener.accept() {
                let body = "{\"version\":\"2.0\"}";
                let _ = std::io::Write::write_all(
                    &mut stream,
                    format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    )
                    .as_bytes(),
                );
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    });
    let order = fleet.deploy_start(&app.configured("version=2.0\nlisten=never\n"), "2.0");
    until("the host goes back", LIMIT, || {
        let phase = host(&fleet)["phase"].clone();
        ["reverting", "reverted", "quarantined"].contains(&phase.as_str()?).then_some(())
    });
    done.send(()).unwrap();
    squatter.join().unwrap();
    order.finish().expect(3);
    why(&fleet, "app", "which is not of web 2.0");
    fleet.serves(app.port, "1.0");
}

#[test]
fn a_port_that_somebody_else_holds_is_the_hosts_fault() {
    let (fleet, app) = one_host("", "1m");
    // The next release listens elsewhere, where somebody sits.
    let mut other = App::new("web", free_port(1));
    other.rollout = app.rollout.clone();
    let squatter = TcpListener::bind((fleet.host(1).address.as_str(), other.port)).unwrap();
    fleet.deploy(&other.version("2.0"), "2.0").expect(3);
    why(&fleet, "host", "is in use by process");
    fleet.serves(app.port, "1.0");
    drop(squatter);
}

#[test]
fn what_does_not_end_by_itself_is_ended_with_all_that_it_left_behind() {
    // It ignores SIGTERM, and so does a grandchild in a session of its own; a zombie is never reaped.
    let word = format!("31{}", std::process::id());
    let run = format!("run=true & setsid sh -c 'trap \"\" TERM; sleep {word}; sleep {word}' & exit 0");
    let (fleet, app) = one_host(&format!("term=ignore\n{run}\n"), "1m");
    until("the grandchild runs", LIMIT, || (with_word(&word) > 0).then_some(()));
    deploy(&fleet, &app, "2.0", "", 0);
    fleet.serves(app.port, "2.0");
    until("nothing is left of it", LIMIT, || (with_word(&word) == 0).then_some(()));
    // The same where the new release is the one that goes back.
    deploy(&fleet, &app, "3.0", &format!("term=ignore\nready=no\n{run}\n"), 3);
    fleet.serves(app.port, "2.0");
    until("nothing is left of it", LIMIT, || (with_word(&word) == 0).then_some(()));
}

#[test]
fn in_the_watch_window_the_host_goes_back_once_and_afterwards_it_restarts() {
    let (fleet, app) = one_host("", "1h");
    // Confirmed while healthy; then liveness fails.
    deploy(&fleet, &app, "2.0", "healthy_for_ms=3500", 0);
    until("the host goes back by itself", LIMIT, || (says(&fleet, &app)? == "1.0").then_some(()));
    until("and says so", LIMIT, || (host(&fleet)["phase"] == "reverted").then_some(()));
    why(&fleet, "app", "liveness probe failed soon after confirm");

    // Outside of the window the supervisor restarts it.
    let (fleet, app) = {
        drop((fleet, app));
        one_host("", "1ms")
    };
    deploy(&fleet, &app, "2.0", "die_after_ms=4000", 0);
    let pid = get(&fleet.host(1).address, app.port, "/").unwrap().member("pid").unwrap();
    until("it is started again", LIMIT, || {
        let answer = get(&fleet.host(1).address, app.port, "/")?;
        (answer.member("version")? == "2.0" && answer.member("pid")? != pid).then_some(())
    });
    assert_eq!(host(&fleet)["phase"], "confirmed");
}

#[test]
fn a_host_where_the_old_release_does_not_come_up_either_waits_for_a_person() {
    let broken = tempfile::tempdir().unwrap();
    let broken = broken.path().join("broken");
    let (fleet, app) = one_host(&format!("crash_if={}", broken.display()), "1m");
    std::fs::write(&broken, "").unwrap();
    deploy(&fleet, &app, "2.0", "ready=no", 3);
    until("the host is quarantined", LIMIT, || (host(&fleet)["phase"] == "quarantined").then_some(()));
    assert_eq!(says(&fleet, &app), None);
    assert!(!fleet.host(1).run_dir().join("web/ready").exists(), "it is out of traffic");
    why(&fleet, "app", "readiness");
    let shown = fleet.windlass(&["host", "show", "host-1"]).expect(0).stdout;
    assert!(shown.contains("the way back to web 1.0"), "{shown}");
    // No order goes through, and nothing happens unasked.
    deploy(&fleet, &app, "3.0", "", 1);
    fleet.windlass(&["host", "release", "host-1"]).expect(2).says("--yes");

    fleet.windlass(&["host", "release", "host-1", "--app", "blog", "--yes"]).expect(1).says("blog");
    // What comes of it is said, also where it does no good.
    fleet
        .windlass(&["host", "release", "host-1", "--yes"])
        .expect(1)
        .says("quarantined again")
        .says("--leave-down");

    std::fs::remove_file(&broken).unwrap();
    let released = fleet.windlass(&["host", "release", "host-1", "--yes", "--reason", "the disk is mended"]);
    released.expect(0).says("web is on 1.0");
    assert_eq!(host(&fleet)["phase"], "reverted");
    fleet.serves(app.port, "1.0");
    fleet.windlass(&["host", "release", "host-1", "--yes"]).expect(0).says("nothing to release");
    let events = fleet.windlass(&["events", "-o", "json"]).expect(0).stdout;
    assert!(events.contains("host.released") && events.contains("the disk is mended"), "{events}");
    deploy(&fleet, &app, "4.0", "", 0);
    fleet.serves(app.port, "4.0");
}

#[test]
fn a_quarantine_ends_without_the_release_that_does_not_come_up_and_the_next_one_is_deployed() {
    let broken = tempfile::tempdir().unwrap();
    let broken = broken.path().join("broken");
    let (fleet, app) = one_host(&format!("crash_if={}", broken.display()), "1m");
    std::fs::write(&broken, "").unwrap();
    deploy(&fleet, &app, "2.0", "ready=no", 3);
    until("the host is quarantined", LIMIT, || (host(&fleet)["phase"] == "quarantined").then_some(()));
    let release = ["host", "release", "host-1", "--app", "web", "--leave-down", "--yes"];
    fleet.windlass(&release).expect(0).says("web is down");
    assert_eq!(says(&fleet, &app), None, "nothing was started");
    deploy(&fleet, &app, "3.0", "", 0);
    fleet.serves(app.port, "3.0");
}

/// From the revert's begin, which the failed probe is, to the old release answering.
#[test]
fn a_failed_probe_is_soon_followed_by_the_old_release() {
    let runs = if is_long() { 50 } else { 5 };
    let (fleet, app) = one_host("", "1m");
    let mut times: Vec<Duration> = (0..runs)
        .map(|n| {
            let order = fleet.deploy_start(
                &app.configured(&format!("version=2.{n}\nhealthy_for_ms=600\n")),
                &format!("2.{n}"),
            );
            until("the new release answers", LIMIT, || {
                (says(&fleet, &app)? == format!("2.{n}")).then_some(())
            });
            let log = fleet.dir().join("logs/host-1.log");
            let reverts = || std::fs::read_to_string(&log).unwrap().matches("phase=reverting").count();
            let before = reverts();
            until("the revert begins", LIMIT, || (reverts() > before).then_some(()));
            let begun = Instant::now();
            until("the old release answers", LIMIT, || (says(&fleet, &app)? == "1.0").then_some(()));
            let time = begun.elapsed();
            order.finish().expect(3);
            time
        })
        .collect();
    times.sort();
    measured(&format!("failed probe to old release answering, p50 of {runs}"), times[runs / 2]);
    measured(&format!("failed probe to old release answering, p99 of {runs}"), times[runs * 99 / 100]);
}
