//! Checks of an application from its own host: one check at a time here, thresholds and periods in [`engine`].

pub mod engine;
mod exec;
mod http;
mod owner;
mod tcp;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use windlass_proto::digest::Digest;
use windlass_proto::spec::{PortRef, Probe, ProbeKind};
use windlass_proto::time::{Span, Timestamp};

use crate::clock;
use crate::runtime::{HostContext, Launch};

/// Everything that a check needs to know.
#[derive(Debug, Clone)]
pub struct Target {
    /// The host.
    pub host: HostContext,
    /// The release that is checked.
    pub launch: Launch,
}

impl Target {
    fn address(&self, port: &PortRef) -> Result<SocketAddr, String> {
        let port =
            match port {
                PortRef::Number(port) => *port,
                PortRef::Name(name) => *self.launch.spec.ports.get(name).ok_or_else(|| {
                    format!("the release has no port {name:?}; name it under release.ports")
                })?,
            };
        Ok(SocketAddr::new(self.host.address, port))
    }
}

/// Which probe a check belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeName {
    /// `probes.startup`
    Startup,
    /// `probes.readiness`
    Readiness,
    /// `probes.liveness`
    Liveness,
    /// The n-th of `smoke`, from 0.
    Smoke(usize),
}

impl fmt::Display for ProbeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Startup => f.write_str("startup"),
            Self::Readiness => f.write_str("readiness"),
            Self::Liveness => f.write_str("liveness"),
            Self::Smoke(n) => write!(f, "smoke[{n}]"),
        }
    }
}

/// What one check did and saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Which release was checked.
    pub release: Digest,
    /// Which probe it was.
    pub probe: ProbeName,
    /// When it began, by the wall clock.
    pub at: Timestamp,
    /// How long it took.
    pub took: Span,
    /// Whether it passed.
    pub passed: bool,
    /// What it asked and what it got: `GET http://127.0.0.1:80/ready: status 503: not yet`.
    pub text: String,
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed { "passed" } else { "failed" };
        write!(f, "probe {} {word} in {}: {}", self.probe, self.took, self.text)
    }
}

/// Most transcripts kept of one application.
const TRANSCRIPTS: usize = 10;

/// The last transcripts of one application; they outlive the probing, for evidence.
#[derive(Debug, Default)]
pub struct Transcripts(Mutex<VecDeque<Transcript>>);

impl Transcripts {
    /// Keeps one more, and drops the oldest.
    pub fn push(&self, transcript: Transcript) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == TRANSCRIPTS {
            kept.pop_front();
        }
        kept.push_back(transcript);
    }

    /// All that are kept, oldest first.
    pub fn all(&self) -> Vec<Transcript> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// What a kind of check found out: passed or not, with words for people.
type Found = Result<String, String>;

/// Makes one check.
pub async fn check(target: &Target, name: ProbeName, probe: &Probe) -> Transcript {
    let at = clock::wall();
    let begun = clock::boot_ms();
    let limit = probe.timeout.std();
    let found = match probe.kind() {
        Some(ProbeKind::Http(http)) => in_time(limit, http::get(target, http)).await,
        Some(ProbeKind::Tcp(tcp)) => in_time(limit, tcp::connect(target, tcp)).await,
        // A command ends its own children at the limit, so it must not be dropped before.
        Some(ProbeKind::Exec(exec)) => exec::run(target, exec, limit).await,
        None => Err("the probe needs exactly one of http, tcp and exec".to_owned()),
    };
    let found = match (found, port_of(target, probe)) {
        (Ok(text), Some(port)) => belongs(target, port, text).await,
        (found, _) => found,
    };
    let took = Span(clock::boot_ms().saturating_sub(begun));
    let (passed, text) = match found {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    Transcript { release: target.launch.release.digest, probe: name, at, took, passed, text }
}

/// The port that a check dials.
fn port_of(target: &Target, probe: &Probe) -> Option<u16> {
    let port = match probe.kind()? {
        ProbeKind::Http(http) => &http.port,
        ProbeKind::Tcp(tcp) => &tcp.port,
        ProbeKind::Exec(_) => return None,
    };
    target.address(port).ok().map(|address| address.port())
}

/// An answer counts only if it is the release's.
async fn belongs(target: &Target, port: u16, text: String) -> Found {
    let target = target.clone();
    let checked = tokio::task::spawn_blocking(move || owner::check(&target, port)).await;
    match checked {
        Ok(Err(stranger)) => Err(format!("{text}, but {stranger}")),
        _ => Ok(text),
    }
}

async fn in_time(limit: Duration, check: impl Future<Output = Found>) -> Found {
    let limited = timeout(limit, check).await;
    limited.unwrap_or_else(|_| Err(format!("no answer in {}", Span(limit.as_millis() as u64))))
}

/// Makes each smoke check once, in order, to the first that fails.
pub async fn smoke(target: &Target, transcripts: &Transcripts) -> Result<(), Transcript> {
    for (n, probe) in target.launch.spec.smoke.iter().enumerate() {
        let transcript = check(target, ProbeName::Smoke(n), probe).await;
        transcripts.push(transcript.clone());
        if !transcript.passed {
            return Err(transcript);
        }
    }
    Ok(())
}

/// The first characters of a text that may be long, on one line.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
