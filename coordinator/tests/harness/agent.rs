//! An agent that keeps the protocol, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use windlass_proto::rpc::agent_service_client::AgentServiceClient;
use windlass_proto::rpc::{self, Fault, Outcome, Phase, agent_message, coordinator_message};
use windlass_proto::tls::{self, Challenge, Credentials, JoinToken, Key};

pub fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("role".to_owned(), "app".to_owned())])
}

pub async fn enrol(
    address: &str,
    join: &str,
    name: &str,
    key: &Key,
) -> Result<rpc::EnrollResponse, tonic::Status> {
    let pin = join.parse::<JoinToken>().unwrap().pin();
    let channel = tls::connect(address, tls::enrol_client_config(pin).unwrap()).await.unwrap();
    let request = rpc::EnrollRequest {
        token: join.into(),
        name: name.into(),
        address: "127.0.1.1".into(),
        labels: labels(),
        ..Default::default()
    };
    enrol_over(&channel, request, key).await
}

/// Enrols over a connection, with a CSR of this key that is made for it.
pub async fn enrol_over(
    channel: &Channel,
    request: rpc::EnrollRequest,
    key: &Key,
) -> Result<rpc::EnrollResponse, tonic::Status> {
    let mut client = AgentServiceClient::new(channel.clone());
    let given = client.challenge(rpc::ChallengeRequest {}).await?.into_inner().challenge;
    let csr_pem = key.csr_pem_for(&Challenge::from_bytes(&given).unwrap()).unwrap();
    Ok(client.enroll(rpc::EnrollRequest { csr_pem, ..request }).await?.into_inner())
}

#[derive(Clone)]
pub struct Identity {
    pub host_id: String,
    pub ca: String,
    pub own: Credentials,
}

impl Identity {
    pub async fn new(address: &str, join: &str, name: &str) -> Self {
        let key = Key::generate().unwrap();
        let answer = enrol(address, join, name, &key).await.unwrap();
        let own = Credentials { certificate_pem: answer.certificate_pem, key_pem: key.to_pem() };
        Self { host_id: answer.host_id, ca: answer.ca_pem, own }
    }

    pub async fn channel(&self, address: &str) -> Option<Channel> {
        tls::connect(address, tls::client_config(&self.ca, Some(&self.own)).unwrap()).await.ok()
    }
}

#[derive(Default)]
struct Inner {
    statuses: BTreeMap<String, rpc::AppStatus>,
    seq: u64,
    epoch: u64,
    /// Versions that fail on this host after the switch.
    broken: Vec<String>,
    /// Phases in which nothing moves on.
    stuck_in: Vec<Phase>,
    confirms: u64,
    /// What the host says that it can do.
    features: Vec<String>,
    /// What it refuses orders with.
    refuses: Option<rpc::Refused>,
}

/// A host; lives until dropped.
pub struct Agent {
    pub name: String,
    pub identity: Identity,
    inner: Arc<Mutex<Inner>>,
    stop: CancellationToken,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Agent {
    pub async fn start(address: &str, join: &str, name: &str) -> Self {
        let identity = Identity::new(address, join, name).await;
        let inner = Arc::new(Mutex::new(Inner::default()));
        let stop = CancellationToken::new();
        let (address, id, shared) = (address.to_owned(), identity.clone(), inner.clone());
        let work = async move {
            loop {
                if let Some(channel) = id.channel(&address).await {
                    session(channel, &shared).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(work));
        Self { name: name.into(), identity, inner, stop }
    }

    pub fn breaks_on(&self, version: &str) {
        self.inner.lock().unwrap().broken.push(version.into());
    }

    pub fn is_mended(&self) {
        self.inner.lock().unwrap().broken.clear();
    }

    pub fn sticks_in(&self, phases: &[Phase]) {
        self.inner.lock().unwrap().stuck_in = phases.to_vec();
    }

    /// From the next session on.
    pub fn can(&self, features: &[&str]) {
        self.inner.lock().unwrap().features = features.iter().map(|&word| word.to_owned()).collect();
    }

    pub fn refuses(&self, fault: Fault, reason: &str) {
        let refused = rpc::Refused { fault: fault.into(), reason: reason.into(), ..Default::default() };
        self.inner.lock().unwrap().refuses = Some(refused);
    }

    pub fn status(&self, app: &str) -> Option<rpc::AppStatus> {
        self.inner.lock().unwrap().statuses.get(app).cloned()
    }

    pub fn current(&self, app: &str) -> Option<String> {
        self.status(app)?.current.map(|release| release.version)
    }

    pub fn confirms(&self) -> u64 {
        self.inner.lock().unwrap().confirms
    }
}

async fn session(channel: Channel, inner: &Mutex<Inner>) {
    let (up, receiver) = mpsc::channel(64);
    let hello = {
        let inner = inner.lock().unwrap();
        rpc::Hello {
            agent_version: "0.1.0".into(),
            protocol: windlass_proto::version::Protocols::OURS.newest(),
            boot_id: "boot".into(),
            address: "127.0.1.1".into(),
            facts: Some(rpc::Facts { cpus: 2, disk_free_bytes: 1 << 40, ..Default::default() }),
            highest_epoch: inner.epoch,
            obeyed: None,
            apps: inner.statuses.values().cloned().collect(),
            authors: None,
            features: inner.features.clone(),
            audit_seq: 0,
            protocol_oldest: 0,
        }
    };
    let say = async |kind| up.send(rpc::AgentMessage { kind: Some(kind) }).await;
    say(agent_message::Kind::Hello(hello)).await.unwrap();
    let mut client = AgentServiceClient::new(channel);
    let Ok(stream) = client.session(tokio_stream::wrappers::ReceiverStream::new(receiver)).await else {
        return;
    };
    let mut down = stream.into_inner();
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    let mut seq = 0;
    loop {
        tokio::select! {
            _ = beat.tick() => {
                seq += 1;
                let heartbeat = rpc::Heartbeat { seq, facts: None };
                if say(agent_message::Kind::Heartbeat(heartbeat)).await.is_err() {
                    return;
                }
            }
            message = down.message() => {
                let Ok(Some(rpc::CoordinatorMessage { kind: Some(kind) })) = message else { return };
                if let coordinator_message::Kind::Assign(assign) = &kind {
                    let refused = inner.lock().unwrap().refuses.clone();
                    if let Some(refused) = refused {
                        let refused = rpc::Refused { op_id: assign.op_id.clone(), ..refused };
                        if say(agent_message::Kind::Refused(refused)).await.is_err() {
                            return;
                        }
                    }
                }
                let (statuses, redial) = inner.lock().unwrap().obey(kind);
                for status in statuses {
                    if say(agent_message::Kind::Status(status)).await.is_err() {
                        return;
                    }
                }
                if redial {
                    return;
                }
            }
        }
    }
}

impl Inner {
    /// What is said then, and whether the session is opened anew.
    fn obey(&mut self, kind: coordinator_message::Kind) -> (Vec<rpc::AppStatus>, bool) {
        use coordinator_message::Kind;
        match kind {
            Kind::Welcome(welcome) => {
                assert!(welcome.epoch >= self.epoch, "an older leader was obeyed");
                self.epoch = welcome.epoch;
                (vec![], false)
            }
            Kind::Lease(_) | Kind::ReleaseQuarantine(_) | Kind::ReadLog(_) => (vec![], false),
            Kind::Assign(_) if self.refuses.is_some() => (vec![], false),
            Kind::Assign(assign) => {
                let release = assign.release.unwrap();
                let app = release.app.clone();
                let mut status = self.statuses.get(&app).cloned().unwrap_or_default();
                if status.op_id != assign.op_id {
                    status = rpc::AppStatus {
                        app: app.clone(),
                        op_id: assign.op_id,
                        rollout_id: assign.rollout_id,
                        epoch: assign.epoch,
                        target: Some(release.clone()),
                        current: status.current,
                        confirmed: status.confirmed,
                        attested: status.attested,
                        held: status.held,
                        ..Default::default()
                    };
                    status.set_phase(Phase::Staged);
                    if self.stuck_in.contains(&Phase::Staging) {
                        status.set_phase(Phase::Staging);
                    } else if !status.held.contains(&release.digest) {
                        status.held.push(release.digest);
                    }
                }
                (vec![self.keep(status)], false)
            }
            Kind::Permit(permit) => match self.of(&permit.op_id) {
                Some(status)
                    if status.phase() == Phase::Staged && !self.stuck_in.contains(&Phase::Staged) =>
                {
                    self.switch(status)
                }
                Some(status) => (vec![status], false),
                None => (vec![], false),
            },
            Kind::Confirm(confirm) => match self.of(&confirm.op_id) {
                Some(mut status) if status.phase() == Phase::Trial => {
                    status.set_phase(Phase::Confirmed);
                    status.set_outcome(Outcome::Confirmed);
                    status.confirmed = status.target.clone();
                    self.confirms += 1;
                    (vec![self.keep(status)], false)
                }
                Some(status) => (vec![status], false),
                None => (vec![], false),
            },
            Kind::Abort(abort) => match self.of(&abort.op_id) {
                Some(mut status) if status.outcome() == Outcome::Unspecified => {
                    let before = matches!(status.phase(), Phase::Staged | Phase::Staging);
                    status.set_phase(if before { Phase::Failed } else { Phase::Reverted });
                    status.set_outcome(if before { Outcome::Failed } else { Outcome::Reverted });
                    status.set_fault(Fault::Policy);
                    status.reason = abort.reason;
                    status.current = status.confirmed.clone();
                    status.attested = Some(attest(status.confirmed.as_ref()));
                    (vec![self.keep(status)], false)
                }
                Some(status) => (vec![status], false),
                None => (vec![], false),
            },
        }
    }

    fn switch(&mut self, mut status: rpc::AppStatus) -> (Vec<rpc::AppStatus>, bool) {
        let target = status.target.clone().unwrap();
        let mut said = Vec::new();
        for phase in [Phase::Draining, Phase::Stopping, Phase::Switching, Phase::Starting, Phase::Verifying] {
            status.set_phase(phase);
            said.push(self.keep(status.clone()));
        }
        if self.broken.contains(&target.version) {
            status.set_phase(Phase::Reverted);
            status.set_outcome(Outcome::Reverted);
            status.set_fault(Fault::App);
            status.reason = "readiness failed: GET /-/ready said 503".into();
            status.evidence =
                vec![rpc::Evidence { kind: "log".into(), at_ms: 1, text: "panic: bad configuration".into() }];
            said.push(self.keep(status));
            return (said, false);
        }
        status.current = Some(target.clone());
        status.attested = Some(attest(Some(&target)));
        status.set_phase(Phase::Trial);
        said.push(self.keep(status));
        (said, true)
    }

    fn of(&self, op: &str) -> Option<rpc::AppStatus> {
        self.statuses.values().find(|status| status.op_id == op).cloned()
    }

    fn keep(&mut self, mut status: rpc::AppStatus) -> rpc::AppStatus {
        self.seq += 1;
        status.seq = self.seq;
        self.statuses.insert(status.app.clone(), status.clone());
        status
    }
}

fn attest(release: Option<&rpc::ReleaseRef>) -> rpc::Attestation {
    rpc::Attestation {
        ok: true,
        digest: release.map(|release| release.digest.clone()).unwrap_or_default(),
        ..Default::default()
    }
}
