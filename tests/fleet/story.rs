//! From nothing to rollouts of a real server on three hosts, as the README tells it.

use windlass_tests::hosts;
use windlass_tests::http::get;
use windlass_tests::prometheus::{CONFIG, Prometheus};

#[test]
fn three_hosts_from_nothing_to_a_server_that_is_rolled_out_and_back() {
    let runtime =
        "    kind: systemd\n    user: www-data\n    resources: { memory_max: 512MiB, cpu_quota: 200% }\n";
    let Some(prometheus) = Prometheus::download(9090, runtime) else { return };
    let Some(fleet) = hosts::new().up() else { return };
    let configs = || -> Vec<String> {
        let ask = |host: &hosts::host::Host| get(&host.address, 9090, "/api/v1/status/config").unwrap().body;
        fleet.hosts().iter().map(ask).collect()
    };

    // Enrolled, with facts and labels.
    let list = fleet.json(&["host", "list"]);
    for host in list["hosts"].as_array().unwrap() {
        assert_eq!((&host["state"], &host["labels"]["role"]), (&"ready".into(), &"app".into()), "{host}");
        assert!(host["facts"]["memory_bytes"].as_u64().unwrap_or(0) > 1 << 20, "{host}");
    }

    fleet.deploy(&prometheus.spec(CONFIG), "1.0").expect(0);
    for (host, row) in fleet.versions("prometheus") {
        assert_eq!((&row["version"], &row["attested"]["ok"]), (&"1.0".into(), &true.into()), "{host}: {row}");
        assert!(row["attested"]["exe"].as_str().unwrap().ends_with("usr/bin/prometheus"), "{row}");
    }
    let unit = "windlass-app-prometheus.service";
    assert_eq!(fleet.host(1).unit(unit, "MemoryMax"), (512_u64 << 20).to_string());
    assert_eq!(fleet.host(1).unit(unit, "CPUQuotaPerSecUSec"), "2s");
    let user =
        fleet.host(1).shell("stat -c %U /proc/$(systemctl show --value -p MainPID windlass-app-prometheus)");
    assert_eq!(user.stdout.trim(), "www-data", "{}", user.stderr);

    fleet.deploy(&prometheus.spec(&CONFIG.replace("15s", "33s")), "2.0").expect(0);
    assert!(configs().iter().all(|config| config.contains("33s")));
    fleet.windlass(&["rollback", "prometheus", "--yes"]).expect(0);
    assert!(configs().iter().all(|config| config.contains("15s")));

    // Its own words, from the journal, are in the evidence and in the logs.
    fleet.deploy(&prometheus.spec(&CONFIG.replace("scrape_configs", "scrape_confics")), "3.0").expect(3);
    assert!(configs().iter().all(|config| config.contains("15s")), "all are back");
    let why = fleet.json(&["why", "host-1"]);
    assert_eq!(why["fault"], "app", "{why}");
    assert!(why["evidence"].to_string().contains("scrape_confics"), "{why}");
    let logs = fleet.windlass(&["logs", "prometheus", "--host", "host-2"]).expect(0).stdout;
    assert!(logs.contains("Server is ready to receive web requests"), "{logs}");
}
