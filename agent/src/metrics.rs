//! What `GET /metrics` shows of this host: what the agent has counted since it started, and how the host is now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_proto::id::AppName;
use windlass_proto::metrics::prometheus_client::metrics::counter::Counter;
use windlass_proto::metrics::prometheus_client::metrics::family::Family;
use windlass_proto::metrics::prometheus_client::metrics::info::Info;
use windlass_proto::metrics::prometheus_client::registry::Registry;
use windlass_proto::metrics::{Ending, Endings, MetricsAddress, bytes_beneath, gauge, gauges};
use windlass_proto::phase::Phase;
use windlass_release::{State, Supervision};

use crate::exchange::Published;
use crate::facts;
use crate::identity::Identity;
use crate::layout::Layout;
use crate::session::LinkState;

/// How long an address that is taken is left alone.
const BIND_AGAIN: Duration = Duration::from_secs(10);

/// Counters; clones are the same ones. Apps of a host are few, so that they may be labels.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    deployments: Endings,
    restarts: Family<[(&'static str, String); 1], Counter>,
}

impl Counted {
    /// An app took a step.
    pub fn step(&self, before: &State, after: &State) {
        self.restart(before, after);
        let Some(operation) = &after.operation else { return };
        let Some(outcome) = operation.outcome else { return };
        let known = before.operation.as_ref().filter(|known| known.op == operation.op);
        self.deployments.count(Ending {
            outcome,
            before: known.and_then(|known| known.outcome),
            fault: operation.fault,
            phase_times: &after.phase_times,
            drained: operation.drained,
        });
    }

    fn restart(&self, before: &State, after: &State) {
        let waited = matches!(before.supervision, Supervision::Waiting { .. });
        let labels = [("app", after.app.to_string())];
        if waited && matches!(after.supervision, Supervision::Linking | Supervision::Starting) {
            self.restarts.get_or_create(&labels).inc();
        } else if after.confirmed.is_some() {
            drop(self.restarts.get_or_create(&labels));
        }
    }

    /// An app was forgotten.
    pub fn forget(&self, app: &AppName) {
        self.restarts.remove(&[("app", app.to_string())]);
    }

    fn register(&self, registry: &mut Registry) {
        let help = "Deployments that ended on this host, by outcome and fault";
        self.deployments.register(registry, "deployments", help);
        registry.register(
            "app_restarts",
            "Times that an app was started again outside of a deployment, because it had ended or its liveness probe failed",
            self.restarts.clone(),
        );
    }
}

/// Where the numbers come from; cheap to clone.
#[derive(Debug, Clone)]
pub struct Sources {
    /// What the driver counts.
    pub counted: Counted,
    /// The apps.
    pub published: watch::Receiver<Published>,
    /// The way to the coordinator.
    pub link: watch::Receiver<LinkState>,
    /// The certificate in use.
    pub identity: watch::Receiver<Option<Arc<Identity>>>,
    /// Names of all paths.
    pub layout: Layout,
}

/// Serves until stopped. A host whose apps are well does not go without an agent because of its metrics: an address that is
/// taken is tried again.
pub async fn run(address: MetricsAddress, sources: Sources, stop: CancellationToken) {
    let serving = async {
        let listener = bind(address).await;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "metrics at /metrics");
        }
        let measure = move || measure(sources.clone());
        windlass_proto::metrics::serve(listener, measure, std::future::pending()).await;
    };
    tokio::select! {
        () = serving => {}
        () = stop.cancelled() => {}
    }
}

async fn bind(address: MetricsAddress) -> TcpListener {
    loop {
        match TcpListener::bind(address.0).await {
            Ok(listener) => return listener,
            Err(error) => {
                tracing::error!(%address, %error, "metrics cannot be served; set metrics_listen to an address that is free");
                tokio::time::sleep(BIND_AGAIN).await;
            }
        }
    }
}

/// Measures all of it.
pub async fn measure(sources: Sources) -> Result<Registry, String> {
    let Sources { counted, published, link, identity, layout } = sources;
    let mut registry = Registry::with_prefix("windlass_agent");
    registry.register("build", "This agent", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    let mut phases: BTreeMap<&str, f64> = Phase::ALL.iter().map(|phase| (phase.word(), 0.0)).collect();
    let problems = {
        let published = published.borrow();
        for status in published.apps.values() {
            *phases.entry(status.phase.word()).or_default() += 1.0;
        }
        published.problems.len()
    };
    gauges(&mut registry, ("apps", "phase"), "Apps of this host, by phase", phases);
    gauge(&mut registry, "problems", "Things that are wrong with the host itself", problems as f64);
    let (connected, since) = {
        let link = link.borrow();
        (link.connected.is_some(), link.since)
    };
    gauge(&mut registry, "connected", "Whether a coordinator is connected", f64::from(u8::from(connected)));
    if let Some(since) = since {
        let help = "Since when it is so, in seconds since 1970";
        gauge(&mut registry, "connected_changed_timestamp_seconds", help, since.0 as f64 / 1000.0);
    }
    if let Some(until) = identity.borrow().as_ref().map(|identity| identity.until) {
        let help = "When the host's certificate ends, in seconds since 1970";
        gauge(&mut registry, "certificate_expiry_timestamp_seconds", help, until.0 as f64 / 1000.0);
    }
    counted.register(&mut registry);
    let disk = tokio::task::spawn_blocking(move || Disk::of(&layout)).await;
    if let Ok(Disk { store, free }) = disk {
        gauge(
            &mut registry,
            "store_bytes",
            "What the agent's records take on disk, without releases",
            store as f64,
        );
        gauge(&mut registry, "disk_free_bytes", "Free where releases are kept", free as f64);
    }
    Ok(registry)
}

/// What is on disk.
struct Disk {
    store: u64,
    free: u64,
}

impl Disk {
    /// Blocks.
    fn of(layout: &Layout) -> Self {
        Self { store: bytes_beneath(&layout.store()), free: facts::free_bytes(layout.state()) }
    }
}

#[cfg(test)]
mod tests {
    use windlass_proto::metrics::prometheus_client::encoding::text::encode;
    use windlass_release::BootTime;

    use super::*;

    fn state(supervision: Supervision) -> State {
        State { supervision, ..State::new(AppName::new("web").unwrap()) }
    }

    fn has(counted: &Counted, line: &str) -> bool {
        let mut registry = Registry::with_prefix("windlass_agent");
        counted.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text.lines().any(|has| has == line)
    }

    #[test]
    fn a_start_after_a_pause_is_a_restart_and_the_first_start_is_none() {
        let counted = Counted::default();
        let (off, starting) = (state(Supervision::Off), state(Supervision::Starting));
        let waiting = state(Supervision::Waiting { until: BootTime(1) });
        let up = state(Supervision::Up { since: BootTime(2) });
        let line = |n: u32| format!("windlass_agent_app_restarts_total{{app=\"web\"}} {n}");
        counted.step(&off, &starting);
        counted.step(&starting, &up);
        assert!(!has(&counted, &line(1)));
        for (before, after) in [(&up, &waiting), (&waiting, &starting), (&starting, &up)] {
            counted.step(before, after);
        }
        assert!(has(&counted, &line(1)));
        counted.step(&waiting, &off);
        assert!(has(&counted, &line(1)), "a deployment took over");
        counted.forget(&up.app);
        assert!(!has(&counted, &line(1)));
    }
}
