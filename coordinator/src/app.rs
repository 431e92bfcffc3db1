//! The coordinator as a whole: build (bind first), run, drain.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use windlass_proto::rpc::agent_service_server::AgentServiceServer;
use windlass_proto::rpc::audit::Head;
use windlass_proto::tls::{self, ClientCertificates, SteadyTime, TlsError};
use windlass_proto::trace::{Program, Spans};

use crate::availability;
use crate::clock::{self, Clock};
use crate::config::Settings;
use crate::driver::{self, Disk, Driver, DriverFailed};
use crate::fleet::{self, Fleet, LoadError};
use crate::guests::Guests;
use crate::issued;
use crate::listen::{self, Accepted, Door};
use crate::metrics::Metrics;
use crate::objects::{ObjectError, Objects};
use crate::pki::{Pki, PkiError};
use crate::rate::Paces;
use crate::routes::{GUEST_BYTES, guest_server, operator_routes, serve, server};
use crate::rpc::agent::Agents;
use crate::rpc::audit::AuditLog;
use crate::rpc::auth::TableLayer;
use crate::rpc::{DECODE, Shared};
use crate::session::{STATUSES, Sessions};
use crate::store::{Member, Rise, SledStore, StateStore, StoreError};
use crate::watchdog;

/// Calls under way get so long to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a collector of traces is waited for at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// Why the coordinator does not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address is taken or not ours.
    #[error("cannot listen for {whom} on {address}; choose another address with {option}")]
    Bind {
        /// `agents`, `operators` or `metrics`.
        whom: &'static str,
        /// The address.
        address: SocketAddr,
        /// What changes it.
        option: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The CAs.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Certificates of the listeners.
    #[error("cannot set TLS up")]
    Tls(#[from] TlsError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state's content.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Chunks and envelopes.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The file that tells others the addresses.
    #[error("cannot write {}", path.display())]
    Addresses {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// gRPC or signals.
    #[error("cannot {what}")]
    Set {
        /// What failed.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store failed while running, or another coordinator leads.
    #[error(transparent)]
    Driver(#[from] DriverFailed),
}

impl AppError {
    /// 1 where trying again may help; 2 where only a person can: no supervisor starts the coordinator again then.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Driver(DriverFailed::Deposed(_)) => 2,
            _ => 1,
        }
    }
}

/// A coordinator that is bound and loaded but does not serve yet.
pub struct App {
    agents: BoundDoor,
    operators: BoundDoor,
    driver: Driver,
    driver_task: JoinHandle<Result<(), DriverFailed>>,
    shared: Shared,
    pki: Pki,
    stop: CancellationToken,
    driver_stop: CancellationToken,
    epoch: u64,
    time: Arc<SteadyTime>,
    audited: watch::Receiver<Head>,
    state_dir: PathBuf,
    metrics: Option<Metrics>,
    spans: Spans,
}

/// A bound listener with its TLS.
struct BoundDoor {
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
}

/// Blocking start-up work, off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

async fn bind(
    whom: &'static str,
    option: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), AppError> {
    let failed = |source| AppError::Bind { whom, address, option, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

impl App {
    /// Binds, loads and takes the lead.
    pub async fn build(settings: Settings) -> Result<Self, AppError> {
        let state_dir = settings.state_dir.clone();
        let addresses = state_dir.join("addresses.json");
        let agents = bind("agents", "--agent-listen", settings.agent_listen).await?;
        let operators = bind("operators", "--operator-listen", settings.operator_listen).await?;
        let metrics = match settings.metrics_listen {
            Some(address) => Some(bind("metrics", "--metrics-listen", address.0).await?),
            None => None,
        };
        let (at, fleet_name) = (state_dir.clone(), settings.fleet.clone());
        let (pki, store, objects) = blocking(move || {
            let pki = Pki::load_or_make(&at, &fleet_name)?;
            let store = SledStore::open(&at.join("state"))?;
            let objects = Objects::open(&at.join("objects"))?;
            Ok::<_, AppError>((pki, store, objects))
        })
        .await?;
        let member =
            Member { id: format!("c-{}", uuid::Uuid::new_v4().simple()), address: operators.1.to_string() };
        let deposed = fleet::deposed(&store).await?;
        let rise = match (deposed, settings.after_restore) {
            (Some(deposed), false) => return Err(DriverFailed::Deposed(Box::new(deposed)).into()),
            (_, false) => Rise::ONE,
            (deposed, true) => Rise::after_restore(deposed.map_or(0, |deposed| deposed.by.epoch)),
        };
        let fence = store.campaign(&member, rise).await?.fence;
        let epoch = fence.epoch;
        let mut clock = Clock::default();
        let program =
            Program { service: "windlass-coordinator", version: env!("CARGO_PKG_VERSION"), host: None };
        let spans = Spans::from_env(program).unwrap_or_else(|no| {
            tracing::error!(error = %no, "nobody is told of traces");
            Spans::default()
        });
        let mut fleet = Fleet::new(settings.fleet, fence, clock.now());
        fleet.dial_allow = settings.dial_allow;
        fleet.spans = spans.clone();
        fleet.load(&store).await?;
        if settings.after_restore {
            fleet.begin_restore();
        }
        fleet.recover();
        let audited = fleet.follow_audit();
        let (own_agents, own_operators) = pki.issue_servers(&member.id)?;
        let agents_tls =
            tls::server_config(&own_agents, pki.agents().certificate_pem(), ClientCertificates::Optional)?;
        let operators_tls = tls::server_config(
            &own_operators,
            pki.operators().certificate_pem(),
            ClientCertificates::Required,
        )?;
        let metrics = match metrics {
            Some(bound) => {
                Some(Metrics::new(bound, &fleet, &settings.state_dir, &pki, [&own_agents, &own_operators])?)
            }
            None => None,
        };
        let time = clock::steady();
        let (agents_tls, operators_tls) = (time.judge_clients(agents_tls), time.judge_clients(operators_tls));
        let (stop, driver_stop) = (CancellationToken::new(), CancellationToken::new());
        let store: Arc<dyn StateStore> = Arc::new(store);
        let (driver, driver_task) = driver::spawn(
            fleet,
            Disk { store: Arc::clone(&store), member, fence },
            clock,
            driver_stop.clone(),
        );
        write_addresses(&addresses, agents.1, operators.1, metrics.as_ref().map(|metrics| metrics.address))?;
        let shared = Shared::new(driver.clone(), objects, AuditLog(store), stop.clone());
        Ok(Self {
            agents: BoundDoor { listener: agents.0, address: agents.1, tls: agents_tls },
            operators: BoundDoor { listener: operators.0, address: operators.1, tls: operators_tls },
            driver,
            driver_task,
            shared,
            pki,
            stop,
            driver_stop,
            epoch,
            time,
            audited,
            state_dir,
            metrics,
            spans,
        })
    }

    /// Serves until SIGTERM or SIGINT, then drains.
    pub async fn run(self) -> Result<(), AppError> {
        let set = |what| move |source: io::Error| AppError::Set { what, source: source.into() };
        let mut terminate = signal(SignalKind::terminate()).map_err(set("catch SIGTERM"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(set("catch SIGINT"))?;
        let Self {
            agents,
            operators,
            driver,
            mut driver_task,
            shared,
            pki,
            stop,
            driver_stop,
            epoch,
            time,
            audited,
            state_dir,
            metrics,
            spans,
        } = self;
        let sessions = Sessions {
            driver: driver.clone(),
            objects: shared.objects.clone(),
            questions: shared.questions.clone(),
            paces: Paces::new(STATUSES),
            audit: shared.audit.clone(),
            pki: pki.clone(),
            time,
            stop: stop.clone(),
        };
        let service = Agents { shared: shared.clone(), pki: pki.clone(), sessions };
        let guests = Guests::default();
        let service = AgentServiceServer::new(service);
        let guest_routes = guest_server()
            .layer(TableLayer { guests: guests.clone(), audited: None })
            .add_service(service.clone().max_decoding_message_size(GUEST_BYTES));
        let agent_routes = server()
            .layer(TableLayer { guests: guests.clone(), audited: None })
            .add_service(service.max_decoding_message_size(DECODE).max_encoding_message_size(DECODE));
        let operator_routes = operator_routes(&shared, &pki, guests.clone(), audited).await;
        let operator_routes = operator_routes
            .map_err(|source| AppError::Set { what: "offer reflection", source: source.into() })?;
        let (agent_address, operator_address) = (agents.address, operators.address);
        let mut serving = tokio::task::JoinSet::new();
        let BoundDoor { listener, tls, .. } = agents;
        let Accepted { members, guests: strangers } =
            listen::accept(listener, tls, Door::Agents, guests.clone(), stop.clone());
        serving.spawn(serve(members, "agents", agent_routes, stop.clone()));
        serving.spawn(serve(strangers, "guests", guest_routes, stop.clone()));
        let BoundDoor { listener, tls, .. } = operators;
        // Nobody comes through this door without a certificate.
        let Accepted { members, .. } =
            listen::accept(listener, tls, Door::Operators, guests.clone(), stop.clone());
        serving.spawn(serve(members, "operators", operator_routes, stop.clone()));
        let taking_in = tokio::spawn(issued::take_in(state_dir, driver.clone(), stop.clone()));
        if let Some(metrics) = metrics {
            tracing::info!(address = %metrics.address, "metrics at /metrics");
            let serving_metrics = metrics.serve(driver.clone(), guests.clone(), stop.clone());
            serving.spawn(async {
                serving_metrics.await;
                Ok(())
            });
        }
        tracing::info!(agents = %agent_address, operators = %operator_address, epoch, "ready");
        // Fails only where no supervisor listens.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let watching = watchdog::feed(driver.clone());
        let asking = availability::run(driver.clone());
        let failed = tokio::select! {
            () = watching => None,
            () = asking => None,
            () = guests.tell() => None,
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            ended = &mut driver_task => Some(ended),
            _ = serving.join_next() => None,
        };
        tracing::info!("draining");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        stop.cancel();
        let drained =
            tokio::time::timeout(DRAIN, async { while serving.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!("calls were cut at the drain's deadline");
            serving.shutdown().await;
        }
        // It ends with `stop`, and waits for nothing but the driver.
        taking_in.abort();
        driver_stop.cancel();
        let ended = match failed {
            Some(ended) => ended,
            None => driver_task.await,
        };
        match ended {
            Ok(result) => result?,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
        spans.flush(FLUSH).await;
        tracing::info!("stopped");
        Ok(())
    }
}

fn write_addresses(
    path: &Path,
    agent: SocketAddr,
    operator: SocketAddr,
    metrics: Option<SocketAddr>,
) -> Result<(), AppError> {
    let mut text = serde_json::json!({
        "agent": agent.to_string(),
        "operator": operator.to_string(),
        "pid": std::process::id(),
    });
    if let Some(metrics) = metrics {
        text["metrics"] = metrics.to_string().into();
    }
    crate::pki::write(path, format!("{text}\n").as_bytes(), 0o644)?;
    Ok(())
}
