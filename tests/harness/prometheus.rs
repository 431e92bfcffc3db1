//! A real, third-party server: Debian's prometheus, to deploy with its own probes, and to watch a fleet with.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::http::get;
use crate::report::skip;
use crate::wait::until;

/// Longest that it may take to start.
const LIMIT: Duration = Duration::from_secs(60);

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

    /// One of its programs: `prometheus`, `promtool`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.path().join("files/usr/bin").join(name)
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

/// A Prometheus that runs and watches something; killed when it goes out of scope.
#[derive(Debug)]
pub struct Watching {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Watching {
    /// Starts it with this configuration, in which it listens on loopback.
    pub fn start(prometheus: &Prometheus, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(prometheus.program("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let watching = Self { child, port, dir };
        until("prometheus is ready", LIMIT, || {
            get("127.0.0.1", port, "/-/ready").filter(|answer| answer.status == 200)
        });
        watching
    }

    /// What its API says; the `data` of the answer.
    #[track_caller]
    pub fn ask(&self, path: &str) -> serde_json::Value {
        let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let answer = get("127.0.0.1", self.port, path).unwrap_or_else(|| panic!("{path}: {}", log()));
        let mut answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        answer["data"].take()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
