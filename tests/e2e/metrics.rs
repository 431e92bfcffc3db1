//! What a real Prometheus sees of a fleet, and which alerts it raises.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use windlass_tests::agent::{Agent, Ways};
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::{free_port, get};
use windlass_tests::prometheus::{Prometheus, Watching};
use windlass_tests::run::run;
use windlass_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

fn packaging(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file)
}

/// Where coordinator and agents of a fleet show their metrics.
fn addresses(fleet: &Fleet) -> (String, Vec<String>) {
    let record = fleet.record();
    let text = |value: &Value| value["metrics"].as_str().unwrap().to_owned();
    (text(&record["coordinator"]), record["hosts"].as_array().unwrap().iter().map(text).collect())
}

fn scrape(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap();
    let answer = get(host, port.parse().unwrap(), "/metrics").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// Names of what is sampled.
fn names(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// Everything in a text that looks like the name of one of windlass' metrics.
fn named_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("windlass_")).map(str::to_owned).collect()
}

#[test]
fn a_prometheus_sees_a_rollout_fail_and_says_so() {
    let Some(prometheus) = Prometheus::download(0, "") else { return };
    let fleet = fleet::new().hosts(2).up();
    let (coordinator, agents) = addresses(&fleet);
    let config = format!(
        "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\n\
         rule_files: [ {rules} ]\n\
         scrape_configs:\n\
         - {{ job_name: coordinator, static_configs: [ {{ targets: [ \"{coordinator}\" ] }} ] }}\n\
         - {{ job_name: agents, static_configs: [ {{ targets: {agents:?} }} ] }}\n",
        rules = packaging("prometheus/windlass.rules.yml").display(),
    );
    let watching = Watching::start(&prometheus, &config);
    let value = |query: &str| -> Vec<f64> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = watching.ask(&format!("/api/v1/query?query={query}"));
        let results = answer["result"].as_array().unwrap().iter();
        results.map(|result| result["value"][1].as_str().unwrap().parse().unwrap()).collect()
    };
    let comes_to = |query: &str, wanted: &[f64]| {
        until(&format!("{query} is {wanted:?}"), LIMIT, || (value(query) == wanted).then_some(()));
    };
    comes_to("sum(up)", &[3.0]);
    comes_to("windlass_hosts{state=\"ready\"}", &[2.0]);
    comes_to("windlass_sessions", &[2.0]);
    comes_to("sum(windlass_agent_connected)", &[2.0]);

    let app = App::new("web", free_port(2));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    comes_to("windlass_rollouts_ended_total{kind=\"deploy\",state=\"Succeeded\"}", &[1.0]);
    comes_to("sum(windlass_hosts_ended_total{outcome=\"confirmed\"})", &[2.0]);
    comes_to("sum(windlass_agent_deployments_total{outcome=\"confirmed\"})", &[2.0]);
    comes_to("sum(windlass_agent_apps{phase=\"confirmed\"})", &[2.0]);
    assert!(value("windlass_phase_seconds_count{phase=\"staging\"}") >= vec![2.0]);
    assert_eq!(value("ALERTS{alertname=~\"Windlass.*Fail.*|Windlass.*Revert\"}"), [0.0; 0]);

    fleet.deploy(&app.configured("version=2.0\nhealthy_for_ms=0\n"), "2.0").expect(3);
    comes_to("windlass_rollouts_ended_total{kind=\"deploy\",state=~\"RolledBack|Failed\"} == 1", &[1.0]);
    comes_to("windlass_reverts_total{fault=\"app\"}", &[1.0]);
    comes_to("sum(windlass_agent_reverts_total{fault=\"app\"})", &[1.0]);
    comes_to("ALERTS{alertname=\"WindlassRolloutFailed\",alertstate=\"firing\"}", &[1.0]);
    comes_to("ALERTS{alertname=\"WindlassHostsRevert\",alertstate=\"firing\",fault=\"app\"}", &[1.0]);
    let alerts = watching.ask("/api/v1/alerts").to_string();
    assert!(alerts.contains("A deploy failed; the fleet is on its former release"), "{alerts}");

    // Certificates have a life, and the older format is as right as the one that Prometheus asks for.
    assert!(value("min(windlass_certificate_expiry_timestamp_seconds) - time()")[0] > 86400.0);
    assert!(value("min(windlass_agent_certificate_expiry_timestamp_seconds) - time()")[0] > 3600.0);
    let mut exported = BTreeSet::new();
    for address in std::iter::once(&coordinator).chain(&agents) {
        let text = scrape(address);
        let file = app.dir().join("metrics.txt");
        std::fs::write(&file, &text).unwrap();
        let mut lint = Command::new(prometheus.program("promtool"));
        run(lint.args(["check", "metrics"]).stdin(std::fs::File::open(file).unwrap())).expect(0);
        exported.extend(names(&text));
    }

    // What is shipped asks only for what is there.
    for file in ["prometheus/windlass.rules.yml", "grafana/windlass.json"] {
        let named = named_in(&std::fs::read_to_string(packaging(file)).unwrap());
        assert!(named.len() > 10, "{file}: {named:?}");
        let absent: Vec<_> = named.difference(&exported).collect();
        assert!(absent.is_empty(), "{file} asks for {absent:?}, which nobody exports");
    }

    // How many lines the coordinator shows does not depend on the fleet.
    let text = scrape(&coordinator);
    assert!(!text.contains("host-1") && !text.contains("web"), "{text}");
}

#[test]
fn the_alert_rules_do_what_they_say() {
    let Some(prometheus) = Prometheus::download(0, "") else { return };
    let mut test = Command::new(prometheus.program("promtool"));
    run(test.args(["test", "rules"]).arg(packaging("prometheus/windlass.rules.test.yml"))).expect(0);
}

#[test]
fn a_port_that_is_taken_costs_an_agent_nothing_but_its_metrics() {
    let fleet = fleet::new().hosts(1).up();
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap().to_string();
    let ways = Ways { settings: format!("metrics_listen = {address:?}\n"), ..Ways::default() };
    let agent = Agent::take(&fleet, 1, ways);
    until("it is said", LIMIT, || agent.log().contains("metrics cannot be served").then_some(()));
    let app = App::new("web", free_port(1));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    drop(stranger);
    let (host, port) = address.rsplit_once(':').unwrap();
    let text =
        until("the port is taken when it is free", LIMIT, || get(host, port.parse().unwrap(), "/metrics"));
    assert!(
        text.body.contains("\nwindlass_agent_deployments_total{outcome=\"confirmed\",fault=\"none\"} 1\n"),
        "{}",
        text.body
    );
}
