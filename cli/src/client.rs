//! The coordinator as the CLI sees it: one channel, three services, errors with a way out.
//!
//! This is the border that all texts from elsewhere cross: where people are to read them, nothing in them acts on their terminal
//! ([`windlass_proto::shown`]). Where programs are, they stay as they are; JSON has escapes of its own.

use std::path::Path;
use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};
use windlass_proto::limits;
use windlass_proto::rpc::ErrorKind;
use windlass_proto::rpc::audit::{HEAD_HEADER, Head};
use windlass_proto::rpc::bundle_service_client::BundleServiceClient;
use windlass_proto::rpc::fleet_service_client::FleetServiceClient;
use windlass_proto::rpc::rollout_service_client::RolloutServiceClient;
use windlass_proto::shown::Texts;
use windlass_proto::time::Timestamp;
use windlass_proto::tls::{self, ConnectError, Credentials};

use crate::config::{Config, Context};
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::heads::{Heads, Seen};
use crate::output::text::now_ms;

/// Longest that one answer may take: plans of large fleets are made in well under a second.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer: a list of rollouts names every host of each, some 200 bytes; the coordinator is trusted with more
/// than a message of ours may hold.
const ANSWER: usize = 256 << 20;

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
    heads: Heads,
    readers: Readers,
}

/// Who reads what is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readers {
    People,
    Programs,
}

impl Client {
    /// Connects with the context's identity.
    pub async fn connect(config: &Config, name: &str, context: &Context) -> Result<Self> {
        let read = |what: &str, path: &Path| {
            let path = config.resolve(path);
            std::fs::read_to_string(&path).map_err(|error| {
                ExpectedError::new(
                    Exit::NotAllowed,
                    format!("cannot read the {what} of context {name:?}, {}", path.display()),
                )
                .because(error)
                .hint("windlass context show")
            })
        };
        let own = Credentials {
            certificate_pem: read("certificate", &context.certificate)?,
            key_pem: read("private key", &context.key)?,
        };
        let ca = read("CA certificate", &context.ca)?;
        let tls = tls::client_config(&ca, Some(&own)).map_err(|error| {
            ExpectedError::new(
                Exit::NotAllowed,
                format!("the certificates of context {name:?} cannot be used"),
            )
            .because(error)
            .hint("windlass context show")
        })?;
        let address = context.coordinator.clone();
        let channel =
            tls::connect(&address, tls).await.map_err(|error| unreachable(name, &address, config, error))?;
        Ok(Self {
            bundles: BundleServiceClient::new(channel.clone())
                .max_decoding_message_size(ANSWER)
                .max_encoding_message_size(limits::MESSAGE_BYTES),
            rollouts: RolloutServiceClient::new(channel.clone()).max_decoding_message_size(ANSWER),
            fleet: FleetServiceClient::new(channel).max_decoding_message_size(ANSWER),
            context: name.to_owned(),
            address,
            heads: Heads::of(config, name, &ca),
            readers: Readers::People,
        })
    }

    /// The same for a program that reads: texts are as they came.
    #[must_use]
    pub fn for_programs(self) -> Self {
        Self { readers: Readers::Programs, ..self }
    }

    /// What was answered, for those who read it.
    pub fn received<T: Texts>(&self, answer: Response<T>) -> T {
        self.passed(answer.into_inner())
    }

    /// The next message of a stream, for those who read it.
    pub async fn next<T: Texts>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
        Ok(stream.message().await?.map(|message| self.passed(message)))
    }

    fn passed<T: Texts>(&self, message: T) -> T {
        match self.readers {
            Readers::People => message.for_eyes(),
            Readers::Programs => message,
        }
    }

    /// What was seen of the coordinator's audit log.
    pub const fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Keeps the audit log's head where an answer brings it. What was asked for has been done: that it cannot be kept is no
    /// reason to fail, and `windlass audit` says so.
    async fn remember(&self, metadata: &MetadataMap) {
        let text = metadata.get(HEAD_HEADER).and_then(|value| value.to_str().ok());
        if let Some(head) = text.and_then(|text| text.parse::<Head>().ok()) {
            let _ = self.heads.add(Seen { head, at: Timestamp(now_ms()) }).await;
        }
    }

    /// Where the coordinator is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The context's name.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// Makes one call, with a deadline; `subject` says what was attempted.
    pub async fn ask<T: Texts>(
        &self,
        subject: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        Ok(self.received(self.answer(subject, call).await?))
    }

    /// Opens a stream, whose messages [`Client::next`] gives.
    pub async fn open<T>(
        &self,
        subject: &str,
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Streaming<T>> {
        Ok(self.answer(subject, call).await?.into_inner())
    }

    async fn answer<T>(
        &self,
        subject: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(response)) => {
                self.remember(response.metadata()).await;
                Ok(response)
            }
            Ok(Err(status)) => {
                self.remember(status.metadata()).await;
                Err(self.failure(subject, &status))
            }
            Err(_) => {
                let late = format!("no answer from {} within {} s", self.address, CALL_TIMEOUT.as_secs());
                Err(self.failure(subject, &ErrorKind::TimedOut.status(late)))
            }
        }
    }

    /// What a refused or broken call means; `subject` says what was attempted ("cannot list hosts").
    pub fn failure(&self, subject: &str, status: &Status) -> ExpectedError {
        let error = ExpectedError::from_status(subject, status);
        match ErrorKind::of(status) {
            ErrorKind::Unavailable => {
                error.cause(format!("context {:?}, coordinator {}", self.context, self.address))
            }
            _ => error,
        }
    }
}

/// Exit 5, with the ways to reach a coordinator; exit 4 when it does not know the caller.
fn unreachable(name: &str, address: &str, config: &Config, error: ConnectError) -> ExpectedError {
    let file = config.path.display();
    if error.is_certificate_refused() {
        return ExpectedError::new(
            Exit::NotAllowed,
            format!("the coordinator at {address} and context {name:?} of {file} do not trust each other"),
        )
        .because(error)
        .hint("windlass context show")
        .hint(
            "windlass-coordinator issue-operator --state-dir DIR --name YOU --out DIR    (on its machine)",
        );
    }
    let error = ExpectedError::new(
        Exit::Unreachable,
        format!("cannot reach the coordinator at {address} (context {name:?} of {file})"),
    )
    .because(error);
    // A development fleet's directory holds its description beside the configuration.
    if config.dir().join("fleet.json").exists() {
        let dir = config.dir().display();
        return error.hint(format!("windlass dev up --dir {dir} --detach    (starts it again)"));
    }
    error
        .hint("systemctl status windlass-coordinator    (on the coordinator's machine)")
        .hint("windlass context list    (to use another: --context NAME)")
}
