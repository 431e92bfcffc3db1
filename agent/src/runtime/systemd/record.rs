//! What systemd has started and how it ended, put on record as the shim does of a process: by the agent, from what systemd
//! tells it. Nothing of it comes from the unit, so that no application and no author chooses what is attested.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::journal;
use super::seen::{Course, End, Hold, Seen, Status};
use crate::clock;
use crate::file::{self, FileError};
use crate::processes::ProcessId;
use crate::shim::order::{self, Exited, Keeper, Order, RunDir, Started};

/// Between two looks at a unit that is being ended.
const LOOK: Duration = Duration::from_millis(20);

/// Why nothing was put on record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The order.
    #[error("{} does not say what was started", .0.display())]
    NoOrder(PathBuf),
    /// A process that is not of the unit.
    #[error("systemd names process {pid} as that of {unit}, but it is not in its control group")]
    Stranger {
        /// The process.
        pid: u32,
        /// The unit.
        unit: String,
    },
    /// The kernel does not say which boot this is.
    #[error("cannot read the boot id from /proc")]
    BootId(#[source] std::io::Error),
    /// A file of the run directory.
    #[error("cannot write down what was started")]
    File(#[from] FileError),
}

/// Writes `started.json`, unless it is of this start already.
pub fn started(run: &RunDir, unit: &str, seen: &Seen) -> Result<Started, RecordError> {
    if let Some(known) = run.read_started().filter(|it| it.mark == seen.invocation && it.app.pid == seen.pid)
    {
        return Ok(known);
    }
    let order: Order = order::read(&run.order())?.ok_or_else(|| RecordError::NoOrder(run.order()))?;
    let app = match ProcessId::of(seen.pid).filter(|_| seen.state == Course::Runs) {
        Some(app) if app.cgroup().is_none_or(|of| is_within(&of, &seen.cgroup)) => app,
        Some(app) => return Err(RecordError::Stranger { pid: app.pid, unit: unit.to_owned() }),
        // It has ended already: no process has begun at the boot itself, so this one is nobody's.
        None => ProcessId { pid: seen.pid, start: 0 },
    };
    let started = Started {
        keeper: Keeper::Unit { name: unit.to_owned(), cgroup: seen.cgroup.clone() },
        app,
        boot_id: clock::boot_id().map_err(RecordError::BootId)?,
        release: order.release,
        mark: seen.invocation.clone(),
        program: order.program,
        args: order.args,
        dir: order.dir,
        log: None,
        at: seen.at,
    };
    file::replace_json(&run.started(), &started, 0o640)?;
    Ok(started)
}

fn is_within(cgroup: &str, of: &str) -> bool {
    !of.is_empty() && cgroup.strip_prefix(of).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// Writes `exit.json` of a start whose main process has ended, when systemd has ended all that it left, or `within` is over;
/// `None` where nobody knows how.
pub async fn ended(run: &RunDir, started: &Started, held: Option<&Hold>, within: Duration) -> Option<Exited> {
    if let Some(known) = run.read_exited(&started.mark) {
        return Some(known);
    }
    let deadline = Instant::now() + within;
    let end = loop {
        let seen = match held {
            Some(held) => held.look().await.ok().flatten(),
            None => None,
        };
        let late = Instant::now() >= deadline;
        match seen.filter(|seen| seen.invocation == started.mark).map(|seen| seen.state) {
            Some(Course::Ended(end)) => break Some(end),
            Some(Course::Ending(end)) if late => break Some(end),
            Some(_) if !late => {}
            Some(_) => break None,
            // It is forgotten, or was started again since.
            None => break journalled(&started.mark).await,
        }
        sleep(LOOK).await;
    };
    let exited = exited(started.mark.clone(), &end?);
    // With a full disk it is told all the same, only not kept.
    let _ = file::replace_json(&run.exited(), &exited, 0o640);
    Some(exited)
}

async fn journalled(invocation: &str) -> Option<End> {
    let invocation = invocation.to_owned();
    tokio::task::spawn_blocking(move || journal::end_of(&invocation)).await.ok().flatten()
}

fn exited(mark: String, end: &End) -> Exited {
    const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;
    let (code, signal) = match end.status {
        Status::Exited(code) => (Some(code), None),
        Status::Killed(signal) => (None, Some(signal)),
    };
    let out_of_memory = end.memory_was_short && signal == Some(SIGKILL);
    Exited { mark, code, signal, out_of_memory, at: clock::wall(), output: None }
}

#[cfg(test)]
mod tests {
    use windlass_proto::time::Timestamp;

    use super::*;

    #[test]
    fn ends_become_records() {
        let end = |status, memory_was_short| {
            let exited = exited("m".into(), &End { status, memory_was_short });
            (exited.code, exited.signal, exited.out_of_memory)
        };
        assert_eq!(end(Status::Exited(0), false), (Some(0), None, false));
        assert_eq!(end(Status::Exited(3), true), (Some(3), None, false));
        assert_eq!(end(Status::Killed(11), true), (None, Some(11), false));
        assert_eq!(end(Status::Killed(9), false), (None, Some(9), false));
        assert_eq!(end(Status::Killed(9), true), (None, Some(9), true));
    }

    #[test]
    fn a_process_of_another_unit_is_not_put_on_record() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir(dir.path().to_owned());
        let own = ProcessId::of(std::process::id()).unwrap();
        let cgroup = own.cgroup().unwrap();
        let seen = |invocation: &str, cgroup: &str| Seen {
            invocation: invocation.into(),
            pid: own.pid,
            cgroup: cgroup.into(),
            at: Timestamp(7),
            state: Course::Runs,
        };
        assert!(matches!(started(&run, "u", &seen("a", &cgroup)), Err(RecordError::NoOrder(_))));
        let order = Order {
            release: windlass_proto::release::ReleaseRef {
                app: "shop".parse().unwrap(),
                version: "1.0".parse().unwrap(),
                digest: windlass_proto::digest::Digest::of(b"x"),
                counter: 1,
            },
            mark: String::new(),
            program: "/bin/true".into(),
            args: vec![],
            dir: "/".into(),
            env: Default::default(),
            user: None,
            memory_max: None,
            open_files: None,
            log: None,
        };
        std::fs::write(run.order(), serde_json::to_vec(&order).unwrap()).unwrap();
        let foreign = started(&run, "u", &seen("a", &format!("{cgroup}-else"))).unwrap_err();
        assert!(matches!(foreign, RecordError::Stranger { .. }), "{foreign}");
        assert_eq!(run.read_started(), None);
        let known = started(&run, "u", &seen("a", &cgroup)).unwrap();
        assert_eq!((known.app, known.at, known.mark.as_str()), (own, Timestamp(7), "a"));
        let ended = Seen {
            state: Course::Ended(End { status: Status::Exited(1), memory_was_short: false }),
            ..seen("b", "")
        };
        let gone = started(&run, "u", &ended).unwrap();
        assert!(!gone.app.lives(), "the pid may be anybody's by now");
        assert_eq!(
            crate::runtime::kill::members(&gone),
            vec![],
            "without a control group it is not all that lives"
        );
    }
}
