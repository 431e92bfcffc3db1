//! What an enrolling host must put into its CSR, so that one that was sent before is of no use to anybody.

use std::fmt;

use rcgen::{DistinguishedName, DnType, DnValue};

use super::TlsError;

/// The random name that the coordinator gives to one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge([u8; 16]);

impl Challenge {
    /// One that nobody has drawn before.
    pub fn draw() -> Result<Self, TlsError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TlsError::Random)?;
        Ok(Self(bytes))
    }

    /// As it travels; `None` for anything but 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As it travels.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The subject of a CSR that answers it.
    pub(super) fn subject(&self) -> DistinguishedName {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, self.to_string());
        subject
    }

    /// Whether a CSR with this subject answers it.
    pub(super) fn is_answered_by(&self, subject: &DistinguishedName) -> bool {
        matches!(subject.get(&DnType::CommonName), Some(DnValue::Utf8String(name)) if *name == self.to_string())
    }
}

/// In hex.
impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
