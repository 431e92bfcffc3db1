//! A collector, told by OpenTelemetry's own exporter: OTLP over gRPC, in batches, from a thread of its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{self as sdk, BatchSpanProcessor, SpanData, SpanProcessor as _};

use super::{Program, Span};
use crate::time::Timestamp;

/// Its queue and its thread. How many spans wait, how long, and in what batches: `OTEL_BSP_*`.
#[derive(Debug)]
pub(super) struct Collector {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Collector {
    /// Nothing is sent yet, so that one that is away is no error. What is wrong with the address is.
    pub(super) fn new(program: Program<'_>, endpoint: &str) -> Result<Self, String> {
        let uri: http::Uri = endpoint.trim().parse().map_err(|error| format!("{error}"))?;
        if uri.scheme() != Some(&http::uri::Scheme::HTTP) || uri.authority().is_none() {
            return Err("it does not begin with http://".into());
        }
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint.trim()).build();
        let exporter = exporter.map_err(|error| error.to_string())?;
        let watched =
            Watched { exporter, endpoint: endpoint.trim().to_owned(), failing: AtomicBool::new(false) };
        let mut processor = BatchSpanProcessor::builder(watched).build();
        processor.set_resource(&resource(program));
        let scope = InstrumentationScope::builder("windlass").with_version(program.version).build();
        Ok(Self { processor, scope })
    }

    pub(super) fn tell(&self, span: Span) {
        self.processor.on_end(data(span, self.scope.clone()));
    }

    /// Blocks until all is sent or given up.
    pub(super) fn flush(&self) {
        // Said by whoever sends.
        let _ = self.processor.force_flush();
    }
}

fn resource(program: Program<'_>) -> Resource {
    let mut builder = Resource::builder().with_attribute(KeyValue::new("service.version", program.version));
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        builder = builder.with_service_name(program.service);
    }
    if let Some(host) = program.host {
        builder = builder.with_attribute(KeyValue::new("host.name", host.to_owned()));
    }
    builder.build()
}

fn data(span: Span, scope: InstrumentationScope) -> SpanData {
    let Span { id, under, name, start, end, attributes, error } = span;
    let context = SpanContext::new(
        TraceId::from_bytes(id.trace().get().to_be_bytes()),
        SpanId::from_bytes(id.span().get().to_be_bytes()),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    SpanData {
        span_context: context,
        parent_span_id: under.map_or(SpanId::INVALID, |under| SpanId::from_bytes(under.get().to_be_bytes())),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name,
        start_time: system_time(start),
        end_time: system_time(end.max(start)),
        attributes: attributes.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect(),
        dropped_attributes_count: 0,
        events: sdk::SpanEvents::default(),
        links: sdk::SpanLinks::default(),
        status: error.map_or(Status::Ok, Status::error),
        instrumentation_scope: scope,
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + at.since(Timestamp(0)).std()
}

/// Says once that a collector takes nothing, and once that it does again.
struct Watched {
    exporter: SpanExporter,
    endpoint: String,
    failing: AtomicBool,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl sdk::SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        let endpoint = &self.endpoint;
        match (self.failing.swap(sent.is_err(), Ordering::Relaxed), &sent) {
            (false, Err(error)) => {
                tracing::warn!(endpoint, %error, "traces are dropped until their collector takes them");
            }
            (true, Ok(())) => tracing::info!(endpoint, "traces reach their collector again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
