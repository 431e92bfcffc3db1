//! What `GET /metrics` shows of the coordinator: what it has counted, and what the fleet is at this moment.
//!
//! How many lines that are does not depend on how many hosts or releases there are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use windlass_proto::metrics::prometheus_client::metrics::counter::Counter;
use windlass_proto::metrics::prometheus_client::metrics::family::Family;
use windlass_proto::metrics::prometheus_client::metrics::info::Info;
use windlass_proto::metrics::prometheus_client::registry::Registry;
use windlass_proto::metrics::{Words, bytes_beneath, gauge, gauges};
use windlass_proto::time::Timestamp;
use windlass_proto::tls::{self, TlsError};
use windlass_rollout::{Condition, State};

use crate::driver::Driver;
use crate::fleet::{Counted, Fleet, HostState};
use crate::guests::Guests;
use crate::pki::{Own, Pki};

/// How long the fleet may take to answer.
const WITHIN: Duration = Duration::from_secs(5);

/// The listener, and what does not change while it serves.
#[derive(Debug)]
pub struct Metrics {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
    counted: Counted,
    state_dir: PathBuf,
    certificates: Vec<(&'static str, Timestamp)>,
}

impl Metrics {
    /// Over a bound listener. The error is of a certificate that cannot be read.
    pub fn new(
        (listener, address): (TcpListener, SocketAddr),
        fleet: &Fleet,
        state_dir: &Path,
        pki: &Pki,
        [agents, operators]: [&Own; 2],
    ) -> Result<Self, TlsError> {
        let all = [
            ("agents_ca", pki.agents().certificate_pem()),
            ("operators_ca", pki.operators().certificate_pem()),
            ("agents", &agents.certificate_pem),
            ("operators", &operators.certificate_pem),
        ];
        let until = |(name, pem)| Ok((name, tls::certificate_validity(pem)?.1));
        let certificates = all.into_iter().map(until).collect::<Result<_, TlsError>>()?;
        let (counted, state_dir) = (fleet.counted.clone(), state_dir.to_owned());
        Ok(Self { listener, address, counted, state_dir, certificates })
    }

    /// Serves until stopped.
    pub async fn serve(self, driver: Driver, guests: Guests, stop: CancellationToken) {
        let Self { listener, counted, state_dir, certificates, .. } = self;
        let (state_dir, certificates) = (Arc::new(state_dir), certificates.into());
        let sources = Sources { driver, counted, guests, state_dir, certificates };
        let measure = move || measure(sources.clone());
        windlass_proto::metrics::serve(listener, measure, stop.cancelled_owned()).await;
    }
}

/// Where the numbers come from; cheap to clone.
#[derive(Debug, Clone)]
struct Sources {
    driver: Driver,
    counted: Counted,
    guests: Guests,
    state_dir: Arc<PathBuf>,
    certificates: Arc<[(&'static str, Timestamp)]>,
}

/// The fleet at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moment {
    hosts: BTreeMap<&'static str, u64>,
    sessions: u64,
    rollouts: BTreeMap<&'static str, u64>,
    waiting: BTreeMap<&'static str, u64>,
    bundles: u64,
    epoch: u64,
}

impl Moment {
    fn of(fleet: &Fleet) -> Self {
        let mut moment = Self {
            hosts: HostState::ALL.iter().map(|state| (state.word(), 0)).collect(),
            rollouts: State::OPEN.iter().map(|state| (*state, 0)).collect(),
            waiting: Condition::ALL.iter().map(|condition| (condition.word(), 0)).collect(),
            sessions: fleet.sessions() as u64,
            bundles: fleet.bundles(None).len() as u64,
            epoch: fleet.fence().epoch,
        };
        for host in fleet.hosts() {
            *moment.hosts.entry(host.state(fleet.now, None).word()).or_default() += 1;
        }
        for rollout in fleet.rollouts(None, None, true, usize::MAX) {
            *moment.rollouts.entry(rollout.state.word()).or_default() += 1;
            for condition in &rollout.conditions {
                *moment.waiting.entry(condition.word()).or_default() += 1;
            }
        }
        moment
    }
}

/// Measures all of it; the error says why that cannot be done now.
async fn measure(sources: Sources) -> Result<Registry, String> {
    let Sources { driver, counted, guests, state_dir, certificates } = sources;
    let asked = tokio::time::timeout(WITHIN, driver.ask(|fleet| Moment::of(fleet))).await;
    let moment = match asked {
        Ok(Ok(moment)) => moment,
        Ok(Err(refusal)) => return Err(refusal.message),
        Err(_) => {
            return Err(format!("the coordinator is too busy: no answer within {} s", WITHIN.as_secs()));
        }
    };
    let disk = tokio::task::spawn_blocking(move || Disk::of(&state_dir)).await.unwrap_or_default();
    let mut registry = Registry::with_prefix("windlass");
    registry.register("build", "This coordinator", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    let counts = |counts: BTreeMap<&'static str, u64>| counts.into_iter().map(|(word, n)| (word, n as f64));
    gauges(&mut registry, ("hosts", "state"), "Hosts of the fleet, by state", counts(moment.hosts));
    gauge(&mut registry, "sessions", "Agents that are connected", moment.sessions as f64);
    gauges(
        &mut registry,
        ("rollouts_open", "state"),
        "Rollouts that have not ended, by state",
        counts(moment.rollouts),
    );
    gauges(
        &mut registry,
        ("rollouts_waiting", "condition"),
        "Rollouts that do not go on, by why; one may have several reasons",
        counts(moment.waiting),
    );
    gauge(&mut registry, "bundles", "Bundles that are stored", moment.bundles as f64);
    gauge(&mut registry, "leader_epoch", "Epoch under which this coordinator leads", moment.epoch as f64);
    counted.register(&mut registry);
    let refused = Family::<Words<1>, Counter>::default();
    let ever = guests.refused_ever();
    refused.get_or_create(&[("what", "connection")]).inc_by(ever.connections);
    refused.get_or_create(&[("what", "call")]).inc_by(ever.calls);
    registry.register("guests_refused", "Callers without a certificate who were refused", refused);
    gauges(
        &mut registry,
        ("certificate_expiry_timestamp_seconds", "certificate"),
        "When the coordinator's certificates end, in seconds since 1970",
        certificates.iter().map(|(which, until)| (*which, until.0 as f64 / 1000.0)),
    );
    gauge(&mut registry, "store_bytes", "What the coordinator's state takes on disk", disk.state as f64);
    if let Some(free) = disk.free {
        gauge(&mut registry, "disk_free_bytes", "Free where state and bundles are kept", free as f64);
    }
    Ok(registry)
}

/// What is on disk.
#[derive(Debug, Default)]
struct Disk {
    state: u64,
    free: Option<u64>,
}

impl Disk {
    /// Blocks. The state is a handful of files.
    fn of(state_dir: &Path) -> Self {
        let free = nix::sys::statvfs::statvfs(state_dir).ok();
        let free = free.map(|fs| fs.blocks_available().saturating_mul(fs.fragment_size()));
        Self { state: bytes_beneath(&state_dir.join("state")), free }
    }
}
