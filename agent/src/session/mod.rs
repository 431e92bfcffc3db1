//! The way to the coordinator: one task that keeps a session open, dials again when it breaks, and has a certificate
//! whenever it dials.
//!
//! | file | idea |
//! |---|---|
//! | [`stream`] | one session, from its greeting to its end |
//! | [`inbound`] | what a coordinator says, in the domain's types |
//! | [`authors`] | grants that come with it |
//! | [`reading`] | answers to operators' questions |
//! | `sent` | statuses on their way up |
//! | [`renewal`] | a new certificate at half life |

pub mod authors;
pub mod inbound;
pub mod reading;
pub mod renewal;
mod sent;
pub mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use windlass_proto::bundle::Trust;
use windlass_proto::time::Timestamp;
use windlass_proto::tls::{self, ConnectError};
use windlass_release::BootTime;

use self::stream::End;
use crate::audit_seen;
use crate::backoff::Backoff;
use crate::clock;
use crate::config::{JoinTokenSource, Settings};
use crate::enrol::{self, EnrolError};
use crate::exchange::{FromSession, Published};
use crate::identity::{Identity, Vault};
use crate::layout::Layout;
use crate::pulse::Pulse;

/// Between two attempts to reach a coordinator. A coordinator that comes back waits 30 s for its hosts, so that the
/// longest wait is well below that.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(10) };

/// Between two attempts that only a person can make succeed.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// What is known of the way to the coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The coordinator of the open session.
    pub connected: Option<String>,
    /// When it was opened or lost; absent before the first.
    pub since: Option<Timestamp>,
    /// Epoch of the coordinator that welcomed last.
    pub epoch: u64,
    /// Why there is no session.
    pub problem: String,
}

impl LinkState {
    /// For people: `connected to 10.0.0.1:7443 for 5m`.
    pub fn words(&self, now: Timestamp) -> String {
        let since = self.since.map_or_else(String::new, |since| {
            let span = now.since(since);
            format!(" for {}", windlass_proto::time::Span(span.0 / 1000 * 1000))
        });
        match &self.connected {
            Some(address) => format!("connected to {address}{since}"),
            None if self.problem.is_empty() => "not connected yet".to_owned(),
            None => format!("not connected{since}: {}", self.problem),
        }
    }
}

/// What the session task works with.
#[derive(Debug)]
pub struct Link {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The pinned author keys.
    pub trust: Arc<Trust>,
    /// Names of all paths.
    pub layout: Layout,
    /// Key and certificate.
    pub vault: Vault,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// To the driver.
    pub orders: mpsc::Sender<FromSession>,
    /// From the driver.
    pub published: watch::Receiver<Published>,
    /// For everybody who wants to know.
    pub state: watch::Sender<LinkState>,
    /// What was seen of the coordinator's audit log.
    pub audit: audit_seen::Keeper,
    /// The certificate in use.
    pub identity: watch::Sender<Option<Arc<Identity>>>,
    /// Ends the task.
    pub stop: CancellationToken,
    /// Its progress while a session is open.
    pub pulse: Pulse,
}

impl Link {
    /// Keeps a session open until stopped. Ends early only where a host that was never enrolled cannot be.
    pub async fn run(mut self) -> Result<(), EnrolError> {
        let stop = self.stop.clone();
        let never_enrolled = matches!(self.vault.certificate(), Ok(None));
        let mut attempt = 0;
        let mut turn = 0;
        let mut anew = false;
        loop {
            let endpoints = &self.settings.coordinators;
            let address = endpoints[turn % endpoints.len()].clone();
            let work = self.dial(&address, std::mem::take(&mut anew));
            let ended = tokio::select! {
                ended = work => ended,
                () = stop.cancelled() => return Ok(()),
            };
            let wait = match ended {
                Ok(End::Redial) => {
                    attempt = 0;
                    Duration::ZERO
                }
                Ok(End::Broken { welcomed, unknown, problem }) => {
                    tracing::warn!(coordinator = address, problem, "session ended");
                    // A certificate that is valid and yet refused is of no more use than none.
                    anew = unknown;
                    self.lost(problem);
                    turn += 1;
                    attempt = if welcomed { 0 } else { attempt + 1 };
                    BACKOFF.wait(attempt, rand::random())
                }
                Err(error) => {
                    let fatal = never_enrolled && !error.is_transient() && self.identity.borrow().is_none();
                    if fatal {
                        return Err(error);
                    }
                    let problem = in_words(&error);
                    tracing::warn!(coordinator = address, problem, "no certificate");
                    self.lost(problem);
                    turn += 1;
                    attempt += 1;
                    let most = if error.is_transient() { Duration::ZERO } else { REFUSED_PAUSE };
                    BACKOFF.wait(attempt, rand::random()).max(most)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn dial(&mut self, address: &str, anew: bool) -> Result<End, EnrolError> {
        let redials = self.published.borrow_and_update().redials;
        let opened_at = BootTime(clock::boot_ms());
        let identity = self.certificate(address, anew).await?;
        let channel = match tls::connect(address, Arc::clone(&identity.tls)).await {
            Ok(channel) => channel,
            Err(error) => {
                // The fleet was made anew, or has revoked this certificate: the token may be newer than both.
                let unknown =
                    error.is_certificate_refused() && self.settings.join_token != JoinTokenSource::Absent;
                return Ok(End::Broken { welcomed: false, unknown, problem: in_words(&error) });
            }
        };
        Ok(stream::run(self, address, channel, opened_at, redials).await)
    }

    /// The certificate in use, or a new one where there is none that is valid, or none that is accepted (`anew`).
    async fn certificate(&self, address: &str, anew: bool) -> Result<Arc<Identity>, EnrolError> {
        let now = self.vault.time().now();
        let in_use = self.identity.borrow().as_ref().filter(|identity| now < identity.until).cloned();
        if let Some(identity) = in_use.filter(|_| !anew) {
            return Ok(identity);
        }
        let identity = match enrol::present(&self.vault)?.filter(|_| !anew) {
            Some(identity) => identity,
            None => enrol::enrol(address, &self.settings, &self.vault).await?,
        };
        let identity = Arc::new(identity);
        self.identity.send_replace(Some(Arc::clone(&identity)));
        Ok(identity)
    }

    fn lost(&self, problem: String) {
        self.state.send_modify(|state| {
            if state.connected.take().is_some() || state.since.is_none() {
                state.since = Some(clock::wall());
            }
            state.problem = problem;
        });
    }
}

/// An error with its causes on one line.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

/// Connections beside the session, for bulk: a full window of chunks must not hold up a lease.
#[derive(Debug, Clone)]
pub struct Bulk {
    coordinators: Vec<String>,
    identity: watch::Receiver<Option<Arc<Identity>>>,
    state: watch::Receiver<LinkState>,
}

/// No connection for bulk.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// The host has no certificate yet.
    #[error("this host is not enrolled yet")]
    NotEnrolled,
    /// No coordinator can be reached.
    #[error("no coordinator can be reached")]
    Connect(#[from] ConnectError),
}

impl Bulk {
    /// Beside the sessions of this link.
    pub fn new(link: &Link) -> Self {
        Self {
            coordinators: link.settings.coordinators.clone(),
            identity: link.identity.subscribe(),
            state: link.state.subscribe(),
        }
    }

    /// A new connection, to the coordinator of the session if there is one.
    pub async fn channel(&self) -> Result<Channel, BulkError> {
        let identity = self.identity.borrow().clone().ok_or(BulkError::NotEnrolled)?;
        let connected = self.state.borrow().connected.clone();
        let first = connected.into_iter();
        let mut last = BulkError::NotEnrolled;
        for address in first.chain(self.coordinators.iter().cloned()) {
            match tls::connect(&address, Arc::clone(&identity.tls)).await {
                Ok(channel) => return Ok(channel),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

/// Where the session's facts about the disk come from.
fn disk(settings: &Settings) -> PathBuf {
    settings.state_dir.clone()
}
