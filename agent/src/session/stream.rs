//! One session, from its greeting to its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use windlass_proto::fence::{self, Obeyed, Offer};
use windlass_proto::id::FleetName;
use windlass_proto::limits::MESSAGE_BYTES;
use windlass_proto::refused::OrderRefused;
use windlass_proto::rpc::agent_service_client::AgentServiceClient;
use windlass_proto::rpc::coordinator_message::Kind;
use windlass_proto::rpc::{
    self, AgentMessage, AppStatus, CoordinatorMessage, ErrorKind, Heartbeat, Hello, Welcome, agent_message,
};
use windlass_proto::tls::fence_is_signed;
use windlass_proto::version::{self, Protocols};
use windlass_release::BootTime;

use super::authors::Authors;
use super::reading::Reading;
use super::sent::Sent;
use super::{Link, LinkState, disk, inbound};
use crate::audit_seen::Told;
use crate::exchange::{Answers, FromSession, Order, Published, Under};
use crate::pulse::Pulse;
use crate::{clock, facts, features};

/// Longest wait for the coordinator to answer the greeting.
const WELCOME: Duration = Duration::from_secs(10);

/// A link that brought no lease for four heartbeats is half open: dead, though nothing says so. Not less than the first,
/// not more than the second.
const SILENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(12));

/// Messages on their way up.
const UP_QUEUE: usize = 32;

/// Most evidence in one greeting; beyond, statuses go without theirs so that the greeting fits a message.
const GREETING_EVIDENCE: usize = MESSAGE_BYTES / 2;

/// Heartbeats from one that says how much disk is free to the next.
const FACTS_EVERY: u64 = 10;

/// Heartbeats whose lease may still come.
const PENDING_LEASES: usize = 8;

/// How long what was said last may take to arrive before a session that is to be replaced is given up.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The driver wants a new one.
    Redial,
    /// It broke, or never came to be.
    Broken {
        /// The coordinator had welcomed us.
        welcomed: bool,
        /// The coordinator does not know this host any more: it was removed, or the fleet was made anew.
        unknown: bool,
        /// Why.
        problem: String,
    },
}

fn broken(welcomed: bool, problem: impl Into<String>) -> End {
    End::Broken { welcomed, unknown: false, problem: problem.into() }
}

/// Holds a session until it ends.
pub(super) async fn run(
    link: &mut Link,
    address: &str,
    channel: Channel,
    opened_at: BootTime,
    redials: u64,
) -> End {
    let (up, receiver) = mpsc::channel(UP_QUEUE);
    let mut sent = Sent { up, told: BTreeMap::new() };
    let published = link.published.borrow_and_update().clone();
    if published.redials != redials {
        return End::Redial;
    }
    let features = features::here();
    let problems = with(link.audit.problem(), &published.problems);
    let hello = greet(link, &published, &features, &problems, &mut sent);
    if sent.up.try_send(hello).is_err() {
        return broken(false, "the session ended before it began");
    }
    let mut client = AgentServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
    let opening = async {
        let mut down = client.session(ReceiverStream::new(receiver)).await?.into_inner();
        let first = down.message().await?;
        Ok::<_, tonic::Status>((down, first))
    };
    let (down, first) = match timeout(WELCOME, opening).await {
        Err(_) => return broken(false, "no welcome within 10 s"),
        Ok(Err(status)) => {
            let unknown = matches!(ErrorKind::of(&status), ErrorKind::NotAllowed | ErrorKind::NotSignedIn);
            return End::Broken { welcomed: false, unknown, problem: status.message().to_owned() };
        }
        Ok(Ok(opened)) => opened,
    };
    let Some(CoordinatorMessage { kind: Some(Kind::Welcome(welcome)) }) = first else {
        return broken(false, "the coordinator did not begin with a welcome");
    };
    if !Protocols::OURS.has(welcome.protocol) {
        let (theirs, ours) = (welcome.protocol, Protocols::OURS);
        let with = &welcome.coordinator_version;
        return broken(false, format!("coordinator {with} speaks protocol {theirs}, this agent {ours}"));
    }
    // It may be deposed, or from a copy: what it orders may be undone already.
    let offer = match fit(link, &published, &welcome) {
        Ok(offer) => offer.map(Arc::new),
        Err(problem) => return broken(false, problem),
    };
    match Told::from_welcome(&welcome) {
        Ok(Some(told)) => link.audit.hear(told).await,
        Ok(None) => {}
        Err(error) => return broken(false, error.to_string()),
    }
    tracing::info!(coordinator = address, epoch = welcome.epoch, "session opened");
    link.state.send_replace(LinkState {
        connected: Some(address.to_owned()),
        since: Some(clock::wall()),
        epoch: welcome.epoch,
        problem: String::new(),
    });
    link.vault.time().prove();
    let Some(authors) = authors(link) else {
        return broken(true, "this host's certificate names no fleet");
    };
    let session = Session {
        authors,
        orders: link.orders.clone(),
        opened_at,
        offer,
        features,
        redials,
        reading: Reading::new(link.layout.clone(), sent.up.clone()),
        sent,
        beats: VecDeque::with_capacity(PENDING_LEASES),
        seq: 0,
        last_lease: Instant::now(),
        disk: disk(&link.settings),
        problems,
        audit: link.audit.problem(),
        pulse: link.pulse.clone(),
    };
    session.hold(&mut link.published, down, &welcome).await
}

/// Whom this host believes, and for which fleet.
fn authors(link: &Link) -> Option<Authors> {
    let identity = link.identity.borrow().clone()?;
    let fleet = FleetName::new(identity.certificate.fleet.as_str()).ok()?;
    Some(Authors { trust: Arc::clone(&link.trust), fleet, time: link.vault.time().clone() })
}

/// What the coordinator shows, if this host may be led by it.
fn fit(link: &Link, published: &Published, welcome: &Welcome) -> Result<Option<Offer>, String> {
    let offer = Offer::from_welcome(welcome).map_err(|error| error.to_string())?;
    let obeyed = published.obeyed.as_ref().map(Obeyed::led);
    let Some(offer) = offer else {
        let fit = fence::may_lead_unfenced(obeyed, published.highest_epoch, welcome.epoch);
        return fit.map(|()| None).map_err(|unfit| unfit.to_string());
    };
    let identity = link.identity.borrow().clone();
    let signed = identity.is_some_and(|identity| {
        let fleet = FleetName::new(identity.certificate.fleet.as_str());
        fleet.is_ok_and(|fleet| fence_is_signed(&identity.certificate.ca_pem, &fleet, &offer.signed))
    });
    if !signed {
        return Err("the fence that it shows is not signed by this fleet's coordinators".to_owned());
    }
    let fit = fence::may_lead(obeyed, published.highest_epoch, &offer);
    fit.map(|()| Some(offer)).map_err(|unfit| unfit.to_string())
}

/// All that is wrong with the host, what is seen of the audit log first.
fn with(audit: Option<String>, problems: &[String]) -> Vec<String> {
    audit.into_iter().chain(problems.iter().cloned()).collect()
}

fn greet(
    link: &Link,
    published: &Published,
    features: &BTreeSet<&str>,
    problems: &[String],
    sent: &mut Sent,
) -> AgentMessage {
    let mut room = GREETING_EVIDENCE;
    let apps = published.apps.iter().map(|(app, status)| {
        sent.told.insert(app.clone(), Arc::clone(status));
        let mut status = AppStatus::from((**status).clone());
        let size: usize = status.evidence.iter().map(|item| item.text.len() + 64).sum();
        match room.checked_sub(size) {
            Some(left) => room = left,
            None => status.evidence.clear(),
        }
        status
    });
    let hello = Hello {
        apps: apps.collect(),
        agent_version: version::PROGRAM.to_owned(),
        protocol: Protocols::OURS.newest(),
        protocol_oldest: Protocols::OURS.oldest(),
        boot_id: link.boot_id.clone(),
        address: link.settings.address.to_string(),
        facts: Some(facts::read(&disk(&link.settings), problems)),
        highest_epoch: published.highest_epoch,
        obeyed: published.obeyed.as_ref().map(Into::into),
        authors: Some(rpc::Authors {
            keys: link.trust.keys().map(ToString::to_string).collect(),
            threshold: u32::try_from(link.trust.threshold()).unwrap_or(u32::MAX),
        }),
        features: features.iter().map(|&word| word.to_owned()).collect(),
        audit_seq: link.audit.seq(),
    };
    AgentMessage { kind: Some(agent_message::Kind::Hello(hello)) }
}

struct Session {
    authors: Authors,
    orders: mpsc::Sender<FromSession>,
    opened_at: BootTime,
    /// Under which its orders come.
    offer: Option<Arc<Offer>>,
    /// What the host said that it can do.
    features: BTreeSet<&'static str>,
    redials: u64,
    sent: Sent,
    reading: Reading,
    /// Heartbeats without their lease: number and time of sending.
    beats: VecDeque<(u64, BootTime)>,
    seq: u64,
    last_lease: Instant,
    disk: std::path::PathBuf,
    /// What was said to be wrong with the host.
    problems: Vec<String>,
    /// What is wrong with the coordinator's audit log.
    audit: Option<String>,
    pulse: Pulse,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pulse.rest();
    }
}

impl Session {
    async fn hold(
        mut self,
        published: &mut watch::Receiver<Published>,
        mut down: Streaming<CoordinatorMessage>,
        welcome: &Welcome,
    ) -> End {
        let every = Duration::from_millis(welcome.heartbeat_interval_ms.clamp(100, 10_000));
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let silence = (every * 4).clamp(SILENCE.0, SILENCE.1);
        let mut all_sent = true;
        let up = self.sent.up.clone();
        loop {
            tokio::select! {
                message = down.message() => match message {
                    Ok(Some(CoordinatorMessage { kind: Some(kind) })) => {
                        if let Err(problem) = self.heard(kind) {
                            return broken(true, problem);
                        }
                    }
                    // A newer coordinator of the same protocol may say more than we know.
                    Ok(Some(CoordinatorMessage { kind: None })) => self.answers().refuse(inbound::unknown()),
                    Ok(None) => return broken(true, "the coordinator closed the session"),
                    Err(status) => return broken(true, status.message()),
                },
                changed = published.changed() => {
                    if changed.is_err() {
                        return broken(true, "the agent is ending");
                    }
                    let newest = published.borrow_and_update().clone();
                    if newest.redials != self.redials {
                        self.sent.catch_up(&newest);
                        break;
                    }
                    all_sent = self.sent.catch_up(&newest);
                }
                () = sleep_until(self.last_lease + silence) => {
                    return broken(true, "no lease came, the link is half open");
                }
                _ = ticks.tick() => {
                    self.pulse.beat();
                    let newest = published.borrow();
                    self.beat(&newest.problems);
                    all_sent = self.sent.catch_up(&newest);
                }
                room = up.reserve(), if !all_sent => {
                    if room.is_err() {
                        return broken(true, "the stream to the coordinator ended");
                    }
                    drop(room);
                    all_sent = self.sent.catch_up(&published.borrow());
                }
            }
        }
        drop(up);
        self.part(down).await;
        End::Redial
    }

    fn beat(&mut self, problems: &[String]) {
        self.seq += 1;
        let problems = with(self.audit.clone(), problems);
        let is_due = self.seq.is_multiple_of(FACTS_EVERY) || problems != self.problems;
        let facts = is_due.then(|| facts::read(&self.disk, &problems));
        self.problems = problems;
        let beat = agent_message::Kind::Heartbeat(Heartbeat { seq: self.seq, facts });
        // A full queue means that nothing gets through, which the missing lease will show.
        if self.sent.up.try_send(AgentMessage { kind: Some(beat) }).is_ok() {
            if self.beats.len() == PENDING_LEASES {
                self.beats.pop_front();
            }
            self.beats.push_back((self.seq, BootTime(clock::boot_ms())));
        }
    }

    /// Closes the session from this end and waits until the coordinator has closed it, too: what was said last has arrived then.
    async fn part(self, mut down: Streaming<CoordinatorMessage>) {
        drop(self);
        let closed = async { while let Ok(Some(_)) = down.message().await {} };
        // What comes meanwhile is sent again in the next session. A coordinator that does not answer gets no farewell.
        let _ = timeout(FAREWELL, closed).await;
    }

    fn answers(&self) -> Answers {
        Answers::by(self.sent.up.clone())
    }

    fn heard(&mut self, kind: Kind) -> Result<(), String> {
        let mut received_at = BootTime(clock::boot_ms());
        if let Kind::Lease(lease) = &kind {
            // The lease proves contact at the time its heartbeat was sent, however long it was under way.
            let Some(at) = self.beats.iter().position(|(seq, _)| *seq == lease.seq) else { return Ok(()) };
            received_at = self.beats.drain(..=at).next_back().map_or(received_at, |(_, sent)| sent);
            self.last_lease = Instant::now();
            self.authors.time.prove();
        }
        if let Kind::ReadLog(asked) = kind {
            self.reading.answer(asked);
            return Ok(());
        }
        let names = inbound::names(&kind);
        let mut mark = 0;
        if let Kind::Assign(assign) = &kind {
            mark = assign.mark;
            if let Some((fault, reason)) = features::lacking(&assign.needs, &self.features) {
                let (op, app) = names;
                self.answers().refuse(OrderRefused { op, app, fault, reason, not_yet: false });
                return Ok(());
            }
        }
        let order = match inbound::order(kind, &self.authors) {
            Ok(Some(order)) => order,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.answers().refuse(inbound::misunderstood(names, &error));
                return Ok(());
            }
        };
        let is_lease = order == Order::Lease;
        let under = self.offer.clone().map(|offer| Under { offer, mark });
        let answers = self.answers();
        let order = FromSession { opened_at: self.opened_at, received_at, under, answers, order };
        match self.orders.try_send(order) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) if is_lease => Ok(()),
            // The coordinator sends it again in the next session.
            Err(TrySendError::Full(_)) => Err("the driver is busy and an order had no room".to_owned()),
            Err(TrySendError::Closed(_)) => Err("the agent is ending".to_owned()),
        }
    }
}
