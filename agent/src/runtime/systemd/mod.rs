//! The systemd runtime: each application is a unit, which also starts again when it fails and, from what is confirmed, when
//! the host boots, with neither agent nor coordinator.
//!
//! The unit lies in /run/systemd/system, as `current` lies in /run: a reboot forgets what was on trial, and
//! `windlass-agent restore-links` writes the confirmed release's. What was started and how it ended is systemd's own word, over
//! D-Bus and in the journal, so that both are known also of what happened while no agent ran. Nothing of the agent's
//! runs in the unit as root: all that runs there has the environment that the release's author chose.
//!
//! * [`mod@unit`]: the unit's text. [`bus`]: jobs over D-Bus. [`seen`]: what systemd knows of a unit. [`record`]: that put on
//!   record. [`journal`]: what a unit wrote. [`memory`]: what systemd cannot tell.

pub mod bus;
pub mod journal;
pub mod memory;
pub mod record;
pub mod seen;
pub mod unit;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use windlass_proto::id::AppName;
use windlass_proto::spec::Runtime as RuntimeSpec;

use self::seen::Hold;
use self::unit::{Maker, Unit};
use super::surroundings::{Prepared, Surroundings};
use super::{
    HostContext, Launch, Runtime, RuntimeError, Stopped, barred, data, end_remainder, kill, process,
};
use crate::file::{self, FileError};
use crate::perform::chain;
use crate::shim::order::{self, Exited, Keeper, Order, RunDir, Started};

/// Where units lie that the next boot shall not see.
const UNITS: &str = "/run/systemd/system";

/// How long systemd may take to start a unit, beyond what the unit itself allows.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Before the grace time is over and systemd kills what is left: when that is counted.
const COUNT_BEFORE: Duration = Duration::from_millis(20);

/// How long systemd may take to end what the main process left, before its end is put on record.
const EXIT_RECORD: Duration = Duration::from_secs(2);

/// The unit of an application.
pub fn name(app: &AppName) -> String {
    format!("windlass-app-{app}.service")
}

/// Whether systemd is this host's init.
pub fn is_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// See the module.
#[derive(Debug)]
pub struct SystemdRuntime {
    host: HostContext,
    program: PathBuf,
}

impl SystemdRuntime {
    /// `program` is the agent's own, by the path that units shall call.
    pub const fn new(host: HostContext, program: PathBuf) -> Self {
        Self { host, program }
    }

    /// Writes a release's unit and all that it reads. systemd does not know of it before it reloads. What is written
    /// already as it should be is left alone, so that a disk that cannot be written does not matter then. Says whether
    /// the unit has changed.
    pub fn write(&self, launch: &Launch) -> Result<bool, RuntimeError> {
        let RuntimeSpec::Systemd { command, unit: own, resources, .. } = &launch.spec.runtime else {
            return Err(RuntimeError::NoCommand);
        };
        process::parse_signal(&launch.spec.stop.signal)?;
        let Surroundings { env, user } = Surroundings::new(&self.host, launch)?;
        let Prepared { program, args } = match own {
            None => Prepared::new(&self.host, launch, command)?,
            Some(file) => Prepared { program: launch.dir.join(file), args: Vec::new() },
        };
        let limits = resources.clone().unwrap_or_default();
        let order = Order {
            release: launch.release.clone(),
            // The invocation's id stands in for it, which systemd gives each start.
            mark: String::new(),
            program,
            args,
            dir: launch.dir.clone(),
            env,
            user,
            memory_max: limits.memory_max.map(|size| size.0),
            open_files: limits.open_files,
            log: None,
        };
        file::make_dir(&launch.run.0)?;
        data::prepare(&launch.data, order.user)?;
        let maker = Maker {
            looks: memory::must_be_looked_at().then_some(&self.program),
            run: &launch.run.0,
            stop: &launch.spec.stop,
            cpu_quota: limits.cpu_quota,
        };
        let content = serde_json::to_vec_pretty(&order)
            .map_err(|error| file::at("write", &launch.run.order())(error.into()))?;
        keep(&launch.run.order(), &content, 0o600)?;
        keep(&launch.run.environment(), unit::environment(&order.env).as_bytes(), 0o600)?;
        let name = name(&launch.release.app);
        let Unit { file, more } = match own {
            None => Unit { file: unit::text(&order, &maker), more: None },
            Some(_) => unit::own(read(&order.program)?, &maker),
        };
        let path = Path::new(UNITS).join(&name);
        let changed = keep(&path, file.as_bytes(), 0o644)?;
        let beside = Path::new(UNITS).join(format!("{name}.d"));
        match more {
            Some(more) => {
                file::make_dir(&beside)?;
                Ok(keep(&beside.join("windlass.conf"), more.as_bytes(), 0o644)? || changed)
            }
            // Of a former release's own unit.
            None => match std::fs::remove_dir_all(&beside) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(file::at("remove", &beside)(error).into())
                }
                removed => Ok(removed.is_ok() || changed),
            },
        }
    }
}

/// Whose fault it is that a unit did not start: a program that systemd could not run may be one that this host bars.
fn blamed(run: &RunDir, error: bus::BusError) -> RuntimeError {
    if error.could_not_run()
        && let Ok(Some(Order { program, dir, user, .. })) = order::read::<Order>(&run.order())
        && let Some(why) = barred::why(&program, &dir, user)
    {
        return RuntimeError::Barred { program, why };
    }
    error.into()
}

/// Writes a file unless it is as it should be; says whether it did.
fn keep(path: &Path, content: &[u8], mode: u32) -> Result<bool, FileError> {
    if std::fs::read(path).is_ok_and(|there| there == content) {
        return Ok(false);
    }
    file::replace(path, content, mode).map(|()| true)
}

fn read(path: &Path) -> Result<String, RuntimeError> {
    let text = file::read_bounded(path, unit::OWN_BYTES)?;
    String::from_utf8(text).map_err(|_| RuntimeError::NotAUnit(path.to_owned(), "it is not UTF-8"))
}

#[async_trait]
impl Runtime for SystemdRuntime {
    async fn start(&self, launch: &Launch) -> Result<Option<Started>, RuntimeError> {
        let name = name(&launch.release.app);
        let of_release = |started: &Started| started.release.digest == launch.release.digest;
        // While it is not known what runs, nothing is written that would tell whose it is.
        let running = match refresh(&launch.run, &name).await {
            Err(RuntimeError::Record(error)) => {
                tracing::warn!(unit = name, error = chain(&error), "stopped, for nobody can say what runs");
                bus::stop(&name, launch.spec.stop.grace.std()).await?;
                None
            }
            known => known?.filter(|started| started.app.lives()),
        };
        if let Some(started) = running.filter(of_release) {
            // As after an upgrade of the agent. It runs, and its unit is rewritten at its next start in any case.
            if let Err(error) = self.renew(launch).await {
                tracing::warn!(unit = name, error = chain(&error), "unit not renewed");
            }
            return Ok(Some(started));
        }
        end_remainder(&launch.run).await?;
        process::check_ports(&self.host, launch)?;
        self.write(launch)?;
        if let Err(error) = bus::start(&name, START_DEADLINE).await {
            return Err(blamed(&launch.run, error));
        }
        let known = refresh(&launch.run, &name).await.unwrap_or_else(|error| {
            tracing::error!(unit = name, error = chain(&error), "what was started cannot be put on record");
            None
        });
        match known.filter(of_release) {
            Some(started) => {
                tracing::info!(app = %started.release.app, version = %started.release.version, unit = name,
                    pid = started.app.pid, "application started");
                Ok(Some(started))
            }
            // The disk may be full: then the unit runs, but nobody could say what it is.
            None => {
                bus::stop(&name, launch.spec.stop.grace.std()).await?;
                Err(RuntimeError::Unrecorded { unit: name, path: launch.run.started() })
            }
        }
    }

    async fn stop(&self, launch: &Launch) -> Result<Stopped, RuntimeError> {
        let (unit, grace) = (name(&launch.release.app), launch.spec.stop.grace.std());
        if launch.run.read_started().is_none() && !Path::new(UNITS).join(&unit).exists() {
            // Nothing was ever started, so there is nothing to stop, with or without systemd.
            return Ok(Stopped::default());
        }
        match recorded(&launch.run, &unit).await {
            Some(started) => stop(&launch.run, &started, &unit, grace).await,
            None => bus::stop(&unit, grace).await.map(|()| Stopped::default()).map_err(Into::into),
        }
    }

    async fn find(&self, launch: &Launch) -> Option<Started> {
        match process::find(&launch.run) {
            Some(started) => Some(started),
            None => recorded(&launch.run, &name(&launch.release.app)).await.filter(|it| it.app.lives()),
        }
    }

    async fn renew(&self, launch: &Launch) -> Result<(), RuntimeError> {
        if self.write(launch)? {
            bus::reload(&name(&launch.release.app)).await?;
        }
        Ok(())
    }
}

/// Puts on record what systemd knows of an application's unit: how its last start ended, and its newest one, whoever made it.
/// `None` where there was none.
pub async fn refresh(run: &RunDir, unit: &str) -> Result<Option<Started>, RuntimeError> {
    let held = Hold::of(unit).await?;
    let known = run.read_started().filter(|known| matches!(known.keeper, Keeper::Unit { .. }));
    if let Some(known) = known.filter(|known| !known.app.lives()) {
        record::ended(run, &known, Some(&held), Duration::ZERO).await;
    }
    let Some(seen) = held.look().await? else { return Ok(None) };
    Ok(Some(record::started(run, unit, &seen)?))
}

/// The same where what is on record is better than nothing.
pub async fn recorded(run: &RunDir, unit: &str) -> Option<Started> {
    match refresh(run, unit).await {
        Ok(Some(started)) => Some(started),
        Ok(None) => run.read_started(),
        Err(error) => {
            tracing::warn!(unit, error = chain(&error), "systemd is not heard, the record is believed");
            run.read_started()
        }
    }
}

/// Waits until a unit's main process has ended, and tells how; `None` where nobody knows. May be dropped at any time.
pub async fn exited(run: &RunDir, started: &Started, unit: &str) -> Option<Exited> {
    // From now on, for systemd forgets at once what ended well.
    let held = Hold::of(unit).await.ok();
    process::wait_for_end(started).await;
    let held = match held {
        Some(held) if held.look().await.is_ok() => Some(held),
        // The bus was restarted meanwhile.
        _ => Hold::of(unit).await.ok(),
    };
    record::ended(run, started, held.as_ref(), EXIT_RECORD).await
}

/// How often systemd has started an application again by itself, where it is systemd that keeps it.
pub async fn restarts(run: &RunDir) -> Option<u32> {
    let Keeper::Unit { name, .. } = run.read_started()?.keeper else { return None };
    bus::restarts(&name).await.ok()
}

/// Stops a unit: its own stop signal, and after its grace time SIGKILL to all that is left.
pub async fn stop(
    run: &RunDir,
    started: &Started,
    unit: &str,
    grace: Duration,
) -> Result<Stopped, RuntimeError> {
    let ran = !kill::members(started).is_empty();
    let held = Hold::of(unit).await.ok();
    let killed = async {
        sleep(grace.saturating_sub(COUNT_BEFORE)).await;
        kill::members(started).len()
    };
    let stopping = bus::stop(unit, grace);
    let (mut killed, mut stopping) = (std::pin::pin!(killed), std::pin::pin!(stopping));
    let count = tokio::select! {
        biased;
        done = &mut stopping => {
            done?;
            0
        }
        count = &mut killed => {
            stopping.await?;
            count
        }
    };
    let left = kill::members(started);
    if !left.is_empty() {
        return Err(RuntimeError::Unkillable { pids: left.iter().map(|p| p.id.pid).collect() });
    }
    let within = if ran { EXIT_RECORD } else { Duration::ZERO };
    let exit = record::ended(run, started, held.as_ref(), within).await;
    if ran {
        tracing::info!(app = %started.release.app, unit, pid = started.app.pid, killed = count, "stopped");
    }
    Ok(Stopped { ran, killed: count, exit })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use windlass_proto::spec::check;

    use super::*;
    use crate::config::HostPolicy;

    /// Directories whose drop-ins systemd applies to a service: its own, and one for each dash, cut behind it (systemd.unit(5)).
    fn drop_ins(unit: &str) -> Vec<String> {
        let stem = unit.strip_suffix(".service").unwrap();
        let cut = stem.match_indices('-').map(|(at, _)| format!("{}.service.d", &stem[..=at]));
        cut.chain([format!("{unit}.d"), "service.d".to_owned()]).collect()
    }

    #[test]
    fn a_trailing_dash_would_be_read_for_others() {
        let others = drop_ins("windlass-app-x-y.service");
        assert!(others.contains(&format!("{}.d", name(&"x-".parse().unwrap()))));
        assert!(check::app(&"x-".parse().unwrap()).is_some());
    }

    proptest! {
        /// Whatever two apps are called, as long as that is allowed.
        #[test]
        fn what_is_written_for_one_app_is_read_for_no_other(
            one in "[a-c][a-c.-]{0,5}", other in "[a-c][a-c.-]{0,5}", more in "[a-c.-]{0,3}",
        ) {
            for other in [other, format!("{one}{more}"), format!("{one}-{more}")] {
                let (one, other): (AppName, AppName) = (one.parse().unwrap(), other.parse().unwrap());
                prop_assume!(one != other && check::app(&one).is_none());
                let written = format!("{}.d", name(&one));
                prop_assert!(!drop_ins(&name(&other)).contains(&written), "{other}");
            }
        }
    }

    /// Going back to nothing must work where there is no systemd, for there nothing can have been started.
    #[tokio::test]
    async fn what_was_never_started_is_stopped_with_or_without_systemd() {
        let place = tempfile::tempdir().unwrap();
        let policy =
            HostPolicy { author_keys: vec![], threshold: 1, apps: vec![], allow_root: true, users: vec![] };
        let host = HostContext {
            name: "host-1".parse().unwrap(),
            address: [127, 0, 0, 1].into(),
            labels: Default::default(),
            policy,
        };
        let launch = Launch {
            release: windlass_proto::release::ReleaseRef {
                app: "never-started-by-anybody".parse().unwrap(),
                version: "1.0".parse().unwrap(),
                digest: windlass_proto::digest::Digest::of(b"x"),
                counter: 1,
            },
            spec: serde_json::from_str(r#"{"runtime":{"kind":"systemd","command":["bin/app"]}}"#).unwrap(),
            dir: place.path().join("tree"),
            run: RunDir(place.path().join("run")),
            logs: place.path().join("log"),
            data: place.path().join("data"),
        };
        let runtime = SystemdRuntime::new(host, "/nonexistent".into());
        assert_eq!(runtime.stop(&launch).await.unwrap(), Stopped::default());
    }
}
