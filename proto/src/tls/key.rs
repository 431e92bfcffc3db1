//! A private key of an agent or operator, and the request to have it certified.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::{Challenge, TlsError};

/// A P-256 key. Its text form is PKCS#8 PEM; it belongs into a file of mode 0600.
pub struct Key(KeyPair);

impl Key {
    /// Makes a new key.
    pub fn generate() -> Result<Self, TlsError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(TlsError::Key)
    }

    /// Reads a key from PKCS#8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        KeyPair::from_pem(pem).map(Self).map_err(TlsError::Key)
    }

    /// The key as PKCS#8 PEM.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The public key's raw bytes, as [`super::csr_public_key`] gives them for this key's CSR.
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key_raw()
    }

    /// A certificate signing request. It names nobody: who the certificate is for is decided by who signs it.
    pub fn csr_pem(&self) -> Result<String, TlsError> {
        self.csr_with(DistinguishedName::new())
    }

    /// The same for a connection whose other end does not know yet who this is.
    pub fn csr_pem_for(&self, challenge: &Challenge) -> Result<String, TlsError> {
        self.csr_with(challenge.subject())
    }

    fn csr_with(&self, subject: DistinguishedName) -> Result<String, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        let csr = params.serialize_request(&self.0).map_err(TlsError::Key)?;
        csr.pem().map_err(TlsError::Key)
    }

    pub(super) const fn pair(&self) -> &KeyPair {
        &self.0
    }

    pub(super) fn into_pair(self) -> KeyPair {
        self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_form_and_is_never_shown() {
        let key = Key::generate().unwrap();
        let again = Key::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.public_key(), again.public_key());
        assert_eq!(format!("{key:?}"), "Key(secret)");
        assert!(Key::from_pem("garbage").is_err());
    }
}
