//! A real, third-party collector of traces: PyPI's rotel, which writes down what it is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::programs::root;
use crate::report::skip;
use crate::wait::until;

/// Longest that it may take to start.
const LIMIT: Duration = Duration::from_secs(30);

/// A collector that runs; killed when it goes out of scope.
#[derive(Debug)]
pub struct Collector {
    child: Child,
    dir: tempfile::TempDir,
    /// Where it is told of traces.
    pub endpoint: String,
}

/// A span as it arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrived {
    /// The resource's `service.name`.
    pub service: String,
    /// The resource's `host.name`; empty for what is no host's.
    pub host: String,
    /// The trace.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The span above; empty for a root.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `STATUS_CODE_OK` or `STATUS_CODE_ERROR`.
    pub status: String,
    /// Why.
    pub message: String,
    /// When it began and ended, in nanoseconds since 1970.
    pub times: (u64, u64),
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Starts it. None where it is not installed.
    ///
    /// # Panics
    /// Under `CI`, instead of answering none.
    pub fn start() -> Option<Self> {
        let Some(program) = program() else {
            skip("rotel is missing; run cargo guard setup");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let port = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let (grpc, http) = (port(), port());
        let said = std::fs::File::create(dir.path().join("said")).unwrap();
        let child = Command::new(program)
            .args(["start", "--exporter", "blackhole"])
            .args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http])
            .arg("--pid-file")
            .arg(dir.path().join("pid"))
            .arg("--log-file")
            .arg(dir.path().join("log"))
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        let endpoint = format!("http://{grpc}");
        let collector = Self { child, dir, endpoint };
        until("the collector listens", LIMIT, || std::net::TcpStream::connect(&grpc).ok());
        Some(collector)
    }

    /// What has arrived so far.
    pub fn spans(&self) -> Vec<Arrived> {
        spans(&std::fs::read_to_string(self.dir.path().join("said")).unwrap())
    }

    /// Waits until something has arrived.
    #[track_caller]
    pub fn has<T>(&self, what: &str, wanted: impl Fn(&[Arrived]) -> Option<T>) -> T {
        until(what, Duration::from_secs(60), || wanted(&self.spans()))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The wheel has the program among its modules.
fn program() -> Option<PathBuf> {
    let versions = std::fs::read_dir(root().join("target/tools/lib")).ok()?.flatten();
    let mut programs = versions.map(|version| version.path().join("site-packages/rotel/rotel-agent"));
    programs.find(|program| program.is_file())
}

/// Reads the detailed log: of each resource its attributes, then its spans, each with its own.
fn spans(text: &str) -> Vec<Arrived> {
    let mut all: Vec<Arrived> = Vec::new();
    let (mut resource, mut within) = (Arrived::default(), false);
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("ResourceSpans #") {
            (resource, within) = (Arrived::default(), false);
        } else if line.starts_with("Span #") {
            all.push(resource.clone());
            within = true;
        } else if let Some((name, value)) = line.strip_prefix("-> ").and_then(|pair| pair.split_once(": ")) {
            let value = value.strip_prefix("Str(").and_then(|value| value.strip_suffix(')')).unwrap_or(value);
            match (within, name, all.last_mut()) {
                (false, "service.name", _) => resource.service = value.into(),
                (false, "host.name", _) => resource.host = value.into(),
                (true, _, Some(span)) => drop(span.attributes.insert(name.into(), value.into())),
                _ => {}
            }
        } else if let (true, Some(span), Some((name, value))) = (within, all.last_mut(), line.split_once(':'))
        {
            let value = value.trim();
            match name.trim() {
                "Trace ID" => span.trace = value.into(),
                "ID" => span.id = value.into(),
                "Parent ID" => span.parent = value.into(),
                "Name" => span.name = value.into(),
                "Start time" => span.times.0 = value.parse().unwrap_or_default(),
                "End time" => span.times.1 = value.parse().unwrap_or_default(),
                "Status code" => span.status = value.into(),
                "Status message" => span.message = value.into(),
                _ => {}
            }
        }
    }
    all
}
