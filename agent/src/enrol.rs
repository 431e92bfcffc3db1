//! How a host gets its certificate: enrolment by join token and CSR, renewal at half life, and coming back after a long
//! absence by proof of the enrolled key.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tonic::transport::Channel;
use windlass_proto::id::HostId;
use windlass_proto::rpc::agent_service_client::AgentServiceClient;
use windlass_proto::rpc::{ChallengeRequest, EnrollRequest, EnrollResponse, ErrorKind, RenewRequest};
use windlass_proto::tls::{self, Challenge, ConnectError, InvalidJoinToken, JoinToken, Key, TlsError};

use crate::config::Settings;
use crate::file::FileError;
use crate::identity::{Certificate, Identity, IdentityError, Vault};

/// Longest wait for the coordinator's answer.
const ANSWER: Duration = Duration::from_secs(25);

/// Why a host has no (new) certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The host has neither a certificate nor a way to get one.
    #[error(
        "this host is not enrolled and has no join token; make one with `windlass token create` and set join_token or \
         join_token_file in agent.toml"
    )]
    NoToken,
    /// The token's file.
    #[error("cannot read the join token")]
    TokenFile(#[source] FileError),
    /// The token is malformed.
    #[error("join_token in agent.toml cannot be used")]
    Token(#[from] InvalidJoinToken),
    /// Key or certificate on this host.
    #[error("cannot use the host's identity")]
    Identity(#[from] IdentityError),
    /// No connection.
    #[error("no coordinator can be reached for enrolment")]
    Connect(#[from] ConnectError),
    /// The coordinator says no.
    #[error("coordinator {address} refused: {message}")]
    Refused {
        /// Which.
        address: String,
        /// Its words.
        message: String,
        /// Whether the same request may be accepted later.
        transient: bool,
    },
    /// The coordinator did not answer.
    #[error("coordinator {0} did not answer the enrolment in 25 s")]
    Silent(String),
    /// The answer cannot be used.
    #[error("coordinator {address} answered with an unusable certificate")]
    Answer {
        /// Which.
        address: String,
        /// Why.
        source: TlsError,
    },
    /// The connection has no challenge that a CSR could name.
    #[error("coordinator {0} answered with an unusable challenge")]
    Challenge(String),
    /// The answer names no valid host id.
    #[error("coordinator {0} answered with an unusable host id")]
    HostId(String),
}

impl EnrolError {
    /// Whether trying again may help without anybody doing something.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Silent(_) => true,
            Self::Refused { transient, .. } => *transient,
            _ => false,
        }
    }

    fn refused(address: &str, status: &tonic::Status) -> Self {
        let transient = ErrorKind::of(status).is_transient();
        Self::Refused { address: address.to_owned(), message: status.message().to_owned(), transient }
    }
}

/// Enrols at one coordinator, and keeps the certificate. A host that was enrolled proves its key by its CSR and gets its
/// own id back; only where that is refused, or the token is of another fleet, its token is used again.
pub async fn enrol(address: &str, settings: &Settings, vault: &Vault) -> Result<Identity, EnrolError> {
    let former = vault.certificate()?;
    let token = match settings.join_token.read() {
        Ok(Some(text)) => Some(text.parse::<JoinToken>()?),
        Ok(None) => None,
        // The file was needed once and may be gone since.
        Err(_) if former.is_some() => None,
        Err(error) => return Err(EnrolError::TokenFile(error)),
    };
    let key = vault.key()?;
    if let Some(former) = former {
        let known = tls::ca_pin(&former.ca_pem).map_err(IdentityError::Tls)?;
        if token.as_ref().is_none_or(|token| token.pin() == known) {
            let config = tls::client_config(&former.ca_pem, None).map_err(IdentityError::Tls)?;
            let config = vault.time().judge(config);
            let again = ask(address, config, settings, &key, String::new()).await;
            match (again, &token) {
                (Err(EnrolError::Refused { transient: false, .. }), Some(_)) => {}
                (again, _) => return keep(address, settings, vault, &key, again?),
            }
        }
    }
    let Some(token) = token else { return Err(EnrolError::NoToken) };
    let config = tls::enrol_client_config(token.pin()).map_err(IdentityError::Tls)?;
    let config = vault.time().judge(config);
    let answer = ask(address, config, settings, &key, token.to_string()).await?;
    // The pin decides whom to trust from now on, not the answer.
    tls::verify_ca_pin(&answer.ca_pem, token.pin())
        .map_err(|source| EnrolError::Answer { address: address.to_owned(), source })?;
    keep(address, settings, vault, &key, answer)
}

async fn ask(
    address: &str,
    config: Arc<ClientConfig>,
    settings: &Settings,
    key: &Key,
    token: String,
) -> Result<EnrollResponse, EnrolError> {
    let mut client = AgentServiceClient::new(tls::connect(address, config).await?);
    let given = answer(address, client.challenge(ChallengeRequest {})).await?;
    let challenge =
        Challenge::from_bytes(&given.challenge).ok_or_else(|| EnrolError::Challenge(address.to_owned()))?;
    let request = EnrollRequest {
        token,
        name: settings.name.to_string(),
        csr_pem: key.csr_pem_for(&challenge).map_err(IdentityError::Tls)?,
        address: settings.address.to_string(),
        labels: settings.labels.clone().into_iter().collect(),
    };
    let enrolled = answer(address, client.enroll(request)).await?;
    if !enrolled.ignored_labels.is_empty() {
        tracing::warn!(
            labels = enrolled.ignored_labels.join(","),
            "labels of agent.toml that the fleet does not know are not taken \
            without a join token; set them with `windlass host label`"
        );
    }
    Ok(enrolled)
}

/// Gets a new certificate for the same key over a channel opened with the present one.
pub async fn renew(
    address: &str,
    channel: Channel,
    settings: &Settings,
    vault: &Vault,
) -> Result<Identity, EnrolError> {
    let key = vault.key()?;
    let request = RenewRequest { csr_pem: key.csr_pem().map_err(IdentityError::Tls)? };
    let answer = answer(address, AgentServiceClient::new(channel).renew(request)).await?;
    keep(address, settings, vault, &key, answer)
}

async fn answer<T>(
    address: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, EnrolError> {
    let answer = tokio::time::timeout(ANSWER, call).await;
    let answer = answer.map_err(|_| EnrolError::Silent(address.to_owned()))?;
    Ok(answer.map_err(|status| EnrolError::refused(address, &status))?.into_inner())
}

/// An answer is used before it is kept, so that a bad one does not replace a good certificate.
fn keep(
    address: &str,
    settings: &Settings,
    vault: &Vault,
    key: &Key,
    answer: EnrollResponse,
) -> Result<Identity, EnrolError> {
    let host_id = HostId::new(&answer.host_id).map_err(|_| EnrolError::HostId(address.to_owned()))?;
    let EnrollResponse { certificate_pem, ca_pem, fleet, .. } = answer;
    let identity = Identity::new(key, Certificate { host_id, fleet, certificate_pem, ca_pem }, vault.time())
        .map_err(|source| EnrolError::Answer { address: address.to_owned(), source })?;
    vault.keep(&identity.certificate).map_err(IdentityError::File)?;
    tracing::info!(host = %settings.name, id = %identity.certificate.host_id, fleet = identity.certificate.fleet,
        "certificate received");
    Ok(identity)
}

/// The certificate on this host, if there is one that is valid now.
pub fn present(vault: &Vault) -> Result<Option<Identity>, IdentityError> {
    let Some(certificate) = vault.certificate()? else { return Ok(None) };
    let identity = Identity::new(&vault.key()?, certificate, vault.time())?;
    Ok((vault.time().now() < identity.until).then_some(identity))
}
