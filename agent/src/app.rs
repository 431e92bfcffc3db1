//! The agent as a whole: built, run and ended, in that order.
//!
//! Build: configuration → state directory and its lock → journal, store, recovery → socket. Run: session, renewal, driver
//! and socket as tasks of one tracker. End: SIGTERM or SIGINT stops these, never an application.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::unistd::Uid;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use windlass_proto::trace::{Program, Spans};

use crate::audit_seen;
use crate::clock;
use crate::config::Settings;
use crate::control::{Control, ControlError, Sources};
use crate::dispatch::Yard;
use crate::driver::Driver;
use crate::enrol::EnrolError;
use crate::exchange::Published;
use crate::failpoint;
use crate::file::FileError;
use crate::hook::runner::{HookRunner, ShimRunner};
use crate::hook::unit::UnitRunner;
use crate::identity::Vault;
use crate::layout::Layout;
use crate::metrics;
use crate::network;
use crate::perform::Host;
use crate::pulse::{self, Pulse, Watched};
use crate::recover::Ledger;
use crate::runtime::{HostContext, Runtimes, systemd};
use crate::session::{Bulk, Link, LinkState, renewal};
use crate::staging::{Patience, PolicyError, Stager};
use crate::storage::{self, StorageError};

/// Orders that wait for the driver.
const ORDERS: usize = 256;

/// Findings that wait for the driver.
const FINDINGS: usize = 256;

/// Releases staged at once: one at a time uses the link and the disk well enough.
const STAGINGS: usize = 2;

/// How long tasks may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// And then a collector of traces for what was not sent yet.
const FLUSH: Duration = Duration::from_secs(1);

/// How long coordinators' names may take to be resolved.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);

/// How long a loop of the agent may take to come round. With WatchdogSec= on top, less than a minute.
const ROUND_WITHIN: Duration = Duration::from_secs(25);

/// How often systemd is told how it goes.
const STATUS_EVERY: Duration = Duration::from_secs(30);

/// The program that has the hidden verb `shim`: this one, even after its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The same by the path at which the next one will be found: systemd starts it long after this process has ended.
pub(crate) fn own_program() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_else(|_| OWN_PROGRAM.into());
    // What the kernel says of a file that was replaced.
    match path.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(replaced) => replaced.into(),
        None => path,
    }
}

/// Why the agent does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No runtime.
    #[error("cannot start the agent's threads")]
    Threads(#[source] std::io::Error),
    /// The kernel does not say which boot this is.
    #[error("cannot read the boot id from /proc")]
    BootId(#[source] std::io::Error),
    /// Paths cannot be made absolute.
    #[error("cannot use the state directory {}", path.display())]
    Paths {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The state directory.
    #[error("cannot use the state directory {}", path.display())]
    Storage {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: StorageError,
    },
    /// The identity directory.
    #[error("cannot keep the host's identity")]
    Identity(#[source] FileError),
    /// The author keys.
    #[error("cannot use the host's policy")]
    Policy(#[source] PolicyError),
    /// The local socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
    /// The host cannot take part in the fleet.
    #[error("cannot enrol this host")]
    Enrol(#[source] EnrolError),
    /// A task ended that never should.
    #[error("the {0} ended by itself; the log says why")]
    Task(&'static str),
}

/// Names of all paths of a host.
pub fn layout_of(settings: &Settings) -> Result<Layout, AppError> {
    Layout::new(&settings.state_dir, &settings.run_dir)
        .map_err(|source| AppError::Paths { path: settings.state_dir.clone(), source })
}

/// Runs the agent of this host to its end.
pub fn run(settings: Settings) -> Result<(), AppError> {
    // An idle agent has little to do; what computes or blocks has threads of its own that end when they idle.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()
        .map_err(AppError::Threads)?;
    let _armed = failpoint::arm();
    // Spawned, so that the main future lives on the heap of a worker that may block in place.
    let ended = runtime.block_on(async { tokio::spawn(App::build_and_run(settings)).await });
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended.unwrap_or(Err(AppError::Task("agent")))
}

struct App {
    link: Link,
    bulk: Bulk,
    driver: Driver,
    control: Control,
    published: watch::Receiver<Published>,
    stop: CancellationToken,
    spans: Spans,
}

impl App {
    async fn build_and_run(settings: Settings) -> Result<(), AppError> {
        let app = tokio::task::block_in_place(|| Self::build(settings))?;
        app.run().await
    }

    /// Opens everything and takes up what was under way. Blocks.
    fn build(settings: Settings) -> Result<Self, AppError> {
        let layout = layout_of(&settings)?;
        let boot_id = clock::boot_id().map_err(AppError::BootId)?;
        let stager = Stager::new(layout.clone(), settings.policy.clone(), Patience::default())
            .map_err(AppError::Policy)?;
        let storage = storage::open(&layout, SystemTime::now())
            .map_err(|source| AppError::Storage { path: settings.state_dir.clone(), source })?;
        let problems = storage.problems();
        for problem in &problems {
            tracing::error!(problem, "this host is not as it should be");
        }
        let vault = Vault::open(&layout.identity()).map_err(AppError::Identity)?;
        let (ledger, left) = Ledger::open(storage.journal, &storage.recovered, &layout, boot_id.clone());

        let stop = CancellationToken::new();
        let (orders_in, orders) = mpsc::channel(ORDERS);
        let (found_in, found) = mpsc::channel(FINDINGS);
        let (publish, published) = watch::channel(Published { problems, ..Published::default() });
        let context = HostContext::new(&settings);
        let (traffic, retention) = (settings.traffic.clone(), settings.retention);
        let link = Link {
            settings: Arc::new(settings),
            trust: stager.trust(),
            layout: layout.clone(),
            vault,
            boot_id,
            orders: orders_in,
            published: published.clone(),
            state: watch::Sender::new(LinkState::default()),
            audit: audit_seen::Keeper::open(&layout),
            identity: watch::Sender::default(),
            stop: stop.clone(),
            pulse: Pulse::default(),
        };
        let bulk = Bulk::new(&link);
        let runtimes = Runtimes::new(context.clone(), OWN_PROGRAM.into(), own_program());
        let hooks: Box<dyn HookRunner> = if systemd::is_here() && Uid::effective().is_root() {
            Box::new(UnitRunner::new(own_program()))
        } else {
            Box::new(ShimRunner::new(OWN_PROGRAM.into()))
        };
        let store = storage.store.store;
        let yard = Yard {
            host: Arc::new(Host::new(
                layout.clone(),
                context,
                runtimes,
                hooks,
                traffic,
                Arc::clone(&store),
                retention,
            )),
            stager: Arc::new(stager),
            uplink: Arc::new(bulk.clone()),
            slots: Arc::new(Semaphore::new(STAGINGS)),
            found: found_in,
            safe_mode: storage.safe_mode.map(Arc::from),
        };
        let control = Control::bind(Sources {
            layout,
            store,
            published: published.clone(),
            link: link.state.subscribe(),
        })?;
        let program = Program {
            service: "windlass-agent",
            version: env!("CARGO_PKG_VERSION"),
            host: Some(link.settings.name.as_str()),
        };
        let spans = Spans::from_env(program).unwrap_or_else(|no| {
            tracing::error!(error = %no, "nobody is told of traces");
            Spans::default()
        });
        let driver = Driver::new(ledger, left, yard, orders, found, publish).telling(spans.clone());
        Ok(Self { link, bulk, driver, control, published, stop, spans })
    }

    async fn run(self) -> Result<(), AppError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(AppError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::Signals)?;
        let Self { link, bulk, driver, control, published, stop, spans } = self;
        let name = link.settings.name.clone();
        let state = link.state.subscribe();
        let tasks = TaskTracker::new();
        if let Some(address) = link.settings.metrics_listen {
            let sources = metrics::Sources {
                counted: driver.counted(),
                published: published.clone(),
                link: state.clone(),
                identity: link.identity.subscribe(),
                layout: link.layout.clone(),
            };
            tasks.spawn(metrics::run(address, sources, stop.clone()));
        }
        let renewing = renewal::run(
            bulk,
            Arc::clone(&link.settings),
            link.vault.clone(),
            link.identity.clone(),
            stop.clone(),
        );
        let mut renewing = tasks.spawn(renewing);
        let (known, names) = (driver.coordinators(), link.settings.coordinators.clone());
        tasks.spawn(async move {
            let found = network::addresses(&names, RESOLVE_WITHIN).await;
            // Set once, here.
            let _ = known.set(found);
        });
        let watched = |name, pulse: &Pulse| Watched { name, pulse: pulse.clone(), patience: ROUND_WITHIN };
        let pulse = Pulse::default();
        let watching = pulse::watch(vec![watched("driver", &pulse), watched("session", &link.pulse)]);
        let mut driving = tasks.spawn(driver.run(pulse, stop.clone()));
        let mut answering = tasks.spawn(control.run(stop.clone()));
        let mut linking = tasks.spawn(link.run());
        tracing::info!(host = %name, pid = std::process::id(), "agent ready");
        notify(&[NotifyState::Ready]);
        let telling = tell_systemd(state, published);
        let ended = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            linked = &mut linking => match linked {
                Ok(Err(error)) => Err(AppError::Enrol(error)),
                _ => Err(AppError::Task("session")),
            },
            _ = &mut driving => Err(AppError::Task("driver")),
            _ = &mut answering => Err(AppError::Task("local socket")),
            _ = &mut renewing => Err(AppError::Task("renewal")),
            () = telling => Err(AppError::Task("status")),
            () = watching => Err(AppError::Task("watchdog")),
        };
        notify(&[NotifyState::Stopping]);
        tracing::info!(host = %name, "agent ends; applications go on");
        stop.cancel();
        tasks.close();
        if tokio::time::timeout(END_WITHIN, tasks.wait()).await.is_err() {
            tracing::warn!("tasks did not end in time");
        }
        spans.flush(FLUSH).await;
        ended
    }
}

/// Tells systemd, where it asked to be told, how the agent is.
async fn tell_systemd(mut link: watch::Receiver<LinkState>, published: watch::Receiver<Published>) {
    loop {
        let words = link.borrow_and_update().words(clock::wall());
        let apps = published.borrow().apps.len();
        notify(&[NotifyState::Status(&format!("{words}; {apps} apps"))]);
        tokio::select! {
            changed = link.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
            () = tokio::time::sleep(STATUS_EVERY) => {}
        }
    }
}

pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd not told");
    }
}
