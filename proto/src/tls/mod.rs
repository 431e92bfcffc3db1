//! Identities: certificate authorities, keys, rustls configurations, join tokens.
//!
//! A fleet has two CAs, one for agents and one for operators; each listener presents a certificate of its own CA and
//! accepts client certificates of that CA only. Every certificate says who it is by one SPIFFE URI ([`Peer`]); clients
//! always verify the DNS name [`SERVER_NAME`], whatever address they dialled. TLS 1.3 only, HTTP/2 by ALPN, aws-lc-rs
//! named explicitly so that no process-wide default matters. Nothing here touches files: texts in, texts out.
//!
//! * [`ca`]: make, load and use a CA. [`key`]: an agent's or operator's own key and its CSR.
//! * [`challenge`]: what binds a CSR to its connection.
//! * [`config`]: rustls configurations for both ends. [`pin`]: trusting a CA by digest, for enrolment.
//! * [`seal`]: the signature on a fence.
//! * [`steady`]: the time that certificates are judged by.
//! * [`peer`]: who is at the other end. [`token`]: join tokens.
//! * [`channel`] (feature `rpc`): tonic channels over these configurations, and the settings both ends of HTTP/2 keep.

pub mod ca;
pub mod challenge;
#[cfg(feature = "rpc")]
pub mod channel;
pub mod config;
pub mod error;
pub mod key;
pub mod peer;
pub mod pin;
pub mod seal;
pub mod steady;
pub mod token;

pub use ca::{Ca, csr_public_key, enrolling_public_key};
pub use challenge::Challenge;
#[cfg(feature = "rpc")]
pub use channel::{ConnectError, connect, http2_server};
pub use config::{
    ClientCertificates, Credentials, certificate_validity, client_config, enrol_client_config, server_config,
};
pub use error::TlsError;
pub use key::Key;
pub use peer::{Peer, serial_number};
pub use pin::{ca_pin, verify_ca_pin};
pub use seal::{draw_leader, fence_is_signed};
pub use steady::SteadyTime;
pub use token::{InvalidJoinToken, JoinToken};

/// The DNS name in every coordinator's certificate; clients verify it whatever address they dialled.
pub const SERVER_NAME: &str = "coordinator.windlass";
