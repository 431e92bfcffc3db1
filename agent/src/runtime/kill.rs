//! Ending all that came from one start of an application.
//!
//! Members of a unit are those in its control group. Under a shim they are found by three marks: the session that its shim leads, descent from the shim (which is
//! their subreaper, so that also those that began a session of their own are found), and the start's mark in their
//! environment (which also stands when the shim is gone). No process is signalled but through a pidfd taken before its
//! start time was compared.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep};

use super::{RuntimeError, Stopped};
use crate::clock;
use crate::processes::{self, ProcessId, Stat};
use crate::shim::order::{Keeper, MARK, RunDir, Started};

/// How often the members are counted while they end.
const LOOK: Duration = Duration::from_millis(25);

/// How long processes may take to vanish after SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// How long the shim may take to write down the end.
const SHIM_DEADLINE: Duration = Duration::from_secs(2);

/// The living processes of a start, without its shim.
pub fn members(started: &Started) -> Vec<Stat> {
    if !same_boot(started) {
        return Vec::new();
    }
    match &started.keeper {
        Keeper::Shim(shim) => under_shim(started, *shim),
        Keeper::Unit { cgroup, .. } => within(cgroup),
    }
}

fn within(cgroup: &str) -> Vec<Stat> {
    // Of a unit that is gone systemd names none, and all that lives is within the root.
    if cgroup.trim_matches('/').is_empty() {
        return Vec::new();
    }
    let is_within = |p: &Stat| {
        let of = p.id.cgroup();
        of.as_deref()
            .and_then(|of| of.strip_prefix(cgroup))
            .is_some_and(|below| matches!(below.chars().next(), None | Some('/')))
    };
    processes::all().into_iter().filter(Stat::lives).filter(is_within).collect()
}

fn under_shim(started: &Started, shim: ProcessId) -> Vec<Stat> {
    let all = processes::all();
    let shim_lives = all.iter().any(|p| p.id == shim);
    let line = format!("{MARK}={}", started.mark);
    // A session's number is not given away while a process is in it. So one member known by other means shows that
    // the session is still the shim's.
    let session_is_ours = shim_lives
        || all.iter().any(|p| p.session == shim.pid && (p.id == started.app || p.id.has_environment(&line)));
    let descendants = if shim_lives { descendants(&all, shim.pid) } else { BTreeSet::new() };
    all.into_iter()
        .filter(|p| p.lives() && p.id != shim && p.id.start >= shim.start)
        .filter(|p| {
            p.id == started.app
                || (session_is_ours && p.session == shim.pid)
                || descendants.contains(&p.id.pid)
                || p.id.has_environment(&line)
        })
        .collect()
}

fn descendants(all: &[Stat], of: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        let children = all.iter().filter(|p| p.parent == parent && p.id.pid != parent);
        parents.extend(children.map(|p| p.id.pid).filter(|pid| found.insert(*pid)));
    }
    found
}

/// Signals a process if it is still the one that is meant.
pub fn signal(process: ProcessId, signal: Signal) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(process.pid.cast_signed()) else { return false };
    let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) else { return false };
    pidfd_open(pid, PidfdFlags::empty())
        .is_ok_and(|fd| process.lives() && pidfd_send_signal(fd, signal).is_ok())
}

/// Stops a start: `first` to the application's process group, or to all that it left behind when it is gone, and when `grace` has passed SIGKILL to every member.
pub async fn stop(
    run: &RunDir,
    started: &Started,
    first: Signal,
    grace: Duration,
) -> Result<Stopped, RuntimeError> {
    let mut left = members(started);
    let ran = !left.is_empty();
    // What the application began apart from its group it ends itself; where it is gone, nobody else would tell them.
    let group_lives = left.iter().any(|p| p.group == started.app.pid);
    for member in left.iter().filter(|p| !group_lives || p.group == started.app.pid) {
        signal(member.id, first);
    }
    let patience = Instant::now() + grace;
    while !left.is_empty() && Instant::now() < patience {
        sleep(LOOK).await;
        left = members(started);
    }
    let killed = left.len();
    let deadline = Instant::now() + KILL_DEADLINE;
    while !left.is_empty() {
        if Instant::now() > deadline {
            return Err(RuntimeError::Unkillable { pids: left.iter().map(|p| p.id.pid).collect() });
        }
        for member in &left {
            signal(member.id, Signal::SIGKILL);
        }
        sleep(LOOK).await;
        left = members(started);
    }
    if let Some(shim) = started.shim().filter(|_| same_boot(started))
        && !ended(shim, SHIM_DEADLINE).await
    {
        signal(shim, Signal::SIGKILL);
        // It may be in the middle of a write to a slow disk, and whoever stops the app counts on nothing being left.
        if !ended(shim, KILL_DEADLINE).await {
            return Err(RuntimeError::Unkillable { pids: vec![shim.pid] });
        }
    }
    if ran {
        tracing::info!(app = %started.release.app, program = %started.program.display(), pid = started.app.pid, killed,
            "stopped");
    }
    Ok(Stopped { ran, killed, exit: run.read_exited(&started.mark) })
}

/// Waits until a process has ended, reaped or not; says whether it has.
async fn ended(process: ProcessId, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while process.lives() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    !process.lives()
}

/// Waits until nobody sees the shim of a stopped start any more. Its parent, the host's init, has to reap it: where that
/// does not, waiting longer would not help.
pub async fn vanished(started: &Started) {
    let deadline = Instant::now() + SHIM_DEADLINE;
    let is_seen = || started.shim().is_some_and(|shim| shim.stat().is_some());
    while same_boot(started) && is_seen() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}

fn same_boot(started: &Started) -> bool {
    clock::boot_id().ok().as_ref() == Some(&started.boot_id)
}
