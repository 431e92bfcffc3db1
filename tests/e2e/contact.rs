//! Lost contact, at each step of a deployment and in each way that a wire can fail.

use std::io::Read as _;
use std::time::{Duration, Instant};

use windlass_tests::agent::{Agent, Ways, take_coordinator};
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::{free_port, get};
use windlass_tests::needs;
use windlass_tests::report::measured;
use windlass_tests::wait::{pass, until};
use windlass_tests::wire::{Flow, Wire};

const LIMIT: Duration = Duration::from_secs(60);

/// A fleet of one host behind a wire, with release 1.0 of an app in service, which is on trial for `confirm_timeout`.
fn behind_a_wire(confirm_timeout: &str) -> (Fleet, Wire, Agent, App) {
    let fleet = fleet::new().hosts(1).up();
    let wire = Wire::to(&coordinator(&fleet));
    let agent = Agent::take(&fleet, 1, Ways { coordinators: vec![wire.address()], ..Ways::default() });
    let mut app = App::new("web", free_port(1));
    app.rollout = format!(
        "  strategy: {{ max_parallel: 1, max_unavailable: 1, min_healthy_time: 1s, healthy_deadline: 30s, \
         progress_deadline: 120s }}\n  host: {{ confirm_timeout: {confirm_timeout} }}\n"
    );
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.serves(app.port, "1.0");
    (fleet, wire, agent, app)
}

/// Where the fleet's coordinator listens for agents.
fn coordinator(fleet: &Fleet) -> String {
    let config = fleet.host(1).state_dir.parent().unwrap().join("agent.toml");
    let settings: toml::Table = std::fs::read_to_string(config).unwrap().parse().unwrap();
    settings["coordinators"][0].as_str().unwrap().to_owned()
}

fn deploy(fleet: &Fleet, app: &App, version: &str) -> String {
    order(fleet, &app.version(version), version)
}

/// Orders and does not wait; returns the rollout.
fn order(fleet: &Fleet, spec: &std::path::Path, version: &str) -> String {
    let spec = spec.to_str().unwrap();
    fleet.windlass(&["deploy", "-f", spec, "--version", version, "--yes", "--detach"]).expect(0);
    fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned()
}

/// Waits until the coordinator answers and says that its host is as it should be.
fn heard(fleet: &Fleet, right: impl Fn(&str) -> bool) {
    until("the coordinator has heard of the host", LIMIT, || {
        let hosts = fleet.windlass(&["host", "list", "-o", "json"]);
        let state = (hosts.code == 0).then(|| hosts.json()["hosts"][0]["state"].clone())?;
        right(state.as_str()?).then_some(())
    });
}

fn says(fleet: &Fleet, app: &App) -> Option<String> {
    get(&fleet.host(1).address, app.port, "/")?.member("version")
}

fn pid(fleet: &Fleet, app: &App) -> String {
    get(&fleet.host(1).address, app.port, "/").unwrap().member("pid").unwrap()
}

fn why(fleet: &Fleet, subject: &str, fault: &str, text: &str) {
    let why = fleet.json(&["why", subject]);
    assert_eq!(why["fault"], fault, "{why}");
    assert!(why["cause"].as_str().unwrap().contains(text), "{why}");
}

#[test]
fn a_partition_before_the_permit_touches_nothing_and_after_confirm_neither() {
    let (fleet, wire, agent, app) = behind_a_wire("3s");
    let before = pid(&fleet, &app);
    wire.lose_all();
    // Longer than confirm_timeout and every lease.
    pass(Duration::from_secs(20));
    assert_eq!(pid(&fleet, &app), before, "what was confirmed stays, in the same process");
    assert_eq!(agent.phase("web").as_deref(), Some("confirmed"));
    wire.mend();
    heard(&fleet, |state| state == "ready");
    let id = deploy(&fleet, &app, "2.0");
    fleet.windlass(&["rollout", "watch", &id, "--timeout", "90s"]).expect(0);
    fleet.serves(app.port, "2.0");
}

#[test]
fn a_partition_in_the_trial_reverts_after_the_confirm_timeout() {
    let (fleet, wire, agent, app) = behind_a_wire("3s");
    for (version, fail) in [("2.0", Wire::lose_all as fn(&Wire)), ("3.0", Wire::cut)] {
        let id = deploy(&fleet, &app, version);
        agent.in_phase("web", "verifying");
        fail(&wire);
        agent.in_phase("web", "trial");
        let trial = Instant::now();
        agent.in_phase("web", "reverting");
        let due = Instant::now();
        let after = due - trial;
        assert!(
            after > Duration::from_millis(2500) && after < Duration::from_secs(6),
            "{version}: reverted after {after:?}"
        );
        until("the old release answers", LIMIT, || (says(&fleet, &app)? == "1.0").then_some(()));
        measured("lost contact in trial, deadline to old release answering", due.elapsed());
        wire.mend();
        let ended = fleet.windlass(&["rollout", "watch", &id, "--timeout", "90s"]);
        // The way to the host was at fault: the coordinator tries once more.
        assert!([0, 3].contains(&ended.code), "{}", ended.stderr);
        why(&fleet, &id, "transport", "no confirm came within 3s");
        heard(&fleet, |state| state == "ready");
        fleet.windlass(&["rollback", "web", "--to", "1.0", "--yes"]);
        fleet.serves(app.port, "1.0");
    }
}

#[test]
fn a_coordinator_restarted_in_the_trial_is_obeyed_over_a_new_connection() {
    let (fleet, wire, agent, app) = behind_a_wire("15s");
    let id = deploy(&fleet, &app, "2.0");
    agent.in_phase("web", "verifying");
    wire.cut();
    agent.in_phase("web", "trial");
    let mut coordinator = take_coordinator(&fleet, Ways::default());
    coordinator.restart();
    heard(&fleet, |_| true);
    wire.mend();
    fleet.windlass(&["rollout", "watch", &id, "--timeout", "90s"]).expect(0);
    agent.in_phase("web", "confirmed");
    fleet.serves(app.port, "2.0");
    assert_eq!(fleet.versions("web")["host-1"]["version"], "2.0", "both sides agree");
}

#[test]
fn a_half_open_connection_is_noticed() {
    let (_fleet, wire, agent, _app) = behind_a_wire("3s");
    for (name, fail) in [
        ("nothing comes down", (|wire: &Wire| wire.down(Flow::Lose)) as fn(&Wire)),
        ("nothing gets up", |wire| wire.up(Flow::Lose)),
        ("both", Wire::lose_all),
    ] {
        let ended = agent.log().matches("session ended").count();
        let begun = Instant::now();
        fail(&wire);
        until("the agent notices", Duration::from_secs(15), || {
            (agent.log().matches("session ended").count() > ended).then_some(())
        });
        measured(&format!("half-open connection noticed, {name}"), begun.elapsed());
        let opened = agent.log().matches("session opened").count();
        wire.mend();
        until("a new session", Duration::from_secs(30), || {
            (agent.log().matches("session opened").count() > opened).then_some(())
        });
    }
}

#[test]
fn the_coordinator_that_lives_is_found_among_those_that_do_not() {
    let fleet = fleet::new().hosts(1).up();
    let deaf = Wire::deaf();
    let refuses = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let begun = Instant::now();
    let coordinators = vec!["coordinator.invalid:7443".into(), refuses, deaf.address(), coordinator(&fleet)];
    let agent = Agent::take(&fleet, 1, Ways { coordinators, ..Ways::default() });
    until("a session", Duration::from_secs(30), || agent.log().contains("session opened").then_some(()));
    measured("live coordinator behind three dead ones found after", begun.elapsed());
    let app = App::new("web", free_port(1));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.serves(app.port, "1.0");
}

#[test]
fn a_download_that_stands_still_ends_and_a_slow_one_arrives() {
    let (fleet, wire, agent, app) = behind_a_wire("10s");
    // Five megabytes that do not compress.
    let mut noise = vec![0; 5_000_000];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    std::fs::write(app.dir().join("files/noise"), &noise).unwrap();
    wire.down(Flow::Slow(1_000_000));
    let id = deploy(&fleet, &app, "2.0");
    agent.in_phase("web", "staging");
    pass(Duration::from_secs(1));
    let begun = Instant::now();
    // A wire that stands still: nothing more comes, nobody is told.
    wire.down(Flow::Lose);
    until("the download is given up", LIMIT, || {
        let log = agent.log();
        log.contains("fetch interrupted").then_some(())
    });
    measured("a stalled download ended after", begun.elapsed());
    assert_eq!(says(&fleet, &app).as_deref(), Some("1.0"));
    wire.mend();
    wire.down(Flow::Slow(1_000_000));
    fleet.windlass(&["rollout", "watch", &id, "--timeout", "120s"]).expect(0);
    fleet.serves(app.port, "2.0");
}

/// A network namespace with one wire out of it; gone when it goes out of scope.
struct Namespace(String);

impl Namespace {
    const OUTSIDE: &str = "10.213.77.1";

    fn new() -> Self {
        Self::sweep();
        let namespace = Self(format!("wl{}", std::process::id()));
        let name = &namespace.0;
        ip(&format!("netns add {name}"));
        ip(&format!("link add {name}o type veth peer name wire netns {name}"));
        ip(&format!("addr add {}/30 dev {name}o", Self::OUTSIDE));
        ip(&format!("link set {name}o up"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} addr add 10.213.77.2/30 dev wire"));
        ip(&format!("-n {name} link set wire up"));
        ip(&format!("-n {name} route add default via {}", Self::OUTSIDE));
        namespace
    }

    /// Removes what tests that were killed have left: its address is the same, and answers would go there.
    fn sweep() {
        for entry in std::fs::read_dir("/var/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("wl").and_then(|pid| pid.parse::<u32>().ok());
            if pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
                ip(&format!("netns del {name}"));
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The wire goes with it.
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(args: &str) {
    let done = std::process::Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(done.success(), "ip {args}");
}

#[test]
fn a_release_that_breaks_the_hosts_network_goes_back_and_is_blamed() {
    if !needs::root_and(&[("ip", "iproute2")]) {
        return;
    }
    let namespace = Namespace::new();
    let fleet = fleet::new().hosts(1).up();
    let wire = Wire::at(Namespace::OUTSIDE, &coordinator(&fleet));
    let within = ["ip", "netns", "exec", &namespace.0].map(str::to_owned).to_vec();
    let agent =
        Agent::take(&fleet, 1, Ways { coordinators: vec![wire.address()], within, ..Ways::default() });
    let mut app = App::new("web", free_port(1));
    app.rollout =
        "  strategy: { max_parallel: 1, max_unavailable: 1, min_healthy_time: 300ms, healthy_deadline: 20s, \
                   progress_deadline: 60s }\n  host: { confirm_timeout: 4s }\n"
            .into();
    let mends = "/sbin/ip link set wire up && /sbin/ip route replace default via 10.213.77.1";
    for (n, breaks, text) in [
        (2, "/sbin/ip link set wire down", "wire went down"),
        (
            3,
            "/sbin/ip route del default; /sbin/ip addr flush dev wire",
            "the default route over wire is gone",
        ),
    ] {
        let mends = if n == 2 {
            mends.to_owned()
        } else {
            format!("/sbin/ip addr replace 10.213.77.2/30 dev wire && {mends}")
        };
        let old = format!("{n}.0");
        fleet.deploy(&app.configured(&format!("version={old}\nrun={mends}\n")), &old).expect(0);
        let id = order(&fleet, &app.configured(&format!("version={n}.1\nrun={breaks}\n")), &format!("{n}.1"));
        agent.in_phase("web", "reverted");
        fleet.windlass(&["rollout", "watch", &id, "--timeout", "60s"]).expect(3);
        why(&fleet, &id, "app", "the release probably broke this host's network");
        why(&fleet, &id, "app", text);
    }
}
