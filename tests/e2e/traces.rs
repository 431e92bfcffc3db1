//! What a real collector of traces is told of a rollout, and what becomes of one without.

use std::collections::BTreeSet;
use std::net::TcpListener;

use windlass_tests::app::App;
use windlass_tests::collector::{Arrived, Collector};
use windlass_tests::fleet::{self, Order};
use windlass_tests::http::free_port;
use windlass_tests::run::run;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ABOVE: &str = "00f067aa0ba902b7";

fn told(order: Order, endpoint: &str) -> Order {
    order.env(ENDPOINT, endpoint).env("OTEL_BSP_SCHEDULE_DELAY", "200")
}

/// The names of what lies under a span, sorted by time.
fn under<'a>(spans: &'a [Arrived], above: &Arrived) -> Vec<&'a Arrived> {
    let mut below: Vec<&Arrived> = spans.iter().filter(|span| span.parent == above.id).collect();
    below.sort_by_key(|span| span.times);
    below
}

fn names(spans: &[&Arrived]) -> Vec<String> {
    spans.iter().map(|span| span.name.clone()).collect()
}

#[test]
fn one_trace_leads_from_an_order_to_the_phases_of_each_host() {
    let Some(collector) = Collector::start() else { return };
    let fleet = told(fleet::new().hosts(2), &collector.endpoint).up();
    let app = App::new("web", free_port(2));
    let spec = app.version("1.0");
    let deploy = ["deploy", "-f", spec.to_str().unwrap(), "--version", "1.0", "--yes", "--detach"];
    // As a CI system has it that runs the CLI in a step of its own.
    let above = format!("00-{TRACE}-{ABOVE}-01");
    run(fleet.command(&deploy).env("TRACEPARENT", above)).expect(0);
    let rollout = fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned();
    // Whoever leads it to its end tells of it.
    fleet.kill_coordinator();
    fleet.start();
    fleet.windlass(&["rollout", "watch", &rollout]).expect(0);
    let spans = collector.has("the whole trace", |spans| {
        let whole = spans.iter().filter(|span| span.name == "deployment").count() == 2
            && spans.iter().any(|span| span.name == "rollout");
        whole.then(|| spans.to_vec())
    });

    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "{spans:#?}");
    let [order] = spans.iter().filter(|span| span.parent == ABOVE).collect::<Vec<_>>()[..] else {
        panic!("{spans:#?}")
    };
    assert_eq!((order.service.as_str(), order.name.as_str()), ("windlass", "windlass deploy"));
    let [led] = under(&spans, order)[..] else { panic!("{spans:#?}") };
    assert_eq!((led.service.as_str(), led.name.as_str()), ("windlass-coordinator", "rollout"));
    for span in [order, led] {
        assert_eq!(span.attributes["windlass.rollout"], rollout);
        assert_eq!(span.attributes["windlass.version"], "1.0");
    }
    assert_eq!(led.attributes["windlass.state"], "Succeeded");
    let deployments = under(&spans, led);
    assert_eq!(names(&deployments), ["deployment", "deployment"]);
    let hosts: BTreeSet<&str> = deployments.iter().map(|span| span.host.as_str()).collect();
    assert_eq!(hosts, BTreeSet::from(["host-1", "host-2"]));
    for deployment in deployments {
        assert_eq!(deployment.service, "windlass-agent");
        assert_eq!(deployment.attributes["windlass.outcome"], "confirmed");
        let phases = under(&spans, deployment);
        let wanted =
            ["assigned", "staging", "staged", "switching", "starting", "verifying", "admitting", "trial"];
        assert_eq!(names(&phases), wanted);
        assert!(phases.iter().all(|span| span.host == deployment.host && span.status == "STATUS_CODE_OK"));
        assert!(phases.windows(2).all(|pair| pair[0].times.1 == pair[1].times.0), "{phases:#?}");
        assert_eq!(deployment.times.1, phases[phases.len() - 1].times.1);
        // Its begin follows from its phases' lengths, each of whole milliseconds.
        let apart = deployment.times.0.abs_diff(phases[0].times.0);
        assert!(apart <= 10 * 1_000_000, "{deployment:#?}\n{phases:#?}");
    }
    let shown = fleet.json(&["rollout", "show", &rollout]);
    assert_eq!(shown["trace"], TRACE);

    // One that fails begins a trace of its own, in which it can be seen where, and why.
    fleet.deploy(&app.configured("version=2.0\nhealthy_for_ms=0\n"), "2.0").expect(3);
    let failed = fleet.newest_rollout().unwrap();
    let trace = failed["trace"].as_str().unwrap();
    assert_ne!(trace, TRACE);
    let spans = collector.has("the failed rollout", |spans| {
        let spans: Vec<Arrived> = spans.iter().filter(|span| span.trace == trace).cloned().collect();
        let ended = |name: &str| spans.iter().filter(|span| span.name == name).count();
        (ended("windlass deploy") == 1 && ended("rollout") == 1 && ended("deployment") == 2).then_some(spans)
    });
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    assert_eq!(named("windlass deploy").parent, "");
    // The other host was not touched.
    let broken = |span: &&Arrived| span.name == "deployment" && span.status == "STATUS_CODE_ERROR";
    let (rollout, deployment) = (named("rollout"), spans.iter().find(broken).unwrap());
    let phases = under(&spans, deployment);
    let phase = phases.iter().find(|span| span.status == "STATUS_CODE_ERROR").unwrap();
    for span in [rollout, deployment, phase] {
        assert_eq!(span.status, "STATUS_CODE_ERROR", "{span:?}");
        assert!(!span.message.is_empty(), "{span:?}");
    }
    assert_eq!(deployment.attributes["windlass.fault"], "app");
    let before = phases.iter().take_while(|span| span.status == "STATUS_CODE_OK").copied();
    assert_eq!(
        names(&before.collect::<Vec<_>>()),
        ["assigned", "staging", "staged", "draining", "stopping", "switching"]
    );
    assert_eq!((phase.name.as_str(), phases.last().unwrap().name.as_str()), ("starting", "reverting"));
}

#[test]
fn a_collector_that_is_away_or_takes_nothing_costs_nothing() {
    // One takes calls and answers none: without a bound of their own, the programs would wait for it longer than the test may last.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_at = format!("http://{}", silent.local_addr().unwrap());
    let fleet = told(fleet::new().hosts(1), &silent_at)
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "2")
        .up();
    let app = App::new("web", free_port(1));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.deploy(&app.version("2.0"), "2.0").expect(0);
    fleet.serves(app.port, "2.0");
    fleet.stop().expect(0);
    drop(silent);

    // Nobody is there at all, and that is said once by who stays.
    fleet.start();
    fleet.deploy(&app.version("3.0"), "3.0").expect(0);
    fleet.serves(app.port, "3.0");
    fleet.stop().expect(0);
    for program in ["coordinator", "host-1"] {
        let log = std::fs::read_to_string(fleet.dir().join(format!("logs/{program}.log"))).unwrap();
        let dropped = "traces are dropped until their collector takes them";
        let said = log.lines().filter(|line| line.contains(dropped) && line.contains("Connection refused"));
        assert_eq!(said.count(), 1, "{log}");
    }

    // An address that cannot be one is a warning, and the order is given.
    fleet.start();
    let spec = app.version("4.0");
    let deploy = ["deploy", "-f", spec.to_str().unwrap(), "--version", "4.0", "--yes"];
    let warned = run(fleet.command(&deploy).env(ENDPOINT, "collector:4317")).expect(0);
    warned.says(
        "OTEL_EXPORTER_OTLP_ENDPOINT = \"collector:4317\": a collector is told of traces at http://HOST:PORT",
    );
}
