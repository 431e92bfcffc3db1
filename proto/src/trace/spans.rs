//! What is told to a collector, and the way to it.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::time::Duration;

use super::TraceParent;
use crate::time::Timestamp;

/// Something that was done, and is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its own id.
    pub id: TraceParent,
    /// What it was done for; none for the root of a trace.
    pub under: Option<NonZeroU64>,
    /// One of few words.
    pub name: Cow<'static, str>,
    /// When it began.
    pub start: Timestamp,
    /// When it was over.
    pub end: Timestamp,
    /// What it was about.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed; none if it did not.
    pub error: Option<String>,
}

/// Who tells of spans.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// `service.name`, unless `OTEL_SERVICE_NAME` says otherwise.
    pub service: &'static str,
    /// `service.version`.
    pub version: &'static str,
    /// `host.name`, where the program is one host's.
    pub host: Option<&'a str>,
}

/// Why no spans are told although a collector is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCollector {
    /// The program was built without feature `otlp`.
    #[error("{0} is set, but this program was built without traces: build it with --features otlp")]
    NotBuilt(&'static str),
    /// The address cannot be used.
    #[error(
        "{variable} = {given:?}: a collector is told of traces at http://HOST:PORT, by OTLP over gRPC: {why}"
    )]
    Address {
        /// Where it stands.
        variable: &'static str,
        /// What stands there.
        given: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Variables of OpenTelemetry that name a collector; the first that is set counts.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The way to a collector, if there is one; cheap to clone. Telling it costs no time: spans wait in a queue of bounded length, and
/// what does not fit or is not taken is dropped.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    #[cfg(feature = "otlp")]
    collector: Option<std::sync::Arc<super::otlp::Collector>>,
}

impl Spans {
    /// To the collector that the environment names, by the variables of OpenTelemetry; to none where it names none. To be called
    /// inside of a runtime.
    ///
    /// # Errors
    /// If it names one that cannot be told.
    pub fn from_env(program: Program<'_>) -> Result<Self, NoCollector> {
        let value = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        if value("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Self::default());
        }
        match ENDPOINTS.iter().find_map(|name| value(name).map(|endpoint| (*name, endpoint))) {
            Some((variable, endpoint)) => Self::to(program, variable, endpoint),
            None => Ok(Self::default()),
        }
    }

    #[cfg(feature = "otlp")]
    fn to(program: Program<'_>, variable: &'static str, endpoint: String) -> Result<Self, NoCollector> {
        let collector = super::otlp::Collector::new(program, &endpoint)
            .map_err(|why| NoCollector::Address { variable, given: endpoint, why })?;
        Ok(Self { collector: Some(std::sync::Arc::new(collector)) })
    }

    #[cfg(not(feature = "otlp"))]
    fn to(_: Program<'_>, variable: &'static str, _: String) -> Result<Self, NoCollector> {
        Err(NoCollector::NotBuilt(variable))
    }

    /// Whether there is a collector.
    pub const fn is_on(&self) -> bool {
        #[cfg(feature = "otlp")]
        return self.collector.is_some();
        #[cfg(not(feature = "otlp"))]
        false
    }

    /// Tells of a span.
    pub fn tell(&self, span: Span) {
        #[cfg(feature = "otlp")]
        if let Some(collector) = self.collector.as_ref().filter(|_| span.id.is_sampled()) {
            collector.tell(span);
        }
        #[cfg(not(feature = "otlp"))]
        drop(span);
    }

    /// Waits until all that was told has been sent, or at most this long.
    pub async fn flush(&self, at_most: Duration) {
        #[cfg(feature = "otlp")]
        if let Some(collector) = self.collector.clone() {
            let flushed = tokio::task::spawn_blocking(move || collector.flush());
            // Who gets no answer in time has none: spans are told, not kept.
            let _ = tokio::time::timeout(at_most, flushed).await;
        }
        #[cfg(not(feature = "otlp"))]
        let _ = at_most;
    }
}
