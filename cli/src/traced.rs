//! An order in a trace: one span, from the call to its answer, under which the coordinator's and the hosts' spans lie.

use std::num::{NonZeroU64, NonZeroU128};
use std::time::Duration;

use tonic::Request;
use windlass_proto::rpc::Rollout;
use windlass_proto::time::Timestamp;
use windlass_proto::trace::{NoCollector, Program, Span, Spans, TraceParent};

use crate::output::Output;
use crate::output::text::now_ms;

/// Where those stand who start the CLI as a part of theirs, as CI systems do.
const VARIABLE: &str = "TRACEPARENT";
/// Longest that the end of the program waits for a collector.
const FLUSH: Duration = Duration::from_millis(300);

/// The way to the collector that the environment names. One that cannot be told is a warning: it is no part of an order.
pub fn spans(out: &Output) -> Spans {
    let program = Program { service: "windlass", version: env!("CARGO_PKG_VERSION"), host: None };
    Spans::from_env(program).unwrap_or_else(|no| {
        // The variables are often set for everything that runs somewhere.
        if !matches!(no, NoCollector::NotBuilt(_)) {
            out.warn(&no.to_string());
        }
        Spans::default()
    })
}

/// Sends what was told and not sent yet.
pub async fn flush(spans: &Spans) {
    spans.flush(FLUSH).await;
}

/// An order that is being given.
#[derive(Debug)]
pub struct Order {
    spans: Spans,
    verb: &'static str,
    above: Option<TraceParent>,
    own: Option<TraceParent>,
    start: Timestamp,
}

impl Order {
    /// Begins now. Without a collector the order is a part of the trace that the CLI was started in, if any.
    pub fn begin(out: &Output, spans: &Spans, verb: &'static str) -> Self {
        let above = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()).and_then(|text| {
            let parsed = text.parse::<TraceParent>();
            parsed.map_err(|error| out.warn(&format!("{VARIABLE}: {error}; the order begins a trace"))).ok()
        });
        let own = if spans.is_on() { Some(own(above)) } else { above };
        Self { spans: spans.clone(), verb, above, own, start: Timestamp(now_ms()) }
    }

    /// The call, with what those go by who are called.
    pub fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = self.own.and_then(|own| own.to_string().parse().ok()) {
            request.metadata_mut().insert(TraceParent::HEADER, value);
        }
        request
    }

    /// The rollout has begun. The collector is told at once: who ordered may leave.
    pub fn answered(self, rollout: &Rollout) {
        let Self { spans, verb, above, own, start } = self;
        let Some(id) = own.filter(|_| spans.is_on()) else { return };
        let version = rollout.to.as_ref().map(|to| to.version.clone()).unwrap_or_default();
        spans.tell(Span {
            id,
            under: above.map(TraceParent::span),
            name: format!("windlass {verb}").into(),
            start,
            end: Timestamp(now_ms()),
            attributes: vec![
                ("windlass.rollout", rollout.id.clone()),
                ("windlass.app", rollout.app.clone()),
                ("windlass.version", version),
            ],
            error: None,
        });
        // Nobody waits for it; the end of the program does, a little.
        drop(tokio::spawn(async move { spans.flush(FLUSH).await }));
    }
}

/// A span under the one above, or the root of a trace.
fn own(above: Option<TraceParent>) -> TraceParent {
    let random = || rand::random_range(1..=u64::MAX);
    let span = NonZeroU64::new(random()).unwrap_or(NonZeroU64::MIN);
    match above {
        Some(above) => above.about(&format!("{span:016x}")),
        None => {
            let trace = NonZeroU128::new(u128::from(random()) << 64 | u128::from(random()));
            TraceParent::root(trace.unwrap_or(NonZeroU128::MIN), span)
        }
    }
}
