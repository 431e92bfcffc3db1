//! Jobs of systemd over D-Bus: org.freedesktop.systemd1(5).
//!
//! A connection per job: jobs are rare, and one that is kept has to be minded when the bus is restarted.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::timeout;
use zbus::{Connection, OwnedObjectPath, Variant};

use super::seen::Status;

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
    fn exec_main_code(&self) -> zbus::Result<i32>;
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
    #[error("systemd did not {verb} {unit}: {}", told(result, *end))]
    Job {
        /// start or stop.
        verb: &'static str,
        /// What.
        unit: String,
        /// The unit's result, else the job's.
        result: String,
        /// How the main process ended, if it did.
        end: Option<Status>,
    },
}

/// A result in the words that an end has elsewhere, with what systemd.exec(5) says of its own exit codes: it could not even run
/// the program.
fn told(result: &str, end: Option<Status>) -> String {
    match end {
        None | Some(Status::Exited(0)) => result.to_owned(),
        Some(end) => {
            let why = match end {
                Status::Exited(200) => ", its working directory cannot be entered",
                Status::Exited(203) => ", its program cannot be run",
                Status::Exited(216 | 217) => ", its user or group cannot be taken",
                _ => "",
            };
            format!("{end}{why}")
        }
    }
}

impl BusError {
    /// Whether the release is at fault: its program is none, or ends at once.
    pub const fn by_app(&self) -> bool {
        matches!(self, Self::Job { end: Some(Status::Killed(_) | Status::Exited(1..=199 | 203 | 244..=255)), .. })
    }

    /// Whether the unit's program, or its directory, could not be executed or entered (systemd.exec(5): EXEC, CHDIR).
    pub(super) const fn could_not_run(&self) -> bool {
        matches!(self, Self::Job { end: Some(Status::Exited(200 | 203)), .. })
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
        let end = Status::of(service.exec_main_code().await?, service.exec_main_status().await?);
        Ok((service.result().await?, end))
    });
    // A unit that is gone has nothing to say beyond what the job said.
    let (of_unit, end) = asked.await.unwrap_or_default();
    let said_more = !of_unit.is_empty() && of_unit != "success";
    let verb = match verb {
        Verb::Start => "start",
        Verb::Stop => "stop",
    };
    let result = if said_more { of_unit } else { result };
    Err(BusError::Job { verb, unit: unit.to_owned(), result, end })
}

async fn service<'a>(
    connection: &'a Connection,
    manager: &SystemdProxy<'_>,
    unit: &str,
) -> zbus::Result<ServiceProxy<'a>> {
    let path = manager.get_unit(unit).await?;
    ServiceProxy::builder(connection).path(path).build().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_failed_is_told_in_the_words_of_an_end() {
        for (result, end, words, by_app) in [
            ("exit-code", Some(Status::Exited(7)), "exit code 7", true),
            ("signal", Some(Status::Killed(11)), "killed by SIGSEGV", true),
            ("exit-code", Some(Status::Exited(255)), "exit code 255", true),
            ("exit-code", Some(Status::Exited(203)), "exit code 203, its program cannot be run", true),
            (
                "exit-code",
                Some(Status::Exited(217)),
                "exit code 217, its user or group cannot be taken",
                false,
            ),
            ("protocol", Some(Status::Exited(0)), "protocol", false),
            ("canceled", None, "canceled", false),
        ] {
            let error = BusError::Job { verb: "start", unit: "a.service".into(), result: result.into(), end };
            assert_eq!(error.to_string(), format!("systemd did not start a.service: {words}"));
            assert_eq!(error.by_app(), by_app, "{words}");
        }
    }
}
