//! The shim: parent of one application in place of the agent, so that the agent may come and go.
//!
//! The agent starts it once; it starts itself again and ends, so that the second one is nobody's child. That one leads
//! a session of its own, is the subreaper of all that the application leaves behind, starts the application in its own
//! process group, copies its output into a bounded log, and writes down how it ended. It takes no orders and decides
//! nothing: whoever wants the application stopped signals the application.

pub mod ends;
pub mod log;
pub mod order;

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};

use self::ends::Ends;
use self::log::{LOG_BYTES, RotatingLog, pump};
use self::order::{Answer, Exited, Keeper, Order, RunDir, Started};
use crate::processes::ProcessId;
use crate::runtime::barred;
use crate::{clock, file};

/// How long the last output may take to arrive in the log before the exit is written down.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// Why an application could not be started.
#[derive(Debug, thiserror::Error)]
enum ShimError {
    #[error("the order cannot be used")]
    Order(#[source] file::FileError),
    #[error("{} does not say what to run", .0.display())]
    NoOrder(std::path::PathBuf),
    #[error("cannot {0}")]
    Detach(&'static str, #[source] io::Error),
    #[error("cannot make a pipe for the output")]
    Pipe(#[source] io::Error),
    #[error("cannot run {}", program.display())]
    Spawn { program: std::path::PathBuf, source: io::Error },
    #[error("cannot run {}: {why}", program.display())]
    Barred { program: std::path::PathBuf, why: String },
    #[error("cannot limit {what} to {value}; the agent's own limit is lower")]
    Limit { what: &'static str, value: u64, source: io::Error },
    #[error("the application vanished as it started")]
    Vanished,
    #[error("cannot write down what was started")]
    Record(#[source] file::FileError),
}

impl ShimError {
    /// Whether the release asks for something that no host can run. Permissions, limits and mounts are the host's: a release is
    /// written as its manifest says.
    fn by_app(&self) -> bool {
        let Self::Spawn { source, .. } = self else { return matches!(self, Self::Vanished) };
        const ENOEXEC: i32 = Errno::ENOEXEC as i32;
        matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ArgumentListTooLong)
            || source.raw_os_error() == Some(ENOEXEC)
    }

    /// Why a program was not spawned.
    fn spawn(order: &Order, source: io::Error) -> Self {
        let program = order.program.clone();
        if source.kind() != io::ErrorKind::PermissionDenied {
            return Self::Spawn { program, source };
        }
        // Modes and mounts do not tell everything that the kernel goes by.
        let other = || format!("{source}, by a policy of this host such as SELinux or AppArmor");
        let why = barred::why(&program, &order.dir, order.user).unwrap_or_else(other);
        Self::Barred { program, why }
    }

    fn answer(&self) -> Answer {
        let mut reason = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            reason.push_str(": ");
            reason.push_str(&error.to_string());
            cause = error.source();
        }
        Answer::Failed { reason, by_app: self.by_app() }
    }
}

/// The hidden verb. Its last line on stdout is an [`Answer`]; `answer` is a file that gets it instead.
pub fn run(order: &Path, detached: bool, answer: Option<&Path>) -> ExitCode {
    if !detached {
        let again = Command::new("/proc/self/exe")
            .args(["shim", "--detached", "--order"])
            .arg(order)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        return match again {
            Ok(_nobodys_child) => ExitCode::SUCCESS,
            Err(error) => {
                say(&ShimError::Detach("start the shim", error).answer(), answer);
                ExitCode::FAILURE
            }
        };
    }
    match start(order) {
        Ok(Running { child, started, output_ended, ends }) => {
            say(&Answer::Started(Box::new(started.clone())), answer);
            close_stdout();
            attend(&child, &started, order, &output_ended, &ends);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&error.answer(), answer);
            ExitCode::FAILURE
        }
    }
}

/// One line to the agent. It may be gone; what was started is in `started.json` as well.
fn say(answer: &Answer, to: Option<&Path>) {
    let encoded = serde_json::to_vec(answer).or_else(|error| {
        serde_json::to_vec(&Answer::Failed {
            reason: format!("the answer does not encode: {error}"),
            by_app: false,
        })
    });
    // A plain text encodes. Without a line the agent says that there was none.
    let Ok(mut line) = encoded else { return };
    if let Some(path) = to {
        // Whoever waits for it waits for so long, and says then that there was none.
        let _ = file::replace(path, &line, 0o600);
        return;
    }
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
}

/// The agent reads until the end of the stream, so this shim must not keep it open.
fn close_stdout() {
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null.as_fd());
    }
}

/// What was started.
struct Running {
    child: Child,
    started: Started,
    output_ended: mpsc::Receiver<()>,
    ends: Option<Arc<Mutex<Ends>>>,
}

fn start(path: &Path) -> Result<Running, ShimError> {
    match nix::unistd::setsid() {
        // systemd has begun one for it.
        Err(Errno::EPERM) if nix::unistd::getsid(None) == Ok(nix::unistd::getpid()) => {}
        begun => drop(begun.map_err(|e| ShimError::Detach("begin a session", e.into()))?),
    }
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own))
        .map_err(|e| ShimError::Detach("become the subreaper", e.into()))?;
    // What stops the agent's service must not stop the shim, which has the application's output to carry.
    ignored().thread_block().map_err(|e| ShimError::Detach("block signals", e.into()))?;
    std::env::set_current_dir("/").map_err(|e| ShimError::Detach("leave the directory", e))?;

    let order: Order =
        order::read(path).map_err(ShimError::Order)?.ok_or_else(|| ShimError::NoOrder(path.to_owned()))?;
    // A full or broken disk loses the output, not the application.
    let log = order.log.as_ref().and_then(|path| RotatingLog::open(path, LOG_BYTES).ok());
    let path_of_log = order.log.clone().filter(|_| log.is_some());
    let ends = order.log.is_none().then(Arc::<Mutex<Ends>>::default);
    let (output, input) = io::pipe().map_err(ShimError::Pipe)?;
    let error_input = input.try_clone().map_err(ShimError::Pipe)?;
    let child = spawn(&order, input, error_input)?;

    let (ended, output_ended) = mpsc::sync_channel(1);
    let kept = ends.clone();
    std::thread::spawn(move || {
        let mut log = log;
        pump(output, |bytes| {
            if let Some(log) = &mut log {
                let _ = log.write(bytes);
            }
            if let Some(ends) = &kept {
                ends.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
            }
        });
        let _ = ended.send(());
    });
    let id = |pid| ProcessId::of(pid).ok_or(ShimError::Vanished);
    let started = Started {
        keeper: Keeper::Shim(id(std::process::id())?),
        app: id(child.id())?,
        boot_id: clock::boot_id().map_err(|e| ShimError::Detach("read the boot id", e))?,
        release: order.release,
        mark: order.mark,
        program: order.program,
        args: order.args,
        dir: order.dir,
        log: path_of_log,
        at: clock::wall(),
    };
    file::replace_json(&run_dir_of(path).started(), &started, 0o640).map_err(|error| {
        // An application that nobody could find again must not run.
        let _ = nix::sys::signal::killpg(nix_pid(child.id()), Signal::SIGKILL);
        ShimError::Record(error)
    })?;
    Ok(Running { child, started, output_ended, ends })
}

fn ignored() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect()
}

fn run_dir_of(order: &Path) -> RunDir {
    RunDir(order.parent().unwrap_or(Path::new("/")).to_owned())
}

fn nix_pid(pid: u32) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(pid.cast_signed())
}

fn spawn(order: &Order, stdout: io::PipeWriter, stderr: io::PipeWriter) -> Result<Child, ShimError> {
    let mut command = Command::new(&order.program);
    command
        .args(&order.args)
        .current_dir(&order.dir)
        .env_clear()
        .envs(&order.env)
        .env(order::MARK, &order.mark)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    if let Some(user) = order.user {
        command.uid(user.uid).gid(user.gid);
    }
    // Applications read the number of files they may open as they start, so it is set before, by inheritance.
    let own_files = getrlimit(Resource::Nofile);
    if let Some(value) = order.open_files {
        let soft = Rlimit { current: Some(value), maximum: own_files.maximum };
        setrlimit(Resource::Nofile, soft).map_err(|e| ShimError::Limit {
            what: "open files",
            value,
            source: e.into(),
        })?;
    }
    // A mask is inherited, and the application must hear its stop signal.
    let masked = |done: Result<(), Errno>| done.map_err(|e| ShimError::Detach("unblock signals", e.into()));
    masked(ignored().thread_unblock())?;
    let spawned = command.spawn();
    masked(ignored().thread_block())?;
    let child = spawned.map_err(|source| ShimError::spawn(order, source))?;
    let pid = rustix::process::Pid::from_child(&child);
    let limits =
        [("open files", Resource::Nofile, order.open_files), ("memory", Resource::As, order.memory_max)];
    for (what, resource, value) in limits {
        let Some(value) = value else { continue };
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        match prlimit(Some(pid), resource, limit) {
            // It ended already, which is told as an exit.
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                let _ = nix::sys::signal::killpg(nix_pid(child.id()), Signal::SIGKILL);
                return Err(ShimError::Limit { what, value, source: error.into() });
            }
        }
    }
    if order.open_files.is_some() {
        let _ = setrlimit(Resource::Nofile, own_files);
    }
    Ok(child)
}

/// Waits for the application, writes down its end, and stays until all that it left behind has ended too.
fn attend(
    child: &Child,
    started: &Started,
    order: &Path,
    output_ended: &mpsc::Receiver<()>,
    ends: &Option<Arc<Mutex<Ends>>>,
) {
    loop {
        let (pid, code, signal) = match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, Some(code), None),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, None, Some(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => continue,
            // No child is left.
            Err(_) => break,
        };
        if pid == nix_pid(child.id()) {
            let _ = output_ended.recv_timeout(LAST_OUTPUT);
            let output =
                ends.as_ref().map(|ends| ends.lock().unwrap_or_else(PoisonError::into_inner).output());
            let (mark, at) = (started.mark.clone(), clock::wall());
            let exited = Exited { mark, code, signal, out_of_memory: false, at, output };
            // With a full disk the agent sees the end all the same, only not how.
            let _ = file::replace_json(&run_dir_of(order).exited(), &exited, 0o640);
        }
    }
    let _ = output_ended.recv_timeout(LAST_OUTPUT);
}
