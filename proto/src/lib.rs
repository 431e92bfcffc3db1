//! The contract: everything that two windlass programs must agree on.
//!
//! Test for admission: would a mismatch between two installed versions break them? There is no `common` here.
//! Without features this crate is pure data and compiles neither C code nor a runtime:
//!
//! * [`id`], [`digest`], [`release`]: names and identities, parsed at the border into types that cannot be wrong.
//! * [`phase`]: what a host says of an app: phases, outcomes, faults, attestation, evidence.
//! * [`spec`]: windlass.yaml as types, with its rules.
//! * [`fence`]: who may lead a host. [`counter`]: how releases' counters may rise. [`grant`]: the way below the highest one that a
//!   host has seen.
//! * [`event`]: the kinds of events. [`feature`]: what a host can do. [`refused`]: what it does not.
//! * [`bundle`]: the signed manifest; with feature `bundle` also chunks, signatures, building and verification.
//! * [`shown`]: texts from elsewhere, for a person's eyes.
//! * [`trace`]: which trace an order belongs to; with feature `otlp` also the way to a collector.
//! * [`time`], [`limits`], [`version`]: units, bounds and numbers both ends keep to.
//!
//! Feature `rpc` adds [`rpc`] (generated gRPC code and its conversions), feature `tls` adds [`tls`], feature `metrics` adds
//! [`metrics`].

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod bundle;
pub mod counter;
pub mod digest;
pub mod event;
pub mod feature;
pub mod fence;
pub mod grant;
pub mod id;
pub mod limits;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod phase;
pub mod refused;
pub mod release;
#[cfg(feature = "rpc")]
pub mod rpc;
pub mod shown;
pub mod spec;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
pub mod trace;
pub mod version;
