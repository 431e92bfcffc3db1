//! A real, third-party server to deploy: Debian's prometheus, with its own probes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::skip;

/// Its configuration.
pub const CONFIG: &str = "global:\n  scrape_interval: 15s\nscrape_configs:\n  - job_name: prometheus\n    static_configs:\n      - targets: [localhost:9090]\n";

/// A server of about 100 MB that somebody else has written.
#[derive(Debug)]
pub struct Prometheus {
    dir: tempfile::TempDir,
    /// Where it listens.
    pub port: u16,
    runtime: String,
}

impl Prometheus {
    /// Downloads it; `runtime` is what the spec says of it besides the command, indented by four. None where that cannot be done.
    ///
    /// # Panics
    /// Under `CI`, instead of answering none.
    pub fn download(port: u16, runtime: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        if unpack(dir.path()).is_none() {
            skip("apt-get download prometheus does not work here");
            return None;
        }
        Some(Self { dir, port, runtime: runtime.into() })
    }

    /// The spec's path, with this configuration.
    pub fn spec(&self, config: &str) -> PathBuf {
        std::fs::write(self.dir.path().join("files/etc/prometheus/prometheus.yml"), config).unwrap();
        let spec = format!(
            r#"apiVersion: windlass/v1
app: prometheus
release:
  files: ./files
  runtime:
{runtime}    command:
      - usr/bin/prometheus
      - --config.file=etc/prometheus/prometheus.yml
      - --storage.tsdb.path={{data.dir}}
      - --web.listen-address={{host.address}}:{{port.http}}
  ports: {{ http: {port} }}
  probes:
    startup:   {{ http: {{path: /-/healthy, port: http}}, period: 200ms, timeout: 2s, failure_threshold: 100 }}
    readiness: {{ http: {{path: /-/ready,   port: http}}, period: 500ms, timeout: 2s, failure_threshold: 5 }}
    liveness:  {{ http: {{path: /-/healthy, port: http}}, period: 2s, timeout: 2s }}
  drain: {{ timeout: 2s }}
  stop: {{ signal: SIGTERM, grace: 20s }}
rollout:
  targets: {{ selector: "role=app", expect_hosts: {{ min: 3, max: 5 }} }}
  strategy: {{ batches: [1, 3, 100%], max_unavailable: 2, min_healthy_time: 1s, healthy_deadline: 60s, progress_deadline: 120s }}
  host: {{ confirm_timeout: 20s }}
"#,
            runtime = self.runtime,
            port = self.port,
        );
        let path = self.dir.path().join("windlass.yaml");
        std::fs::write(&path, spec).unwrap();
        path
    }
}

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
