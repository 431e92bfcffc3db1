//! A certificate authority of a fleet: makes itself, and issues for coordinators, operators and agents.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    SigningKey,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::peer::only_uri;
use super::{Challenge, Credentials, Key, Peer, SERVER_NAME, TlsError};
use crate::digest::Digest;
use crate::id::{CoordinatorId, FleetName, HostId, OperatorName};
use crate::time::Timestamp;

/// Certificates begin this long before they are issued, for hosts whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// Lifetime of a CA; rotation is an operator's act.
const CA_DAYS: u32 = 3650;
const CSR_BYTES: usize = 16 * 1024;

/// One of a fleet's two CAs.
pub struct Ca {
    fleet: FleetName,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a CA: a new key and a certificate that may sign leaves only.
    pub fn generate(common_name: &str, fleet: &str) -> Result<Self, TlsError> {
        let fleet = FleetName::new(fleet)?;
        let key = Key::generate()?;
        let mut params = parameters(common_name, Life::of(Duration::from_hours(24) * CA_DAYS))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{fleet}"))?];
        let certificate = params.self_signed(key.pair()).map_err(TlsError::Issue)?;
        Self::load(&certificate.pem(), &key.to_pem())
    }

    /// Reads a CA from its certificate and key, both PEM. The fleet is what the certificate says.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let certificate = certificate_of(certificate_pem)?;
        let key = Key::from_pem(key_pem)?;
        let fleet = only_uri(&certificate)?;
        let fleet = FleetName::new(fleet.strip_prefix("spiffe://").ok_or(TlsError::NoFleet)?)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|error| TlsError::Malformed(error.to_string()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key() {
            return Err(TlsError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key.into_pair()).map_err(TlsError::Issue)?;
        Ok(Self {
            fleet,
            issuer,
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            certificate,
        })
    }

    /// The CA's certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The CA's private key: for a file of mode 0600 and nothing else.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Signs a statement that is no certificate.
    pub(super) fn sign(&self, statement: &[u8]) -> Result<Vec<u8>, TlsError> {
        self.issuer.key().sign(statement).map_err(TlsError::Key)
    }

    /// The fleet.
    pub const fn fleet(&self) -> &FleetName {
        &self.fleet
    }

    /// What a join token pins: BLAKE3 of the certificate's DER.
    pub fn pin(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// A key and certificate for a coordinator's listener, with the CA's certificate in the chain (enrolling agents
    /// find the pinned CA there).
    pub fn issue_server(&self, id: &str, days: u32) -> Result<Credentials, TlsError> {
        let peer = Peer::Coordinator(CoordinatorId::new(id)?);
        self.issue(&peer, ExtendedKeyUsagePurpose::ServerAuth, days)
    }

    /// A key and certificate for an operator.
    pub fn issue_operator(&self, name: &str, days: u32) -> Result<Credentials, TlsError> {
        let peer = Peer::Operator(OperatorName::new(name)?);
        self.issue(&peer, ExtendedKeyUsagePurpose::ClientAuth, days)
    }

    /// A certificate for the key of `csr_pem`, which must have signed the request; nothing else of it is used, so an
    /// agent cannot ask for another identity. It is valid from `now`, which is the time that this end judges
    /// certificates by.
    pub fn sign_agent_csr(
        &self,
        csr_pem: &str,
        id: &HostId,
        hours: u32,
        now: Timestamp,
    ) -> Result<String, TlsError> {
        let csr = parse_csr(csr_pem)?;
        let life = Life { from: now, lasts: Duration::from_hours(1) * hours };
        self.certify(&csr.public_key, &Peer::Agent(id.clone()), ExtendedKeyUsagePurpose::ClientAuth, life)
    }

    fn issue(&self, peer: &Peer, usage: ExtendedKeyUsagePurpose, days: u32) -> Result<Credentials, TlsError> {
        let key = Key::generate()?;
        let life = Life::of(Duration::from_hours(24) * days);
        let leaf = self.certify(key.pair(), peer, usage, life)?;
        Ok(Credentials { certificate_pem: format!("{leaf}{}", self.certificate_pem), key_pem: key.to_pem() })
    }

    fn certify(
        &self,
        key: &impl PublicKeyData,
        peer: &Peer,
        usage: ExtendedKeyUsagePurpose,
        life: Life,
    ) -> Result<String, TlsError> {
        let mut params = parameters(&peer.to_string(), life)?;
        params.subject_alt_names = vec![uri(&peer.uri(&self.fleet))?];
        if usage == ExtendedKeyUsagePurpose::ServerAuth {
            params.subject_alt_names.push(SanType::DnsName(SERVER_NAME.try_into().map_err(TlsError::Issue)?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(TlsError::Issue)?;
        Ok(certificate.pem())
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("fleet", &self.fleet).field("pin", &self.pin()).finish_non_exhaustive()
    }
}

/// The raw public key of a CSR that its key has signed: what tells a host that enrols again from another one.
pub fn csr_public_key(csr_pem: &str) -> Result<Vec<u8>, TlsError> {
    Ok(parse_csr(csr_pem)?.public_key.der_bytes().to_vec())
}

/// The same of a CSR by which a host enrols over the connection with this challenge.
pub fn enrolling_public_key(csr_pem: &str, challenge: &Challenge) -> Result<Vec<u8>, TlsError> {
    let csr = parse_csr(csr_pem)?;
    match challenge.is_answered_by(&csr.params.distinguished_name) {
        true => Ok(csr.public_key.der_bytes().to_vec()),
        false => Err(TlsError::CsrChallenge),
    }
}

fn parse_csr(csr_pem: &str) -> Result<CertificateSigningRequestParams, TlsError> {
    if csr_pem.len() > CSR_BYTES {
        return Err(TlsError::CsrSize(csr_pem.len()));
    }
    CertificateSigningRequestParams::from_pem(csr_pem).map_err(TlsError::Csr)
}

pub(super) fn certificate_of(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|source| TlsError::Pem { what: "certificate", source })
}

fn uri(text: &str) -> Result<SanType, TlsError> {
    Ok(SanType::URI(text.try_into().map_err(TlsError::Issue)?))
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
struct Life {
    from: Timestamp,
    lasts: Duration,
}

impl Life {
    /// From now on by the wall clock.
    fn of(lasts: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { from: Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)), lasts }
    }
}

fn parameters(common_name: &str, life: Life) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let from = Duration::from_millis(u64::try_from(life.from.0).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + from.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + (from + life.lasts);
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| TlsError::Random)?;
    // Positive and of constant length.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_survives_its_text_form() {
        let ca = Ca::generate("dev agents", "dev").unwrap();
        let again = Ca::load(ca.certificate_pem(), ca.key_pem()).unwrap();
        assert_eq!(again.fleet().as_str(), "dev");
        assert_eq!(again.pin(), ca.pin());
        assert!(!format!("{ca:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_foreign_key_or_garbage_is_refused() {
        let (one, two) = (Ca::generate("a", "dev").unwrap(), Ca::generate("a", "dev").unwrap());
        assert!(matches!(Ca::load(one.certificate_pem(), two.key_pem()), Err(TlsError::KeyMismatch)));
        assert!(Ca::load("", one.key_pem()).is_err());
        assert!(Ca::load(one.certificate_pem(), "").is_err());
        assert!(Ca::generate("a", "No Fleet").is_err());
    }

    #[test]
    fn identities_round_trip_through_certificates() {
        let ca = Ca::generate("dev agents", "dev").unwrap();
        let key = Key::generate().unwrap();
        let host = HostId::new("0b5c").unwrap();
        let csr = key.csr_pem().unwrap();
        assert_eq!(csr_public_key(&csr).unwrap(), key.public_key());
        let leaf =
            certificate_of(&ca.sign_agent_csr(&csr, &host, 24, Life::of(Duration::ZERO).from).unwrap())
                .unwrap();
        let (peer, fleet) = Peer::with_fleet(&leaf).unwrap();
        assert_eq!((peer, fleet.as_str()), (Peer::Agent(host), "dev"));
        let ana = ca.issue_operator("ana", 30).unwrap();
        let peer = Peer::from_der(&certificate_of(&ana.certificate_pem).unwrap()).unwrap();
        assert_eq!(peer.to_string(), "operator/ana");
        assert!(Peer::from_der(&ca.certificate).is_err(), "a CA is nobody");
    }

    #[test]
    fn a_csr_cannot_choose_its_identity() {
        let ca = Ca::generate("dev agents", "dev").unwrap();
        let key = Key::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "operator/root");
        params.subject_alt_names = vec![uri("spiffe://dev/operator/root").unwrap()];
        let csr = params.serialize_request(key.pair()).unwrap().pem().unwrap();
        let host = HostId::new("0b5c").unwrap();
        let leaf =
            certificate_of(&ca.sign_agent_csr(&csr, &host, 24, Life::of(Duration::ZERO).from).unwrap())
                .unwrap();
        assert_eq!(Peer::from_der(&leaf).unwrap(), Peer::Agent(host));
    }

    #[test]
    fn a_csr_enrols_over_its_own_connection_only() {
        let key = Key::generate().unwrap();
        let (own, other) = (Challenge::draw().unwrap(), Challenge::draw().unwrap());
        let csr = key.csr_pem_for(&own).unwrap();
        assert_eq!(enrolling_public_key(&csr, &own).unwrap(), key.public_key());
        for (csr, challenge) in [(&csr, &other), (&key.csr_pem().unwrap(), &own)] {
            assert!(matches!(enrolling_public_key(csr, challenge), Err(TlsError::CsrChallenge)));
        }
        assert_eq!(Challenge::from_bytes(own.as_bytes()), Some(own));
        assert_eq!(Challenge::from_bytes(&[0; 15]), None);
    }

    #[test]
    fn a_csr_that_its_key_did_not_sign_is_refused() {
        let key = Key::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let mut der = params.serialize_request(key.pair()).unwrap().der().to_vec();
        // The last bytes are the signature's.
        let last = der.len() - 1;
        der[last] ^= 1;
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
        assert!(matches!(csr_public_key(&pem), Err(TlsError::Csr(_))));
        assert!(matches!(csr_public_key(&"x".repeat(20_000)), Err(TlsError::CsrSize(20_000))));
    }
}
