//! The coordinator as the CLI sees it: one channel, three services, errors with a way out.

use std::path::Path;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use windlass_proto::limits;
use windlass_proto::rpc::bundle_service_client::BundleServiceClient;
use windlass_proto::rpc::fleet_service_client::FleetServiceClient;
use windlass_proto::rpc::rollout_service_client::RolloutServiceClient;

use crate::config::{Config, Context};
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;

/// The name in every coordinator's certificate, whatever its address.
const COORDINATOR_NAME: &str = "coordinator.windlass";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a coordinator.
#[derive(Debug, Clone)]
pub struct Client {
    /// Bundles.
    pub bundles: BundleServiceClient<Channel>,
    /// Rollouts.
    pub rollouts: RolloutServiceClient<Channel>,
    /// Hosts, tokens, events.
    pub fleet: FleetServiceClient<Channel>,
    context: String,
    address: String,
}

impl Client {
    /// Connects with the context's identity.
    pub async fn connect(config: &Config, name: &str, context: &Context) -> Result<Self> {
        let read = |what: &str, path: &Path| {
            let path = config.resolve(path);
            std::fs::read(&path).map_err(|error| {
                ExpectedError::new(
                    Exit::NotAllowed,
                    format!("cannot read the {what} of context {name:?}, {}", path.display()),
                )
                .because(error)
                .hint("windlass context show")
            })
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("CA certificate", &context.ca)?))
            .identity(Identity::from_pem(
                read("certificate", &context.certificate)?,
                read("private key", &context.key)?,
            ))
            .domain_name(COORDINATOR_NAME);
        let address = context.coordinator.clone();
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(|error| {
                ExpectedError::usage(format!("context {name:?} is not usable: coordinator {address:?}"))
                    .because(error)
                    .hint("windlass context show")
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .user_agent(format!("windlass/{}", windlass_proto::version::PROGRAM))
            .map_err(|error| ExpectedError::failed("cannot make a channel").because(error))?;
        let connect = tokio::time::timeout(CONNECT_TIMEOUT + Duration::from_secs(2), endpoint.connect());
        let channel = match connect.await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(unreachable(name, &address, config).because(error)),
            Err(_) => return Err(unreachable(name, &address, config).cause("no answer in time")),
        };
        Ok(Self {
            bundles: BundleServiceClient::new(channel.clone())
                .max_decoding_message_size(limits::MESSAGE_BYTES)
                .max_encoding_message_size(limits::MESSAGE_BYTES),
            rollouts: RolloutServiceClient::new(channel.clone())
                .max_decoding_message_size(limits::MESSAGE_BYTES),
            fleet: FleetServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES),
            context: name.to_owned(),
            address,
        })
    }

    /// Where the coordinator is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The context's name.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// What a refused or broken call means; `subject` says what was attempted ("cannot list hosts").
    pub fn failure(&self, subject: &str, status: &Status) -> ExpectedError {
        let error = ExpectedError::from_status(subject, status);
        match status.code() {
            Code::Unavailable => {
                error.cause(format!("context {:?}, coordinator {}", self.context, self.address))
            }
            _ => error,
        }
    }
}

/// Exit 5, with the ways to reach a coordinator.
fn unreachable(name: &str, address: &str, config: &Config) -> ExpectedError {
    let error = ExpectedError::new(
        Exit::Unreachable,
        format!("cannot reach the coordinator at {address} (context {name:?} of {})", config.path.display()),
    );
    // A development fleet's directory holds its description beside the configuration.
    if config.dir().join("fleet.json").exists() {
        return error
            .hint(format!("windlass dev up --dir {} --detach    (starts it again)", config.dir().display()));
    }
    error
        .hint("systemctl status windlass-coordinator    (on the coordinator's machine)")
        .hint("windlass context list    (to use another: --context NAME)")
}

/// A status of a transport that broke: worth connecting again.
pub fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
    )
}
