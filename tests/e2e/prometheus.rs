//! A real, third-party server of about 100 MB: Debian's prometheus, on five hosts, with its own probes.

use std::collections::BTreeMap;

use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::{free_port, get};
use windlass_tests::prometheus::{CONFIG, Prometheus};

/// The configuration that each host's prometheus says it runs with.
fn configs(prometheus: &Prometheus, fleet: &Fleet) -> Vec<String> {
    let ask = |host: &fleet::Host| get(&host.address, prometheus.port, "/api/v1/status/config").unwrap().body;
    fleet.all().iter().map(ask).collect()
}

fn pids(fleet: &Fleet) -> BTreeMap<String, i64> {
    let rows = fleet.versions("prometheus");
    rows.into_iter().map(|(host, row)| (host, row["attested"]["pid"].as_i64().unwrap())).collect()
}

#[test]
fn prometheus_is_deployed_rolled_rolled_back_and_survives_a_broken_configuration() {
    let Some(prometheus) = Prometheus::download(free_port(5), "    kind: process\n") else { return };
    let fleet = fleet::new().hosts(5).up();

    fleet.deploy(&prometheus.spec(CONFIG), "2.42.0-1").expect(0);
    for (host, row) in fleet.versions("prometheus") {
        assert_eq!(row["version"], "2.42.0-1", "{host}");
        assert_eq!(row["attested"]["ok"], true, "{host}: {row}");
        assert!(row["attested"]["exe"].as_str().unwrap().ends_with("usr/bin/prometheus"), "{row}");
    }

    let first = pids(&fleet);
    fleet.deploy(&prometheus.spec(&CONFIG.replace("15s", "33s")), "2.42.0-2").expect(0);
    assert!(configs(&prometheus, &fleet).iter().all(|config| config.contains("33s")));
    assert!(pids(&fleet).iter().all(|(host, pid)| first[host] != *pid), "every host runs a new process");

    fleet.windlass(&["rollback", "prometheus", "--yes"]).expect(0);
    assert!(configs(&prometheus, &fleet).iter().all(|config| config.contains("15s")));

    let before = pids(&fleet);
    let broken = CONFIG.replace("scrape_configs", "scrape_confics");
    let failed = fleet.deploy(&prometheus.spec(&broken), "2.42.0-3").expect(3);
    assert!(!failed.stderr.contains("panicked"), "{}", failed.stderr);
    let after = pids(&fleet);
    let moved: Vec<&String> = before.keys().filter(|host| before[*host] != after[*host]).collect();
    assert_eq!(moved.len(), 1, "only the first batch was touched: {moved:?}");
    assert!(configs(&prometheus, &fleet).iter().all(|config| config.contains("15s")), "all are back");
    let why = fleet.json(&["why", moved[0]]);
    assert_eq!(why["fault"], "app", "{why}");
    let evidence = why["evidence"].to_string();
    assert!(evidence.contains("scrape_confics"), "prometheus' own words are in the evidence: {why}");
}
