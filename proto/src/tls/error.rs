//! What can go wrong with keys, certificates and configurations.

use crate::id::InvalidName;

/// A key, certificate or configuration that cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text does not hold what it should.
    #[error("not a PEM {what}")]
    Pem {
        /// What it should hold.
        what: &'static str,
        /// Why it was not read.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate's DER cannot be parsed.
    #[error("malformed certificate: {0}")]
    Malformed(String),
    /// A key cannot be generated, read or used.
    #[error("unusable key")]
    Key(#[source] rcgen::Error),
    /// A certificate cannot be issued.
    #[error("cannot issue a certificate")]
    Issue(#[source] rcgen::Error),
    /// A certificate signing request is malformed or not signed by the key that it names.
    #[error("refused certificate signing request")]
    Csr(#[source] rcgen::Error),
    /// A certificate signing request is larger than any honest one.
    #[error("refused certificate signing request: it has {0} bytes, at most 16384 are read")]
    CsrSize(usize),
    /// A certificate signing request names another challenge than its connection's, or none.
    #[error("refused certificate signing request: it was not made for this connection")]
    CsrChallenge,
    /// The key and the certificate given together do not belong together.
    #[error("the key does not belong to the certificate")]
    KeyMismatch,
    /// The certificate of a CA does not say which fleet it is of.
    #[error("the CA certificate does not name its fleet")]
    NoFleet,
    /// A certificate's identity is missing or not one of windlass.
    #[error("no windlass identity in the certificate: {0}")]
    Identity(String),
    /// A name that goes into a certificate is invalid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The CA is not the pinned one.
    #[error("the CA's digest is {found}, the join token pins {pinned}")]
    Pin {
        /// What the join token says.
        pinned: String,
        /// What was presented.
        found: String,
    },
    /// rustls refuses the configuration.
    #[error("unusable TLS configuration")]
    Config(#[source] rustls::Error),
    /// rustls refuses the verifier of client certificates.
    #[error("unusable CA for client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The random number generator failed.
    #[error("no random numbers from the system")]
    Random,
}
