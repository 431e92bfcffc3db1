//! One task per agent stream: what the agent says goes to the driver, what the driver says goes to the agent.
//!
//! Who the agent is comes from its certificate alone. Leases are answered here, so that a slow disk under the driver
//! does not look like a lost coordinator.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use windlass_proto::feature;
use windlass_proto::fence::{Obeyed, Shown};
use windlass_proto::id::HostId;
use windlass_proto::limits::{APPS_TOLD, EVIDENCE_BYTES};
use windlass_proto::phase::{AppStatus, Evidence};
use windlass_proto::refused::OrderRefused;
use windlass_proto::rpc::{self, ErrorKind, InvalidField, agent_message, coordinator_message};
use windlass_proto::time::Span;
use windlass_proto::tls::SteadyTime;
use windlass_proto::version::{self, Protocols};

use crate::driver::Driver;
use crate::fleet::record::{Authors, Facts};
use crate::fleet::{Greeting, HEARTBEAT, LEASE_TTL, SESSION_QUEUE, SILENT_AFTER};
use crate::objects::Objects;
use crate::pki::Pki;
use crate::questions::Questions;
use crate::rate::{Paces, Rate};
use crate::rpc::audit::AuditLog;

/// How fast a host may say things that are written down: each of its apps goes through a few phases within a second. A greeting
/// counts as one, and as one more for each app of which it brings something new.
pub const STATUSES: Rate = Rate { burst: 200, each: Span(50) };

/// The first message must come within this time.
const HELLO: Duration = Duration::from_secs(10);

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// What an agent's session yields.
pub type Downstream = ReceiverStream<Result<rpc::CoordinatorMessage, Status>>;

/// What a session needs.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// The fleet.
    pub driver: Driver,
    /// Where evidence goes.
    pub objects: Objects,
    /// What hosts were asked.
    pub questions: Questions,
    /// How fast each host speaks.
    pub paces: Paces,
    /// What hosts are shown the head of.
    pub audit: AuditLog,
    /// The key that fences are signed with.
    pub pki: Pki,
    /// What certificates are judged by: hosts that go on speaking prove it.
    pub time: Arc<SteadyTime>,
    /// Ends all sessions.
    pub stop: CancellationToken,
}

/// The version of the protocol that a session is held in.
fn agreed_protocol(hello: &rpc::Hello) -> Result<u32, Status> {
    let theirs = Protocols::said(hello.protocol_oldest, hello.protocol)
        .ok_or_else(|| ErrorKind::Invalid.status("the hello names no range of protocol versions"))?;
    Protocols::OURS.agree(theirs).ok_or_else(|| {
        let older = if theirs.newest() < Protocols::OURS.oldest() { "agent" } else { "coordinator" };
        ErrorKind::Unsupported.status(format!(
            "agent {} speaks protocol {theirs}, this coordinator {} speaks {}; install a newer {older}",
            hello.agent_version,
            version::PROGRAM,
            Protocols::OURS,
        ))
    })
}

impl Sessions {
    /// Reads the greeting and starts the session.
    pub async fn open(&self, id: HostId, mut up: Streaming<rpc::AgentMessage>) -> Result<Downstream, Status> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let first = tokio::time::timeout(HELLO, up.message()).await;
        let first =
            first.map_err(|_| ErrorKind::TimedOut.status("the session did not begin with a hello"))??;
        let Some(rpc::AgentMessage { kind: Some(agent_message::Kind::Hello(hello)) }) = first else {
            return Err(ErrorKind::Invalid.status("a session begins with a hello"));
        };
        let protocol = agreed_protocol(&hello)?;
        let shown = self.shown(hello.highest_epoch, hello.obeyed)?;
        let audit_then = self.audit.then(hello.audit_seq).await;
        let authors = hello.authors.map(Authors::try_from).transpose();
        let authors = authors.map_err(|error| error.within("hello.authors"))?;
        let apps = statuses(hello.apps)?;
        let greeting = Greeting {
            agent_version: hello.agent_version,
            address: hello.address,
            facts: hello.facts.map(facts),
            features: features(hello.features)?,
            apps: apps.iter().map(|status| AppStatus { evidence: Vec::new(), ..status.clone() }).collect(),
            authors,
        };
        self.paces.take(&id).map_err(|wait| {
            ErrorKind::Unavailable.status(format!("this host says too much; dial again in {wait}"))
        })?;
        for status in &apps {
            self.keep_evidence(&id, status).await;
        }
        let (orders, receiver) = mpsc::channel(SESSION_QUEUE);
        let (down, stream) = mpsc::channel(SESSION_QUEUE);
        let host = id.clone();
        let met = self.driver.request(move |fleet| {
            let follows = fleet.meet(&host, &shown)?;
            let news = fleet.connect(&host, number, orders, greeting)?;
            Ok((news, fleet.fence(), follows, fleet.audited(), fleet.restored_below()))
        });
        let (news, fence, follows, audited, restored_below) = met.await?;
        self.paces.owe(&id, news);
        let signed = self.pki.agents().sign_fence(fence);
        let signed = signed.map_err(|error| ErrorKind::Internal.status(error.to_string()))?;
        let welcome = rpc::Welcome {
            epoch: fence.epoch,
            fence: Some((&signed).into()),
            follows: follows.map(Into::into),
            heartbeat_interval_ms: HEARTBEAT.0,
            coordinator_version: version::PROGRAM.to_owned(),
            audit: Some(audited.into()),
            audit_then: audit_then.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
            restored_below,
            protocol,
        };
        let welcome = rpc::CoordinatorMessage { kind: Some(coordinator_message::Kind::Welcome(welcome)) };
        // The stream is new and has room.
        let _ = down.try_send(Ok(welcome));
        tracing::info!(host = %id, session = number, "session opened");
        let task = Session { id, number, sessions: self.clone(), down };
        tokio::spawn(task.run(up, receiver));
        Ok(ReceiverStream::new(stream))
    }

    /// What a host shows of whom it has obeyed, and whether it is more than its word.
    fn shown(&self, highest: u64, obeyed: Option<rpc::Fence>) -> Result<Shown, Status> {
        let obeyed =
            obeyed.map(Obeyed::try_from).transpose().map_err(|error| error.within("hello.obeyed"))?;
        let signed = obeyed.as_ref().is_some_and(|obeyed| self.pki.agents().has_signed(&obeyed.signed));
        Ok(Shown { led: obeyed.as_ref().map(Obeyed::led), signed, highest })
    }

    /// Stores evidence of a failure in a rollout that the host takes part in. Lost evidence is said again at Hello.
    async fn keep_evidence(&self, id: &HostId, status: &AppStatus) {
        let Some(rollout) = status.rollout.clone().filter(|_| !status.evidence.is_empty()) else { return };
        let (id, wanted) = (id.clone(), rollout.clone());
        let name = self.driver.ask(move |fleet| {
            let wanted = fleet.wants_evidence(&id, &wanted);
            fleet.enrolled(&id).ok().filter(|_| wanted).map(|host| host.record.name.clone())
        });
        let Ok(Some(name)) = name.await else { return };
        let lost = match serde_json::to_vec(&bounded(&status.evidence)) {
            Ok(bytes) => {
                let stored = self.objects.put_evidence(rollout.as_str(), name.as_str(), Bytes::from(bytes));
                stored.await.err().map(|error| error.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        let Some(why) = lost else { return };
        tracing::error!(host = %name, %rollout, why, "evidence not stored");
        // A coordinator that is stopping is told again at the next Hello.
        let _ = self.driver.ask(move |fleet| fleet.lost_evidence(&name, &rollout, &why)).await;
    }
}

struct Session {
    id: HostId,
    number: u64,
    sessions: Sessions,
    down: mpsc::Sender<Result<rpc::CoordinatorMessage, Status>>,
}

impl Session {
    async fn run(
        self,
        mut up: Streaming<rpc::AgentMessage>,
        mut orders: mpsc::Receiver<rpc::CoordinatorMessage>,
    ) {
        loop {
            let ended: Result<(), Status> = tokio::select! {
                biased;
                () = self.sessions.stop.cancelled() => Err(ErrorKind::Unavailable.status("the coordinator is stopping")),
                order = orders.recv() => match order {
                    Some(order) => self.tell(order).await,
                    None => Err(ErrorKind::StateMoved.status("the session was closed: another one replaced it, or it fell behind")),
                },
                heard = tokio::time::timeout(SILENT_AFTER.std(), up.message()) => match heard {
                    Ok(Ok(Some(message))) => self.heard(message).await,
                    Ok(Ok(None)) => break,
                    Ok(Err(status)) => {
                        tracing::debug!(host = %self.id, %status, "session broke");
                        break;
                    }
                    Err(_) => Err(ErrorKind::TimedOut.status("no heartbeat")),
                },
            };
            if let Err(status) = ended {
                tracing::info!(host = %self.id, session = self.number, reason = status.message(), "session closed");
                let _ = self.down.try_send(Err(status));
                break;
            }
        }
        let (id, number) = (self.id.clone(), self.number);
        // A driver that is gone knows no sessions.
        let _ = self.sessions.driver.ask(move |fleet| fleet.disconnect(&id, number)).await;
    }

    async fn tell(&self, message: rpc::CoordinatorMessage) -> Result<(), Status> {
        let sent = tokio::time::timeout(SILENT_AFTER.std(), self.down.send(Ok(message))).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(ErrorKind::Unavailable.status("the agent does not read its stream")),
        }
    }

    async fn heard(&self, message: rpc::AgentMessage) -> Result<(), Status> {
        let (id, number) = (self.id.clone(), self.number);
        let current = match message.kind {
            Some(agent_message::Kind::Heartbeat(beat)) => {
                self.sessions.time.prove();
                let lease = rpc::Lease { seq: beat.seq, ttl_ms: LEASE_TTL.0 };
                let lease = coordinator_message::Kind::Lease(lease);
                self.tell(rpc::CoordinatorMessage { kind: Some(lease) }).await?;
                let facts = beat.facts.map(facts);
                self.sessions.driver.ask(move |fleet| fleet.heartbeat(&id, number, facts)).await?
            }
            Some(agent_message::Kind::Status(status)) => {
                self.sessions.paces.turn(&id).await;
                let status = AppStatus::try_from(status)?;
                let bare = AppStatus { evidence: Vec::new(), ..status.clone() };
                // Evidence first: whoever hears of the failure then finds its reasons.
                self.sessions.keep_evidence(&id, &status).await;
                self.sessions.driver.request(move |fleet| fleet.report(&id, number, bare)).await?
            }
            Some(agent_message::Kind::Refused(refused)) => {
                let refused = OrderRefused::try_from(refused)?;
                self.sessions.driver.ask(move |fleet| fleet.refused(&id, number, refused)).await?
            }
            Some(agent_message::Kind::Log(log)) => {
                self.sessions.questions.answered(&id, log);
                true
            }
            Some(agent_message::Kind::Hello(_)) => {
                return Err(ErrorKind::Invalid.status("a session has one hello"));
            }
            // A newer agent of the same protocol may say more than we know.
            None => true,
        };
        match current {
            true => Ok(()),
            false => Err(ErrorKind::StateMoved.status("another session of this host replaced this one")),
        }
    }
}

/// Evidence within its bound, whatever the agent sent.
fn bounded(evidence: &[Evidence]) -> Vec<&Evidence> {
    let mut left = EVIDENCE_BYTES * 2;
    let fits = evidence.iter().take(1000).take_while(|item| {
        let size = item.text.len() + item.kind.len();
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    fits.collect()
}

/// What an agent can do; none where it does not say.
fn features(words: Vec<String>) -> Result<Option<BTreeSet<String>>, Status> {
    let words = feature::words(words).map_err(|error| InvalidField::new("hello.features", error))?;
    Ok(Some(words).filter(|words| !words.is_empty()))
}

fn statuses(apps: Vec<rpc::AppStatus>) -> Result<Vec<AppStatus>, Status> {
    if apps.len() > APPS_TOLD {
        return Err(ErrorKind::TooMuch
            .status(format!("{} apps on one host are too many: at most {APPS_TOLD}", apps.len())));
    }
    Ok(apps.into_iter().map(AppStatus::try_from).collect::<Result<_, _>>()?)
}

/// Most problems that are kept of a host, and most characters of each.
const PROBLEMS: usize = 8;
const PROBLEM: usize = 500;

fn facts(wire: rpc::Facts) -> Facts {
    let cut = |text: String| text.chars().take(100).collect();
    Facts {
        cpus: wire.cpus,
        memory_bytes: wire.memory_bytes,
        disk_free_bytes: wire.disk_free_bytes,
        kernel: cut(wire.kernel),
        os: cut(wire.os),
        problems: wire
            .problems
            .into_iter()
            .take(PROBLEMS)
            .map(|text| text.chars().take(PROBLEM).collect())
            .collect(),
    }
}
