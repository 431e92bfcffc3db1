//! Jobs of systemd over D-Bus: org.freedesktop.systemd1(5).
//!
//! A connection per job: jobs are rare, and one that is kept has to be minded when the bus is restarted.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::timeout;
use zbus::{Connection, OwnedObjectPath, Variant};

/// For what systemd answers at once.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// On top of a unit's own grace time.
const STOP_MARGIN: Duration = Duration::from_secs(20);

/// systemd knows no unit of this name.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Systemd {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn ref_unit(&self, name: &str) -> zbus::Result<()>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Service {
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn exec_main_status(&self) -> zbus::Result<i32>;
    #[zbus(property, name = "NRestarts")]
    fn n_restarts(&self) -> zbus::Result<u32>;
}

/// Why systemd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The bus, or systemd on it.
    #[error("cannot talk to systemd over D-Bus; it needs dbus.service")]
    Bus(#[from] zbus::Error),
    /// No answer.
    #[error("systemd did not answer about {unit} within {} s", within.as_secs())]
    Slow {
        /// About what.
        unit: String,
        /// For how long it was waited.
        within: Duration,
    },
    /// The job did not come to its end.
    #[error("systemd did not {verb} {unit}: {}{}", result, told(*status))]
    Job {
        /// start or stop.
        verb: &'static str,
        /// What.
        unit: String,
        /// The unit's result, else the job's.
        result: String,
        /// The main process' exit status.
        status: i32,
    },
}

/// Exit statuses of systemd itself, of systemd.exec(5): it could not even run the program.
fn told(status: i32) -> String {
    match status {
        0 => String::new(),
        200 => " (200: its working directory cannot be entered)".to_owned(),
        203 => " (203: its program cannot be run)".to_owned(),
        216 | 217 => format!(" ({status}: its user or group cannot be taken)"),
        other => format!(" (status {other})"),
    }
}

impl BusError {
    /// Whether the release is at fault: its program is none, or ends at once.
    pub const fn by_app(&self) -> bool {
        matches!(self, Self::Job { status: 1..=199 | 203, .. })
    }

    /// Whether systemd knows no such unit.
    pub(super) fn is_unknown_unit(&self) -> bool {
        matches!(self, Self::Bus(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_SUCH_UNIT)
    }
}

/// What is done with a unit.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Start,
    Stop,
}

/// Has systemd read its units again, and starts one; returns when it runs.
pub async fn start(unit: &str, within: Duration) -> Result<(), BusError> {
    let connection = Connection::system().await?;
    let manager = SystemdProxy::new(&connection).await?;
    answered(unit, ANSWER_DEADLINE, async {
        manager.reload().await?;
        // Of a former failure; there mostly is none.
        let _ = manager.reset_failed_unit(unit).await;
        Ok(())
    })
    .await?;
    let result =
        answered(unit, within, job(&manager, async || manager.start_unit(unit, "replace").await)).await?;
    finished(&connection, &manager, Verb::Start, unit, result).await
}

/// Has systemd read its units again, which leaves what runs as it is.
pub async fn reload(unit: &str) -> Result<(), BusError> {
    let connection = Connection::system().await?;
    let manager = SystemdProxy::new(&connection).await?;
    answered(unit, ANSWER_DEADLINE, manager.reload()).await
}

/// Stops a unit, which takes as long as its grace time; one that systemd does not know is stopped.
pub async fn stop(unit: &str, grace: Duration) -> Result<(), BusError> {
    let connection = Connection::system().await?;
    let manager = SystemdProxy::new(&connection).await?;
    let stopping = job(&manager, async || manager.stop_unit(unit, "replace").await);
    match answered(unit, grace + STOP_MARGIN, stopping).await {
        Err(error) if error.is_unknown_unit() => Ok(()),
        result => finished(&connection, &manager, Verb::Stop, unit, result?).await,
    }
}

/// Starts a service that is gone when it ends: `command` with its arguments, ended with all that it began after `at_most`.
pub async fn start_transient(
    unit: &str,
    description: &str,
    command: &[String],
    at_most: Duration,
) -> Result<(), BusError> {
    let connection = Connection::system().await?;
    let manager = SystemdProxy::new(&connection).await?;
    let micros = u64::try_from(at_most.as_micros()).unwrap_or(u64::MAX);
    let program = command.first().map_or("", String::as_str);
    let properties = [
        ("Description", Variant::from(description)),
        ("Type", Variant::from("exec")),
        ("ExecStart", Variant::from(vec![(program, command.to_vec(), false)])),
        ("KillMode", Variant::from("control-group")),
        ("RuntimeMaxUSec", Variant::from(micros)),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ];
    let starting = job(&manager, async || manager.start_transient_unit(unit, "fail", &properties, &[]).await);
    let result = answered(unit, ANSWER_DEADLINE, starting).await?;
    finished(&connection, &manager, Verb::Start, unit, result).await
}

/// How often systemd has started a unit again by itself.
pub async fn restarts(unit: &str) -> Result<u32, BusError> {
    let connection = Connection::system().await?;
    let manager = SystemdProxy::new(&connection).await?;
    answered(unit, ANSWER_DEADLINE, async { service(&connection, &manager, unit).await?.n_restarts().await })
        .await
}

async fn answered<T>(
    unit: &str,
    within: Duration,
    answer: impl Future<Output = zbus::Result<T>>,
) -> Result<T, BusError> {
    let slow = |_| BusError::Slow { unit: unit.to_owned(), within };
    Ok(timeout(within, answer).await.map_err(slow)??)
}

/// Begins a job and waits for its end. systemd tells ends only to those who subscribed before the beginning.
async fn job(
    manager: &SystemdProxy<'_>,
    begin: impl AsyncFnOnce() -> zbus::Result<OwnedObjectPath>,
) -> zbus::Result<String> {
    manager.subscribe().await?;
    let mut ends = manager.receive_job_removed().await?;
    let job = begin().await?;
    while let Some(end) = ends.next().await {
        let end = end.args()?;
        if end.job == job {
            return Ok(end.result);
        }
    }
    Err(zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::ConnectionReset.into())))
}

async fn finished(
    connection: &Connection,
    manager: &SystemdProxy<'_>,
    verb: Verb,
    unit: &str,
    result: String,
) -> Result<(), BusError> {
    if result == "done" {
        return Ok(());
    }
    let asked = answered(unit, ANSWER_DEADLINE, async {
        let service = service(connection, manager, unit).await?;
        Ok((service.result().await?, service.exec_main_status().await?))
    });
    // A unit that is gone has nothing to say beyond what the job said.
    let (of_unit, status) = asked.await.unwrap_or_default();
    let said_more = !of_unit.is_empty() && of_unit != "success";
    let verb = match verb {
        Verb::Start => "start",
        Verb::Stop => "stop",
    };
    let result = if said_more { of_unit } else { result };
    Err(BusError::Job { verb, unit: unit.to_owned(), result, status })
}

async fn service<'a>(
    connection: &'a Connection,
    manager: &SystemdProxy<'_>,
    unit: &str,
) -> zbus::Result<ServiceProxy<'a>> {
    let path = manager.get_unit(unit).await?;
    ServiceProxy::builder(connection).path(path).build().await
}
