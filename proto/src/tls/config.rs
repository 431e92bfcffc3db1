//! rustls configurations of listeners and clients.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::ca::certificate_of;
use super::pin::PinnedCa;
use super::{TlsError, peer};
use crate::digest::Digest;
use crate::time::Timestamp;

/// A certificate chain and its key, as PEM texts.
#[derive(Clone)]
pub struct Credentials {
    /// Leaf first.
    pub certificate_pem: String,
    /// PKCS#8: for a file of mode 0600 and nothing else.
    pub key_pem: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = certificate_of(&self.certificate_pem).and_then(|leaf| peer::only_uri(&leaf));
        f.debug_tuple("Credentials").field(&name.as_deref().unwrap_or("?")).finish()
    }
}

/// Whether a listener insists on a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// No handshake without one: the operators' listener.
    Required,
    /// A caller without one is [`super::Peer::Anonymous`]: the agents' listener, for `Enroll`.
    Optional,
}

/// The configuration of a listener that presents `own` and accepts clients of the CA `client_ca_pem`.
pub fn server_config(
    own: &Credentials,
    client_ca_pem: &str,
    clients: ClientCertificates,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(client_ca_pem)?, provider());
    let verifier = match clients {
        ClientCertificates::Required => verifier,
        ClientCertificates::Optional => verifier.allow_unauthenticated(),
    };
    let (chain, key) = parse(own)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Config)?
        .with_client_cert_verifier(verifier.build().map_err(TlsError::Verifier)?)
        .with_single_cert(chain, key)
        .map_err(TlsError::Config)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would outlive the certificate that opened it: every connection is verified anew.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The configuration of a client that trusts the CA `ca_pem` and presents `own`.
pub fn client_config(ca_pem: &str, own: Option<&Credentials>) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Config)?
        .with_root_certificates(roots(ca_pem)?);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = parse(own)?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Config)?
        }
    };
    Ok(finish(config))
}

/// The configuration of an enrolling agent: trusts only a chain whose CA has the digest `pin`, presents nothing.
pub fn enrol_client_config(pin: Digest) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa::new(pin, provider())))
        .with_no_client_auth();
    Ok(finish(config))
}

/// From when to when a certificate is valid: for renewal at half its life.
pub fn certificate_validity(certificate_pem: &str) -> Result<(Timestamp, Timestamp), TlsError> {
    let der = certificate_of(certificate_pem)?;
    let certificate = peer::parse(&der)?;
    let validity = certificate.validity();
    let point = |time: x509_parser::time::ASN1Time| Timestamp(time.timestamp().saturating_mul(1000));
    Ok((point(validity.not_before), point(validity.not_after)))
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    store.add(certificate_of(ca_pem)?).map_err(TlsError::Config)?;
    Ok(Arc::new(store))
}

fn parse(own: &Credentials) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(own.certificate_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what: "certificate chain", source })?;
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes())
        .map_err(|source| TlsError::Pem { what: "private key", source })?;
    Ok((chain, key))
}
