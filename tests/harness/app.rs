//! What tests deploy: a directory with windlass.yaml and the release's files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::programs::fixture_app;

/// The fixture app in a directory of its own.
#[derive(Debug)]
pub struct App {
    dir: tempfile::TempDir,
    /// Its name.
    pub name: String,
    /// Where it listens on every host.
    pub port: u16,
    /// `release.runtime.kind`: what runs it.
    pub kind: String,
    /// `release.runtime.user`, and more members of it, indented by four.
    pub runtime: String,
    /// `release.drain`.
    pub drain: String,
    /// `release.probes.liveness`, as far as it is not the usual.
    pub liveness: String,
    /// What readiness expects of the answer, as `, expect_json: {version: "{release.version}"}`.
    pub expect: String,
    /// `rollout.strategy` and what follows, indented by two.
    pub rollout: String,
    /// More members of `release`, indented by two.
    pub release: String,
}

impl App {
    /// An app that listens on `port`, rolled out quickly in batches of one, two and the rest.
    pub fn new(name: &str, port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("files")).unwrap();
        std::fs::copy(fixture_app(), dir.path().join("files/app")).unwrap();
        let rollout = "  strategy: { batches: [1, 3, 100%], max_unavailable: 2, min_healthy_time: 300ms, \
             healthy_deadline: 20s, progress_deadline: 60s }\n  host: { confirm_timeout: 5s }\n";
        Self {
            dir,
            name: name.into(),
            port,
            kind: "process".into(),
            runtime: String::new(),
            drain: "{ timeout: 1s }".into(),
            liveness: "period: 1s, timeout: 1s".into(),
            expect: String::new(),
            rollout: rollout.into(),
            release: String::new(),
        }
    }

    /// An app for hosts whose agent is root: it runs as a user of its own, under this runtime.
    pub fn on_hosts(name: &str, port: u16, kind: &str) -> Self {
        Self { kind: kind.into(), runtime: "    user: www-data\n".into(), ..Self::new(name, port) }
    }

    /// The spec's path, with the app configured by lines of `key=value`.
    pub fn configured(&self, lines: &str) -> PathBuf {
        std::fs::write(self.dir().join("files/app.conf"), lines).unwrap();
        let spec = format!(
            r#"apiVersion: windlass/v1
app: {name}
release:
  files: ./files
  runtime:
    kind: {kind}
    command: [app, "{{host.address}}:{{port.http}}", app.conf]
{runtime}  ports: {{ http: {port} }}
  probes:
    startup:   {{ http: {{path: /health, port: http}}, period: 100ms, timeout: 1s, failure_threshold: 50 }}
    readiness: {{ http: {{path: /ready, port: http{expect}}}, period: 200ms, timeout: 1s, failure_threshold: 3 }}
    liveness:  {{ http: {{path: /health, port: http}}, {liveness} }}
  drain: {drain}
  stop: {{ grace: 3s }}
{release}rollout:
  targets: {{ selector: "role=app" }}
{rollout}"#,
            name = self.name,
            kind = self.kind,
            runtime = self.runtime,
            port = self.port,
            rollout = self.rollout,
            drain = self.drain,
            liveness = self.liveness,
            expect = self.expect,
            release = self.release,
        );
        let path = self.dir().join("windlass.yaml");
        std::fs::write(&path, spec).unwrap();
        path
    }

    /// The app that says it has `version`.
    pub fn version(&self, version: &str) -> PathBuf {
        self.configured(&format!("version={version}\n"))
    }

    /// A program among the release's files: what a shell makes of these lines.
    pub fn script(&self, name: &str, lines: &str) {
        let path = self.dir().join("files").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
