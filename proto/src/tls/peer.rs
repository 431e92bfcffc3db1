//! Who is at the other end of a connection, as its verified certificate says.

use std::fmt;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::ca::certificate_of;
use super::{Credentials, TlsError};
use crate::id::{CoordinatorId, FleetName, HostId, OperatorName};

/// A caller's identity. Only from certificates that TLS has verified; the listener's CA decides which kinds can appear.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// No certificate; may enrol and nothing else.
    Anonymous,
    /// The agent of a host.
    Agent(HostId),
    /// A person or CI job.
    Operator(OperatorName),
    /// A coordinator of the fleet.
    Coordinator(CoordinatorId),
}

impl Peer {
    /// Reads the identity from a certificate's one SPIFFE URI, `spiffe://FLEET/agent/ID` and so on.
    pub fn from_der(leaf: &[u8]) -> Result<Self, TlsError> {
        Self::with_fleet(leaf).map(|(peer, _)| peer)
    }

    /// The identity of a connection's client, given the certificates that TLS accepted from it.
    pub fn of_connection(certificates: Option<&[CertificateDer<'_>]>) -> Result<Self, TlsError> {
        match certificates.and_then(<[_]>::first) {
            None => Ok(Self::Anonymous),
            Some(leaf) => Self::from_der(leaf),
        }
    }

    /// Like [`Peer::from_der`], with the fleet.
    pub fn with_fleet(leaf: &[u8]) -> Result<(Self, FleetName), TlsError> {
        let uri = only_uri(leaf)?;
        let refused = || TlsError::Identity(uri.chars().take(200).collect());
        let (fleet, rest) =
            uri.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).ok_or_else(refused)?;
        let fleet = FleetName::new(fleet)?;
        let peer = match rest.split_once('/').ok_or_else(refused)? {
            ("agent", id) => Self::Agent(HostId::new(id)?),
            ("operator", name) => Self::Operator(OperatorName::new(name)?),
            ("coordinator", id) => Self::Coordinator(CoordinatorId::new(id)?),
            _ => return Err(refused()),
        };
        Ok((peer, fleet))
    }

    pub(super) fn uri(&self, fleet: &FleetName) -> String {
        match self {
            Self::Anonymous => format!("spiffe://{fleet}"),
            peer => format!("spiffe://{fleet}/{peer}"),
        }
    }
}

/// `agent/ID`, `operator/NAME`, `coordinator/ID` or `anonymous`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Agent(id) => write!(f, "agent/{id}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
            Self::Coordinator(id) => write!(f, "coordinator/{id}"),
        }
    }
}

/// A certificate's parts.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, TlsError> {
    let parsed = x509_parser::parse_x509_certificate(der);
    parsed.map(|(_, certificate)| certificate).map_err(|error| TlsError::Malformed(error.to_string()))
}

/// A certificate's serial number, in hex.
pub fn serial_number(der: &[u8]) -> Result<String, TlsError> {
    Ok(parse(der)?.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Credentials {
    /// The certificate's serial number, in hex.
    pub fn serial_number(&self) -> Result<String, TlsError> {
        serial_number(&certificate_of(&self.certificate_pem)?)
    }
}

/// The one URI among a certificate's subject alternative names. Two would leave it to the reader whom to believe.
pub(super) fn only_uri(der: &[u8]) -> Result<String, TlsError> {
    let certificate = parse(der)?;
    let mut uris = certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        (None, _) => Err(TlsError::Identity("it has no URI".into())),
        _ => Err(TlsError::Identity("it has more than one URI".into())),
    }
}
