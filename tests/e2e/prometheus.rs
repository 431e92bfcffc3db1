//! A real, third-party server of about 100 MB: Debian's prometheus, on five hosts, with its own probes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::{free_port, get};
use windlass_tests::skip;

/// Downloads and unpacks the package into `dir/files`; `None` where that cannot be done.
fn unpack(dir: &Path) -> Option<()> {
    // apt's sandbox user must be able to write there.
    let download = tempfile::tempdir().unwrap();
    let fetched = Command::new("apt-get")
        .args(["download", "prometheus"])
        .current_dir(download.path())
        .output()
        .ok()?;
    if !fetched.status.success() {
        return None;
    }
    let package = std::fs::read_dir(download.path()).unwrap().next()?.unwrap().path();
    let unpacked = Command::new("dpkg-deb").arg("-x").arg(package).arg(dir.join("files")).output().ok()?;
    unpacked.status.success().then_some(())
}

const CONFIG: &str = "global:\n  scrape_interval: 15s\nscrape_configs:\n  - job_name: prometheus\n    static_configs:\n      - targets: [localhost:9090]\n";

struct Prometheus {
    dir: tempfile::TempDir,
    port: u16,
}

impl Prometheus {
    fn spec(&self, config: &str) -> PathBuf {
        std::fs::write(self.dir.path().join("files/etc/prometheus/prometheus.yml"), config).unwrap();
        let spec = format!(
            r#"apiVersion: windlass/v1
app: prometheus
release:
  files: ./files
  runtime:
    kind: process
    command:
      - usr/bin/prometheus
      - --config.file=etc/prometheus/prometheus.yml
      - --storage.tsdb.path={data}/{{host.name}}
      - --web.listen-address={{host.address}}:{{port.http}}
  ports: {{ http: {port} }}
  probes:
    startup:   {{ http: {{path: /-/healthy, port: http}}, period: 200ms, timeout: 2s, failure_threshold: 100 }}
    readiness: {{ http: {{path: /-/ready,   port: http}}, period: 500ms, timeout: 2s, failure_threshold: 5 }}
    liveness:  {{ http: {{path: /-/healthy, port: http}}, period: 2s, timeout: 2s }}
  drain: {{ timeout: 2s }}
  stop: {{ signal: SIGTERM, grace: 20s }}
rollout:
  targets: {{ selector: "role=app", expect_hosts: {{ min: 5, max: 5 }} }}
  strategy: {{ batches: [1, 3, 100%], max_unavailable: 2, min_healthy_time: 1s, healthy_deadline: 60s, progress_deadline: 120s }}
  host: {{ confirm_timeout: 20s }}
"#,
            data = self.dir.path().join("data").display(),
            port = self.port,
        );
        let path = self.dir.path().join("windlass.yaml");
        std::fs::write(&path, spec).unwrap();
        path
    }

    /// The configuration that each host's prometheus says it runs with.
    fn configs(&self, fleet: &Fleet) -> Vec<String> {
        let ask = |host: &fleet::Host| get(&host.address, self.port, "/api/v1/status/config").unwrap().body;
        fleet.all().iter().map(ask).collect()
    }
}

fn pids(fleet: &Fleet) -> BTreeMap<String, i64> {
    let rows = fleet.versions("prometheus");
    rows.into_iter().map(|(host, row)| (host, row["attested"]["pid"].as_i64().unwrap())).collect()
}

#[test]
fn prometheus_is_deployed_rolled_rolled_back_and_survives_a_broken_configuration() {
    let dir = tempfile::tempdir().unwrap();
    if unpack(dir.path()).is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to download Debian packages");
        skip("apt-get download prometheus does not work here");
        return;
    }
    let fleet = fleet::new().hosts(5).up();
    let prometheus = Prometheus { dir, port: free_port(5) };

    fleet.deploy(&prometheus.spec(CONFIG), "2.42.0-1").expect(0);
    for (host, row) in fleet.versions("prometheus") {
        assert_eq!(row["version"], "2.42.0-1", "{host}");
        assert_eq!(row["attested"]["ok"], true, "{host}: {row}");
        assert!(row["attested"]["exe"].as_str().unwrap().ends_with("usr/bin/prometheus"), "{row}");
    }

    let first = pids(&fleet);
    fleet.deploy(&prometheus.spec(&CONFIG.replace("15s", "33s")), "2.42.0-2").expect(0);
    assert!(prometheus.configs(&fleet).iter().all(|config| config.contains("33s")));
    assert!(pids(&fleet).iter().all(|(host, pid)| first[host] != *pid), "every host runs a new process");

    fleet.windlass(&["rollback", "prometheus", "--yes"]).expect(0);
    assert!(prometheus.configs(&fleet).iter().all(|config| config.contains("15s")));

    let before = pids(&fleet);
    let broken = CONFIG.replace("scrape_configs", "scrape_confics");
    let failed = fleet.deploy(&prometheus.spec(&broken), "2.42.0-3").expect(3);
    assert!(!failed.stderr.contains("panicked"), "{}", failed.stderr);
    let after = pids(&fleet);
    let moved: Vec<&String> = before.keys().filter(|host| before[*host] != after[*host]).collect();
    assert_eq!(moved.len(), 1, "only the first batch was touched: {moved:?}");
    assert!(prometheus.configs(&fleet).iter().all(|config| config.contains("15s")), "all are back");
    let why = fleet.json(&["why", moved[0]]);
    assert_eq!(why["fault"], "app", "{why}");
    let evidence = why["evidence"].to_string();
    assert!(evidence.contains("scrape_confics"), "prometheus' own words are in the evidence: {why}");
}
