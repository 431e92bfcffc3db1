//! Enrolment and session against a coordinator that is no more than its protocol, over real mTLS.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming};
use windlass_agent::audit_seen::Keeper;
use windlass_agent::config::{self, Settings};
use windlass_agent::enrol::EnrolError;
use windlass_agent::exchange::{FromSession, Order, Published};
use windlass_agent::identity::{Identity, Vault};
use windlass_agent::layout::Layout;
use windlass_agent::session::{Bulk, Link, LinkState};
use windlass_proto::bundle::{AuthorKey, Trust};
use windlass_proto::fence::{Fence, LeaderId, Led, Obeyed};
use windlass_proto::id::HostId;
use windlass_proto::phase::{AppStatus, Attestation, Fault, Phase};
use windlass_proto::refused::OrderRefused;
use windlass_proto::rpc::agent_service_server::{AgentService, AgentServiceServer};
use windlass_proto::rpc::{self, ErrorKind, agent_message, coordinator_message as down};
use windlass_proto::time::{Span, Timestamp};
use windlass_proto::tls::{self, Ca, Challenge, ClientCertificates, JoinToken};
use windlass_proto::version::Protocols;

/// Of every connection.
const CHALLENGE: [u8; 16] = [7; 16];
const DEADLINE: Duration = Duration::from_secs(10);

type Down = mpsc::Sender<Result<rpc::CoordinatorMessage, Status>>;

/// A session as the coordinator has it.
struct Opened {
    hello: rpc::Hello,
    up: mpsc::Receiver<rpc::AgentMessage>,
    down: Down,
}

/// The fence that is shown, and what it follows.
type Shows = Arc<Mutex<(Option<rpc::Fence>, Option<rpc::Fence>)>>;

#[derive(Clone)]
struct Fake {
    ca: Arc<Ca>,
    token: JoinToken,
    key: Arc<Mutex<Option<Vec<u8>>>>,
    epoch: u64,
    shows: Shows,
    /// Its version of the protocol.
    speaks: Arc<AtomicU32>,
    leases: bool,
    sessions: mpsc::Sender<Opened>,
}

impl Fake {
    fn certificate(&self, csr_pem: &str) -> Response<rpc::EnrollResponse> {
        let id = HostId::new("h-1").unwrap();
        Response::new(rpc::EnrollResponse {
            host_id: id.to_string(),
            certificate_pem: self.ca.sign_agent_csr(csr_pem, &id, 24, windlass_agent::clock::wall()).unwrap(),
            ca_pem: self.ca.certificate_pem().to_owned(),
            fleet: "fleet".to_owned(),
            ignored_labels: Vec::new(),
        })
    }
}

#[tonic::async_trait]
impl AgentService for Fake {
    async fn challenge(
        &self,
        _: Request<rpc::ChallengeRequest>,
    ) -> Result<Response<rpc::ChallengeResponse>, Status> {
        Ok(Response::new(rpc::ChallengeResponse { challenge: CHALLENGE.to_vec() }))
    }

    async fn enroll(
        &self,
        request: Request<rpc::EnrollRequest>,
    ) -> Result<Response<rpc::EnrollResponse>, Status> {
        let request = request.into_inner();
        let challenge = Challenge::from_bytes(&CHALLENGE).unwrap();
        let key = tls::enrolling_public_key(&request.csr_pem, &challenge)
            .map_err(|error| ErrorKind::Invalid.status(error.to_string()))?;
        let mut known = self.key.lock().unwrap();
        let again = known.as_ref() == Some(&key);
        if !again && request.token != self.token.to_string() {
            return Err(ErrorKind::NotSignedIn.status("unknown join token"));
        }
        *known = Some(key);
        Ok(self.certificate(&request.csr_pem))
    }

    async fn renew(
        &self,
        request: Request<rpc::RenewRequest>,
    ) -> Result<Response<rpc::EnrollResponse>, Status> {
        Ok(self.certificate(&request.into_inner().csr_pem))
    }

    type SessionStream = ReceiverStream<Result<rpc::CoordinatorMessage, Status>>;
    async fn session(
        &self,
        request: Request<Streaming<rpc::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut stream = request.into_inner();
        let Some(agent_message::Kind::Hello(hello)) = stream.message().await?.and_then(|m| m.kind) else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (down, receiver) = mpsc::channel(64);
        let (fence, follows) = self.shows.lock().unwrap().clone();
        let welcome = rpc::Welcome {
            epoch: self.epoch,
            heartbeat_interval_ms: 100,
            fence,
            follows,
            protocol: self.speaks.load(Ordering::Relaxed),
            ..Default::default()
        };
        say(&down, down::Kind::Welcome(welcome)).await;
        let (tell, up) = mpsc::channel(1024);
        let (leases, answers) = (self.leases, down.clone());
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                if let Some(agent_message::Kind::Heartbeat(beat)) = &message.kind
                    && leases
                {
                    say(&answers, down::Kind::Lease(rpc::Lease { seq: beat.seq, ttl_ms: 10_000 })).await;
                }
                if tell.send(message).await.is_err() {
                    return;
                }
            }
        });
        let _ = self.sessions.send(Opened { hello, up, down }).await;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type FetchEnvelopeStream = ReceiverStream<Result<rpc::Piece, Status>>;
    async fn fetch_envelope(
        &self,
        _: Request<rpc::FetchEnvelopeRequest>,
    ) -> Result<Response<Self::FetchEnvelopeStream>, Status> {
        Err(Status::not_found("nothing"))
    }

    type FetchChunksStream = ReceiverStream<Result<rpc::ChunkBatch, Status>>;
    async fn fetch_chunks(
        &self,
        _: Request<rpc::FetchChunksRequest>,
    ) -> Result<Response<Self::FetchChunksStream>, Status> {
        Err(Status::not_found("nothing"))
    }
}

async fn say(down: &Down, kind: down::Kind) {
    let _ = down.send(Ok(rpc::CoordinatorMessage { kind: Some(kind) })).await;
}

/// A coordinator that listens, and what it hears.
struct Coordinator {
    address: SocketAddr,
    token: JoinToken,
    ca: Arc<Ca>,
    key: Arc<Mutex<Option<Vec<u8>>>>,
    speaks: Arc<AtomicU32>,
    shows: Shows,
    sessions: mpsc::Receiver<Opened>,
    _serving: AbortOnDropHandle<()>,
}

async fn coordinator(like: Option<&Coordinator>, epoch: u64, leases: bool) -> Coordinator {
    let ca = like.map_or_else(|| Arc::new(Ca::generate("agents", "fleet").unwrap()), |c| Arc::clone(&c.ca));
    let key = like.map(|c| Arc::clone(&c.key)).unwrap_or_default();
    let token = like.map_or_else(|| JoinToken::generate(ca.pin()).unwrap(), |c| c.token.clone());
    let own = ca.issue_server("c-1", 30).unwrap();
    let config = tls::server_config(&own, ca.certificate_pem(), ClientCertificates::Optional).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shows = Shows::default();
    let speaks = Arc::new(AtomicU32::new(Protocols::OURS.newest()));
    let (tell, sessions) = mpsc::channel(16);
    let fake = Fake {
        ca: Arc::clone(&ca),
        token: token.clone(),
        key: Arc::clone(&key),
        epoch,
        shows: Arc::clone(&shows),
        speaks: Arc::clone(&speaks),
        leases,
        sessions: tell,
    };
    let acceptor = TlsAcceptor::from(config);
    let (accepted, incoming) = mpsc::channel(16);
    let serving = tokio::spawn(async move {
        let accept = async {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = accepted.send(Ok::<_, std::io::Error>(stream)).await;
                }
            }
        };
        let serve = tls::http2_server()
            .add_service(AgentServiceServer::new(fake))
            .serve_with_incoming(ReceiverStream::new(incoming));
        tokio::select! {
            () = accept => {}
            _ = serve => {}
        }
    });
    Coordinator {
        address,
        token,
        ca,
        key,
        speaks,
        shows,
        sessions,
        _serving: AbortOnDropHandle::new(serving),
    }
}

impl Coordinator {
    async fn session(&mut self) -> Opened {
        timeout(DEADLINE, self.sessions.recv()).await.unwrap().unwrap()
    }
}

/// The agent's end.
struct Agent {
    orders: mpsc::Receiver<FromSession>,
    published: watch::Sender<Published>,
    state: watch::Receiver<LinkState>,
    identity: watch::Receiver<Option<Arc<Identity>>>,
    bulk: Bulk,
    stop: CancellationToken,
    task: JoinHandle<Result<(), EnrolError>>,
}

fn settings(dir: &Path, coordinators: &[SocketAddr], token: Option<&JoinToken>) -> Settings {
    let token = token.map_or(String::new(), |token| format!("join_token = \"{token}\"\n"));
    let coordinators: Vec<String> = coordinators.iter().map(ToString::to_string).collect();
    let text = format!(
        "name = \"host-1\"\naddress = \"127.0.1.1\"\nstate_dir = \"state\"\n{token}coordinators = {coordinators:?}\n\
         [policy]\nauthor_keys = [\"ed25519:AAAA\"]\n"
    );
    config::parse(&text, &dir.join("agent.toml")).unwrap()
}

fn agent(settings: Settings, published: Published) -> Agent {
    let (tell, orders) = mpsc::channel(64);
    let (publish, watched) = watch::channel(published);
    let layout = Layout::new(&settings.state_dir, &settings.run_dir).unwrap();
    let link = Link {
        pulse: Default::default(),
        audit: Keeper::open(&layout),
        layout,
        vault: Vault::open(&settings.state_dir.join("identity")).unwrap(),
        settings: Arc::new(settings),
        trust: Arc::new(Trust::new([AuthorKey::generate().unwrap().public()], 1).unwrap()),
        boot_id: "boot".into(),
        orders: tell,
        published: watched,
        state: watch::Sender::default(),
        identity: watch::Sender::default(),
        stop: CancellationToken::new(),
    };
    Agent {
        orders,
        published: publish,
        state: link.state.subscribe(),
        identity: link.identity.subscribe(),
        bulk: Bulk::new(&link),
        stop: link.stop.clone(),
        task: tokio::spawn(link.run()),
    }
}

impl Agent {
    async fn order(&mut self) -> FromSession {
        loop {
            let order = timeout(DEADLINE, self.orders.recv()).await.unwrap().unwrap();
            if order.order != Order::Lease {
                return order;
            }
        }
    }

    async fn until(&mut self, what: &str, reached: impl FnMut(&LinkState) -> bool) -> LinkState {
        let reached = timeout(DEADLINE, self.state.wait_for(reached)).await;
        reached.unwrap_or_else(|_| panic!("waited in vain: {what}")).unwrap().clone()
    }
}

fn status(app: &str, seq: u64) -> Arc<AppStatus> {
    Arc::new(AppStatus {
        app: app.parse().unwrap(),
        seq,
        op: None,
        rollout: None,
        epoch: 1,
        phase: Phase::Idle,
        outcome: None,
        fault: None,
        reason: String::new(),
        current: None,
        confirmed: None,
        target: None,
        attested: Attestation::default(),
        drained: None,
        phase_times: BTreeMap::new(),
        since: Timestamp(1),
        evidence: vec![],
        held: vec![],
        detail: String::new(),
        hooks: Vec::new(),
        past: None,
    })
}

fn publish(agent: &Agent, app: &str, seq: u64) {
    agent.published.send_modify(|p| {
        p.apps.insert(app.parse().unwrap(), status(app, seq));
    });
}

/// The next status that goes up, as app and number.
async fn next_status(session: &mut Opened) -> (String, u64) {
    loop {
        let message = timeout(DEADLINE, session.up.recv()).await.unwrap().unwrap();
        if let Some(agent_message::Kind::Status(status)) = message.kind {
            return (status.app, status.seq);
        }
    }
}

#[tokio::test]
async fn a_host_enrols_greets_obeys_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = coordinator(None, 7, true).await;
    let published =
        Published { apps: [("shop".parse().unwrap(), status("shop", 3))].into(), ..Published::default() };
    let mut agent = agent(settings(dir.path(), &[coordinator.address], Some(&coordinator.token)), published);
    let mut session = coordinator.session().await;
    assert_eq!(session.hello.address, "127.0.1.1");
    assert_eq!(session.hello.apps.len(), 1);
    assert!(session.hello.facts.is_some());
    agent.until("connection", |state| state.connected.is_some() && state.epoch == 7).await;

    let lease = timeout(DEADLINE, agent.orders.recv()).await.unwrap().unwrap();
    assert_eq!(lease.order, Order::Lease);
    assert!(lease.opened_at <= lease.received_at);

    let permit = rpc::Permit { op_id: "op-1".into(), epoch: 7, ttl_ms: 30_000 };
    say(&session.down, down::Kind::Permit(permit)).await;
    let order = agent.order().await;
    assert_eq!(order.order, Order::Permit { op: "op-1".parse().unwrap(), epoch: 7, ttl: Span::secs(30) });

    // Only what is newer goes up.
    publish(&agent, "shop", 3);
    publish(&agent, "news", 1);
    publish(&agent, "shop", 4);
    let mut got = vec![next_status(&mut session).await, next_status(&mut session).await];
    got.sort();
    assert_eq!(got, [("news".to_owned(), 1), ("shop".to_owned(), 4)]);

    // A redial is a fresh connection, at once, and orders say so.
    agent.published.send_modify(|p| p.redials += 1);
    let session = coordinator.session().await;
    let confirm = rpc::Confirm { op_id: "op-1".into(), epoch: 7 };
    say(&session.down, down::Kind::Confirm(confirm)).await;
    let confirm = agent.order().await;
    assert!(matches!(confirm.order, Order::Confirm { .. }));
    assert!(confirm.opened_at > order.opened_at);

    let bulk = agent.bulk.channel().await.unwrap();
    let vault = Vault::open(&dir.path().join("state/identity")).unwrap();
    let settings = settings(dir.path(), &[coordinator.address], None);
    let renewed = windlass_agent::enrol::renew("c", bulk, &settings, &vault);
    assert_eq!(renewed.await.unwrap().certificate.host_id.as_str(), "h-1");

    agent.stop.cancel();
    timeout(DEADLINE, agent.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_wrong_or_missing_token_ends_a_host_that_was_never_enrolled() {
    let dir = tempfile::tempdir().unwrap();
    let fake = coordinator(None, 1, true).await;
    let wrong = JoinToken::generate(fake.ca.pin()).unwrap();
    let refused = agent(settings(dir.path(), &[fake.address], Some(&wrong)), Published::default());
    let error = timeout(DEADLINE, refused.task).await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("unknown join token"), "{error}");
    let missing = agent(settings(dir.path(), &[fake.address], None), Published::default());
    let error = timeout(DEADLINE, missing.task).await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("windlass token create"), "{error}");
}

#[tokio::test]
async fn a_coordinator_of_another_fleet_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, other) = (coordinator(None, 1, true).await, coordinator(None, 1, true).await);
    let mut agent = agent(settings(dir.path(), &[other.address], Some(&fake.token)), Published::default());
    let state = agent.until("refusal", |state| !state.problem.is_empty()).await;
    assert!(state.problem.contains("TLS handshake"), "{}", state.problem);
    assert_eq!(*other.key.lock().unwrap(), None);
    agent.stop.cancel();
}

#[tokio::test]
async fn the_next_endpoint_is_tried_and_old_coordinators_are_not_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let mut newest = coordinator(None, 9, true).await;
    let mut deposed = coordinator(Some(&newest), 8, true).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoints = [nobody, deposed.address, newest.address];
    let published = Published { highest_epoch: 9, ..Published::default() };
    let mut agent = agent(settings(dir.path(), &endpoints, Some(&newest.token)), published);
    let refused = deposed.session().await;
    assert_eq!(refused.hello.highest_epoch, 9);
    let _session = newest.session().await;
    let state = agent.until("connection", |state| state.connected.is_some()).await;
    assert_eq!(state.connected, Some(newest.address.to_string()));
    assert_eq!(state.epoch, 9);
    agent.stop.cancel();
}

#[tokio::test]
async fn a_coordinator_that_speaks_another_protocol_is_not_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let fake = coordinator(None, 1, true).await;
    let newer = Protocols::OURS.newest() + 1;
    fake.speaks.store(newer, Ordering::Relaxed);
    let mut agent = agent(settings(dir.path(), &[fake.address], Some(&fake.token)), Published::default());
    let problem = format!("speaks protocol {newer}, this agent {}", Protocols::OURS);
    agent.until("problem", |state| state.problem.contains(&problem) && state.connected.is_none()).await;
    fake.speaks.store(Protocols::OURS.newest(), Ordering::Relaxed);
    agent.until("connection", |state| state.connected.is_some()).await;
    agent.stop.cancel();
}

#[tokio::test]
async fn a_fence_is_believed_when_it_is_signed_and_obeyed_when_it_follows() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = coordinator(None, 6, true).await;
    let fence = |epoch, leader| Fence { epoch, leader: LeaderId([leader; 16]) };
    let obeyed = Obeyed { signed: fake.ca.sign_fence(fence(5, 1)).unwrap(), mark: 3 };
    let published = Published { obeyed: Some(obeyed.clone()), highest_epoch: 5, ..Published::default() };
    let mut agent = agent(settings(dir.path(), &[fake.address], Some(&fake.token)), published);
    // None at all, as a coordinator shows that is older than fences.
    assert_eq!(fake.session().await.hello.obeyed, Some((&obeyed).into()));
    agent.until("no fence", |state| state.problem.contains("shows no fence")).await;

    let foreign = Ca::generate("agents", "fleet").unwrap().sign_fence(fence(6, 2)).unwrap();
    let signed = fake.ca.sign_fence(fence(6, 2)).unwrap();
    let follows = |mark| Some(Led { fence: fence(5, 1), mark }.into());
    for (shown, follows, problem) in [
        (&foreign, follows(3), "not signed by this fleet's coordinators"),
        (&signed, follows(2), "started from an old copy"),
    ] {
        *fake.shows.lock().unwrap() = (Some(shown.into()), follows);
        agent.until(problem, |state| state.problem.contains(problem)).await;
    }
    *fake.shows.lock().unwrap() = (Some((&signed).into()), follows(4));
    agent.until("connection", |state| state.connected.is_some() && state.epoch == 6).await;
    let lease = timeout(DEADLINE, agent.orders.recv()).await.unwrap().unwrap();
    assert_eq!(lease.under.unwrap().offer.signed, signed);
    agent.stop.cancel();
}

#[tokio::test]
async fn a_lost_session_is_dialled_again_and_greets_with_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = coordinator(None, 1, true).await;
    let mut agent = agent(settings(dir.path(), &[fake.address], Some(&fake.token)), Published::default());
    let session = fake.session().await;
    agent.until("connection", |state| state.connected.is_some()).await;
    let _ = session.down.send(Err(ErrorKind::StateMoved.status("another session replaced this one"))).await;
    let state = agent.until("loss", |state| state.connected.is_none()).await;
    assert!(state.words(Timestamp(i64::MAX)).contains("another session replaced this one"));
    publish(&agent, "shop", 5);
    let session = fake.session().await;
    assert_eq!(session.hello.apps.len(), 1);
    agent.stop.cancel();
}

#[tokio::test]
async fn a_host_with_a_certificate_needs_no_token_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = coordinator(None, 1, true).await;
    let first = agent(settings(dir.path(), &[fake.address], Some(&fake.token)), Published::default());
    fake.session().await;
    first.stop.cancel();
    timeout(DEADLINE, first.task).await.unwrap().unwrap().unwrap();
    let mut second = agent(settings(dir.path(), &[fake.address], None), Published::default());
    fake.session().await;
    second.until("connection", |state| state.connected.is_some()).await;
    second.stop.cancel();

    // Even when the certificate is of no use any more: the key proves who it is.
    let vault = Vault::open(&dir.path().join("state/identity")).unwrap();
    let (address, settings) = (fake.address.to_string(), settings(dir.path(), &[fake.address], None));
    let again = windlass_agent::enrol::enrol(&address, &settings, &vault);
    assert_eq!(again.await.unwrap().certificate.host_id.as_str(), "h-1");
    assert!(second.identity.borrow().is_some());
}

#[tokio::test]
async fn a_fleet_made_anew_takes_the_host_by_a_new_token() {
    let dir = tempfile::tempdir().unwrap();
    let mut former = coordinator(None, 1, true).await;
    let first = agent(settings(dir.path(), &[former.address], Some(&former.token)), Published::default());
    former.session().await;
    first.stop.cancel();
    timeout(DEADLINE, first.task).await.unwrap().unwrap().unwrap();
    let mut fresh = coordinator(None, 1, true).await;
    let mut second = agent(settings(dir.path(), &[fresh.address], Some(&fresh.token)), Published::default());
    fresh.session().await;
    second.until("connection", |state| state.connected.is_some()).await;
    second.stop.cancel();
}

#[tokio::test]
async fn a_link_without_leases_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut mute = coordinator(None, 1, false).await;
    let mut agent = agent(settings(dir.path(), &[mute.address], Some(&mute.token)), Published::default());
    let _silent = mute.session().await;
    agent.until("connection", |state| state.connected.is_some()).await;
    let state = agent.until("loss", |state| state.connected.is_none()).await;
    assert!(state.problem.contains("half open"), "{}", state.problem);
    mute.session().await;
    agent.stop.cancel();
}

/// The next refusal that goes up.
async fn next_refusal(session: &mut Opened) -> rpc::Refused {
    loop {
        let message = timeout(DEADLINE, session.up.recv()).await.unwrap().unwrap();
        if let Some(agent_message::Kind::Refused(refused)) = message.kind {
            return refused;
        }
    }
}

#[tokio::test]
async fn an_order_that_is_not_understood_or_not_possible_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = coordinator(None, 7, true).await;
    let settings = settings(dir.path(), &[coordinator.address], Some(&coordinator.token));
    let mut agent = agent(settings, Published::default());
    let mut session = coordinator.session().await;
    assert!(session.hello.features.contains(&"runtime.process".to_owned()), "{:?}", session.hello.features);
    let assign = |op: &str| rpc::Assign {
        op_id: op.into(),
        rollout_id: "r-1".into(),
        epoch: 7,
        release: Some(rpc::ReleaseRef {
            app: "shop".into(),
            version: "1.0".into(),
            digest: windlass_proto::digest::Digest::of(b"x").to_string(),
            counter: 1,
        }),
        order_json: r#"{"host":{},"min_healthy_time":"1s","healthy_deadline":"1m"}"#.into(),
        ..Default::default()
    };
    let unknown = rpc::Assign { order_json: r#"{"of_tomorrow":1}"#.into(), ..assign("op-1") };
    say(&session.down, down::Kind::Assign(unknown)).await;
    let refused = next_refusal(&mut session).await;
    assert_eq!((refused.op_id.as_str(), refused.app.as_str()), ("op-1", "shop"));
    assert_eq!((refused.fault(), refused.not_yet), (rpc::Fault::Agent, false));
    assert!(refused.reason.contains("of_tomorrow"), "{}", refused.reason);

    let slots = rpc::Assign { needs: vec!["runtime.process".into(), "slots".into()], ..assign("op-2") };
    say(&session.down, down::Kind::Assign(slots)).await;
    let refused = next_refusal(&mut session).await;
    assert_eq!((refused.op_id.as_str(), refused.fault()), ("op-2", rpc::Fault::Agent));
    assert!(refused.reason.contains("has no \"slots\""), "{}", refused.reason);

    // Of a kind that this agent does not know.
    let _ = session.down.send(Ok(rpc::CoordinatorMessage { kind: None })).await;
    let refused = next_refusal(&mut session).await;
    assert!(refused.op_id.is_empty() && refused.reason.contains("does not know this kind"), "{refused:?}");

    // What the driver does not do goes the same way, also when the session is closed for it at once.
    say(&session.down, down::Kind::Assign(assign("op-3"))).await;
    let order = agent.order().await;
    let (op, app) = order.order.names();
    let refused = OrderRefused { op, app, fault: Fault::Policy, reason: "no".into(), not_yet: false };
    order.answers.refuse(refused);
    agent.published.send_modify(|published| published.redials += 1);
    assert_eq!(next_refusal(&mut session).await.op_id, "op-3");
    coordinator.session().await;
    agent.stop.cancel();
    agent.task.await.unwrap().unwrap();
}
