//! The demo's windlass.yaml and release directory.

use std::path::Path;

use super::outside::install_program;
use crate::error::{ExpectedError, Result};

/// Name of the app.
pub(super) const APP: &str = "hello";

/// What differs from one release to the next.
pub(super) struct Release<'a> {
    /// The program that is the app.
    pub program: &'a Path,
    /// Where it listens on every host.
    pub port: u16,
    /// Whether its probes never pass.
    pub broken: bool,
    /// How long a host must be healthy before it counts.
    pub min_healthy_time: &'a str,
}

/// Writes the spec and what it names into `dir`.
pub(super) fn write(dir: &Path, release: &Release<'_>) -> Result<()> {
    let program = dir.join("files/bin/windlass");
    if !program.exists() {
        install_program(release.program, &program)?;
    }
    let file = dir.join("windlass.yaml");
    std::fs::write(&file, text(release))
        .map_err(|error| ExpectedError::failed(format!("cannot write {}", file.display())).because(error))
}

fn text(release: &Release<'_>) -> String {
    let broken = if release.broken { ", --broken" } else { "" };
    format!(
        r#"apiVersion: windlass/v1
app: {APP}
release:
  files: ./files
  runtime:
    kind: process
    command: [bin/windlass, demo-app, --listen, "{{host.address}}:{{port.http}}", --version, "{{release.version}}"{broken}]
  ports: {{ http: {port} }}
  probes:
    startup:   {{ http: {{path: /health, port: http}}, period: 100ms, timeout: 500ms, failure_threshold: 50 }}
    readiness: {{ http: {{path: /ready, port: http}}, period: 250ms, timeout: 1s, failure_threshold: 4 }}
    liveness:  {{ http: {{path: /health, port: http}}, period: 1s, timeout: 1s }}
  drain: {{ timeout: 1s }}
  stop: {{ grace: 1s }}
rollout:
  targets: {{ selector: "role=app", expect_hosts: {{ min: 5 }} }}
  strategy: {{ batches: [1, 60%, 100%], max_unavailable: 2, min_healthy_time: {min_healthy}, healthy_deadline: 15s, progress_deadline: 60s }}
  host: {{ confirm_timeout: 5s }}
"#,
        port = release.port,
        min_healthy = release.min_healthy_time,
    )
}
