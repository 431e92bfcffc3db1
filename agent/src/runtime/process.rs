//! The process runtime: the application runs in a session of its own under a shim, and is found again by pid, start
//! time and boot id.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::time::{sleep, timeout};
use windlass_proto::spec::Runtime as RuntimeSpec;

use super::surroundings::{Prepared, Surroundings};
use super::{HostContext, Launch, Runtime, RuntimeError, Stopped, data, end_remainder, kill, systemd};
use crate::failpoint::{self, Barrier};
use crate::pidfd::PidFd;
use crate::shim::log;
use crate::shim::order::{self, Answer, Exited, Keeper, Order, RunDir, Started};
use crate::{clock, file, processes, sockets};

/// How long the shim may take to start the application.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// How long the shim may take to write down an end that was seen.
const EXIT_RECORD: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct ProcessRuntime {
    host: HostContext,
    shim: PathBuf,
}

impl ProcessRuntime {
    /// `shim` is the program that has the hidden verb.
    pub fn new(host: HostContext, shim: PathBuf) -> Self {
        Self { host, shim }
    }

    fn order(&self, launch: &Launch) -> Result<Order, RuntimeError> {
        let RuntimeSpec::Process { command, resources, .. } = &launch.spec.runtime else {
            return Err(RuntimeError::NoCommand);
        };
        let Prepared { program, args } = Prepared::new(&self.host, launch, command)?;
        let Surroundings { env, user } = Surroundings::new(&self.host, launch)?;
        Ok(Order {
            release: launch.release.clone(),
            mark: format!("{:032x}", rand::random::<u128>()),
            program,
            args,
            dir: launch.dir.clone(),
            env,
            user,
            memory_max: resources.as_ref().and_then(|r| r.memory_max).map(|size| size.0),
            open_files: resources.as_ref().and_then(|r| r.open_files),
            log: Some(log::of(&launch.logs, &launch.release.digest)),
        })
    }
}

/// Whether the release's ports are free.
pub(super) fn check_ports(host: &HostContext, launch: &Launch) -> Result<(), RuntimeError> {
    for (name, port) in &launch.spec.ports {
        if let Some(holder) = sockets::holder(host.address, *port) {
            let (name, port, address) = (name.clone(), *port, host.address);
            return Err(RuntimeError::PortInUse { name, port, address, holder });
        }
    }
    Ok(())
}

/// Spawns the shim and waits for its answer.
pub(crate) async fn spawn(shim: &Path, run: &RunDir, order: &Order) -> Result<Started, RuntimeError> {
    place(run, order)?;
    let shim_error = |source| RuntimeError::Shim(shim.to_owned(), source);
    let mut first = tokio::process::Command::new(shim)
        .args(["shim", "--order"])
        .arg(run.order())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(shim_error)?;
    failpoint::at(Barrier::ShimSpawned);
    let mut answer = Vec::new();
    let mut stdout = first.stdout.take();
    let talk = async {
        if let Some(stdout) = &mut stdout {
            stdout.take(64 * 1024).read_to_end(&mut answer).await?;
        }
        first.wait().await
    };
    let slow = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer in 10 s");
    timeout(START_DEADLINE, talk).await.map_err(|_| shim_error(slow()))?.map_err(shim_error)?;
    let garbled = |error| shim_error(io::Error::new(io::ErrorKind::InvalidData, error));
    answered(serde_json::from_slice(&answer).map_err(garbled)?)
}

/// Writes an order where its shim looks for it.
pub(crate) fn place(run: &RunDir, order: &Order) -> Result<(), file::FileError> {
    // The environment may hold secrets.
    file::replace_json(&run.order(), order, 0o600)
}

/// What a shim's answer means.
pub(crate) fn answered(answer: Answer) -> Result<Started, RuntimeError> {
    match answer {
        Answer::Started(started) => Ok(*started),
        Answer::Failed { reason, by_app } => Err(RuntimeError::NotStarted { reason, by_app }),
    }
}

/// Reads a signal's name as a spec writes it, with or without `SIG`.
pub fn parse_signal(name: &str) -> Result<Signal, RuntimeError> {
    Signal::from_str(name)
        .or_else(|_| Signal::from_str(&format!("SIG{name}")))
        .map_err(|_| RuntimeError::UnknownSignal(name.to_owned()))
}

#[async_trait]
impl Runtime for ProcessRuntime {
    async fn start(&self, launch: &Launch) -> Result<Option<Started>, RuntimeError> {
        unfinished(&launch.run).await;
        if let Some(started) = find(&launch.run)
            && started.release.digest == launch.release.digest
        {
            return Ok(Some(started));
        }
        end_remainder(&launch.run).await?;
        parse_signal(&launch.spec.stop.signal)?;
        let order = self.order(launch)?;
        check_ports(&self.host, launch)?;
        file::make_dir(&launch.run.0)?;
        data::prepare(&launch.data, order.user)?;
        // Without it, as on a broken disk, the output is lost and not the application.
        if let Err(error) = file::make_dir(&launch.logs) {
            tracing::warn!(app = %launch.release.app, %error, "no log");
        }
        let started = spawn(&self.shim, &launch.run, &order).await?;
        tracing::info!(app = %started.release.app, version = %started.release.version, pid = started.app.pid,
            "application started");
        Ok(Some(started))
    }

    async fn stop(&self, launch: &Launch) -> Result<Stopped, RuntimeError> {
        unfinished(&launch.run).await;
        let Some(started) = launch.run.read_started() else { return Ok(Stopped::default()) };
        // A signal name that no longer parses must not keep the application running.
        let signal = parse_signal(&launch.spec.stop.signal).unwrap_or(Signal::SIGTERM);
        kill::stop(&launch.run, &started, signal, launch.spec.stop.grace.std()).await
    }

    async fn find(&self, launch: &Launch) -> Option<Started> {
        find(&launch.run)
    }
}

/// Waits for a start that an agent began before it was killed: its shim goes on by itself, and what it starts must be
/// known before anything else is started or stopped.
pub(crate) async fn unfinished(run: &RunDir) {
    let order = run.order();
    let ordered = || order::read::<Order>(&order).ok().flatten().map(|order| order.mark);
    let seen = || processes::all().into_iter().any(|p| p.lives() && p.id.is_shim_of(&order));
    // A shim hands over to its second self. Whoever lists processes just then may see neither, but never twice.
    let at_work = || seen() || seen();
    let wait = async {
        while ordered() != run.read_started().map(|started| started.mark) && at_work() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(START_DEADLINE, wait).await.is_err() {
        tracing::warn!(order = %order.display(), "a shim does not come to an end with its start");
    }
}

/// What runs of an application, by its run directory.
pub fn find(run: &RunDir) -> Option<Started> {
    let started = run.read_started()?;
    let same_boot = clock::boot_id().is_ok_and(|boot| boot == started.boot_id);
    (same_boot && started.app.lives()).then_some(started)
}

/// Waits until the application has ended and tells how; `None` when nobody wrote that down, as when the shim was
/// killed too. May be dropped at any time.
pub async fn exited(run: &RunDir, started: &Started) -> Option<Exited> {
    if let Keeper::Unit { name, .. } = &started.keeper {
        return systemd::exited(run, started, name).await;
    }
    wait_for_end(started).await;
    let record = async {
        loop {
            if let Some(exited) = run.read_exited(&started.mark) {
                return Some(exited);
            }
            if started.shim().is_some_and(|shim| !shim.lives()) {
                return run.read_exited(&started.mark);
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(EXIT_RECORD, record).await.ok().flatten()
}

pub(super) async fn wait_for_end(started: &Started) {
    let watched = PidFd::open(started.app.pid).ok().filter(|_| find_by_id(started));
    match watched {
        Some(process) if process.ended().await.is_ok() => {}
        _ => {
            while find_by_id(started) {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn find_by_id(started: &Started) -> bool {
    clock::boot_id().is_ok_and(|boot| boot == started.boot_id) && started.app.lives()
}

/// An end in words: `exit code 1`, `killed by SIGSEGV`, `not running`.
pub fn in_words(exit: Option<&Exited>) -> String {
    match exit {
        Some(Exited { code: Some(code), .. }) => format!("exit code {code}"),
        Some(Exited { signal: Some(signal), out_of_memory, .. }) => {
            format!("{}{}", killed_by(*signal), if *out_of_memory { ", out of memory" } else { "" })
        }
        _ => "not running".to_owned(),
    }
}

/// `killed by SIGSEGV`; the number where the signal has no name.
pub fn killed_by(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(signal) => format!("killed by {signal}"),
        Err(_) => format!("killed by signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        assert_eq!(parse_signal("SIGTERM").unwrap(), Signal::SIGTERM);
        assert_eq!(parse_signal("INT").unwrap(), Signal::SIGINT);
        assert!(parse_signal("SIGNOPE").unwrap_err().to_string().contains("SIGNOPE"));
    }

    #[test]
    fn ends_are_told_in_words() {
        let exit = |code, signal| Exited {
            mark: String::new(),
            code,
            signal,
            out_of_memory: false,
            at: Default::default(),
            output: None,
        };
        assert_eq!(in_words(Some(&exit(Some(3), None))), "exit code 3");
        assert_eq!(in_words(Some(&exit(None, Some(11)))), "killed by SIGSEGV");
        let starved = Exited { out_of_memory: true, ..exit(None, Some(9)) };
        assert_eq!(in_words(Some(&starved)), "killed by SIGKILL, out of memory");
        assert_eq!(in_words(None), "not running");
    }
}
