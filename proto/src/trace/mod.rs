//! Traces of rollouts, in the terms of W3C Trace Context and OpenTelemetry: one trace from an operator's order to what each host
//! did.
//!
//! [`TraceParent`] goes along with an order: as `traceparent` in the metadata of a call, in the rollout's record, and in each
//! assignment. Each program tells a collector of the [`Span`]s that it has seen itself: [`Spans`], with feature `otlp`. Ids of
//! spans follow from what they are about, so that a program that was started again goes on in the same trace.

#[cfg(feature = "otlp")]
mod otlp;
mod parent;
mod spans;

pub use parent::{NotTraceParent, TraceParent};
pub use spans::{NoCollector, Program, Span, Spans};
