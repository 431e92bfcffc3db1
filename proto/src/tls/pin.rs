//! Trust by digest: an enrolling agent knows nothing of the fleet but what its join token pins.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::TlsError;
use super::ca::certificate_of;
use crate::digest::Digest;

/// The digest that a join token pins for the CA `ca_pem`.
pub fn ca_pin(ca_pem: &str) -> Result<Digest, TlsError> {
    Ok(Digest::of(&certificate_of(ca_pem)?))
}

/// Refuses a CA that is not the pinned one: for the CA in an enrolment's answer.
pub fn verify_ca_pin(ca_pem: &str, pin: Digest) -> Result<(), TlsError> {
    let found = ca_pin(ca_pem)?;
    if found == pin {
        Ok(())
    } else {
        Err(TlsError::Pin { pinned: pin.to_string(), found: found.to_string() })
    }
}

/// Accepts a chain whose CA has the pinned digest, and then asks of the leaf what is asked everywhere: signed by that
/// CA, valid now, for the name.
#[derive(Debug)]
pub(super) struct PinnedCa {
    pin: Digest,
    provider: Arc<CryptoProvider>,
}

impl PinnedCa {
    pub(super) const fn new(pin: Digest, provider: Arc<CryptoProvider>) -> Self {
        Self { pin, provider }
    }
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = intermediates
            .iter()
            .find(|certificate| Digest::of(certificate) == self.pin)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
