//! The local socket by which the agent's other verbs ask the running agent: `state_dir/control.sock`, for the agent's
//! user only. One line asks, one JSON document answers.
//!
//! The socket is bound and dialled through a descriptor of its directory: a socket's path may have no more than 107
//! bytes, a state directory's may.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use windlass_proto::phase::AppStatus;

use crate::ballast;
use crate::clock;
use crate::exchange::Published;
use crate::inspect::{AppInspection, AppReleases, inspect, releases};
use crate::journal;
use crate::layout::Layout;
use crate::session::LinkState;
use crate::store::{MemoryStore, ReleaseStore, SharedStore};

/// Longest exchange.
const EXCHANGE: Duration = Duration::from_secs(10);

/// Largest answer.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// Callers at once.
const CALLERS: usize = 4;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// The releases of all apps.
    Releases,
    /// Everything about all apps.
    Inspect,
    /// What the agent says of itself and its apps right now.
    Status,
}

/// The agent's own state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The agent's process.
    pub pid: u32,
    /// The way to the coordinator, in words.
    pub link: String,
    /// The newest status of each app.
    pub apps: Vec<AppStatus>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket cannot be used.
    #[error("cannot use the agent's socket {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The agent could not answer.
    #[error("the agent cannot answer: {0}")]
    Refused(String),
    /// The answer is not understood.
    #[error("the agent's answer is not understood; is it of the same version?")]
    Answer(#[source] serde_json::Error),
}

fn socket_error(path: &Path) -> impl Fn(io::Error) -> ControlError + use<> {
    let path = path.to_owned();
    move |source| ControlError::Socket { path: path.clone(), source }
}

/// A short path to the same place, for as long as the directory is held open.
fn short(path: &Path) -> io::Result<(File, PathBuf)> {
    let dir = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok((dir, short))
}

/// Answers questions.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    sources: Arc<Sources>,
}

/// Where the answers come from.
#[derive(Debug)]
pub struct Sources {
    /// Names of all paths.
    pub layout: Layout,
    /// What is remembered of releases.
    pub store: SharedStore,
    /// What the driver says.
    pub published: watch::Receiver<Published>,
    /// The way to the coordinator.
    pub link: watch::Receiver<LinkState>,
}

impl Control {
    /// Begins to listen. The journal's lock says that no other agent has this state directory, so that a socket found
    /// there is a dead one's.
    pub fn bind(sources: Sources) -> Result<Self, ControlError> {
        let path = sources.layout.control_socket();
        let failed = socket_error(&path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let bound = || {
            let (_dir, short) = short(&path)?;
            UnixListener::bind(short)
        };
        // A full disk is where somebody looks.
        let listener = ballast::with(&sources.layout, bound).map_err(&failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(&failed)?;
        Ok(Self { listener, path, sources: Arc::new(sources) })
    }

    /// Answers until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let callers = Arc::new(Semaphore::new(CALLERS));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors: others close theirs.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let Ok(caller) = Arc::clone(&callers).try_acquire_owned() else { continue };
            let sources = Arc::clone(&self.sources);
            tokio::spawn(async move {
                if let Ok(Err(error)) = timeout(EXCHANGE, serve(stream, sources)).await {
                    tracing::debug!(%error, "question not answered");
                }
                drop(caller);
            });
        }
        // What is left would only be refused; nothing depends on its removal.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(mut stream: UnixStream, sources: Arc<Sources>) -> io::Result<()> {
    let mut line = String::new();
    let (reader, _) = stream.split();
    tokio::io::BufReader::new(reader.take(256)).read_line(&mut line).await?;
    let answered = tokio::task::spawn_blocking(move || match serde_json::from_str(line.trim()) {
        Ok(question) => answer(&sources, question),
        Err(error) => Err(error.to_string()),
    });
    let answer = answered.await.map_err(io::Error::other)?;
    stream.write_all(&serde_json::to_vec(&answer)?).await?;
    stream.shutdown().await
}

fn answer(sources: &Sources, question: Question) -> Result<serde_json::Value, String> {
    let value = match question {
        Question::Releases => serde_json::to_value(releases(&sources.layout, &*sources.store, None)),
        Question::Inspect => serde_json::to_value(inspect_all(&sources.layout, &*sources.store)?),
        Question::Status => serde_json::to_value(AgentStatus {
            pid: std::process::id(),
            link: sources.link.borrow().words(clock::wall()),
            apps: sources.published.borrow().apps.values().map(|status| (**status).clone()).collect(),
        }),
    };
    value.map_err(|error| error.to_string())
}

fn inspect_all(layout: &Layout, store: &dyn ReleaseStore) -> Result<Vec<AppInspection>, String> {
    let recovered = journal::peek(layout.state()).map_err(|e| e.to_string())?.unwrap_or_default();
    Ok(inspect(layout, store, &recovered.latest, None))
}

/// Asks the running agent; `None` when none runs.
pub fn ask<T: DeserializeOwned>(layout: &Layout, question: Question) -> Result<Option<T>, ControlError> {
    let path = layout.control_socket();
    let failed = socket_error(&path);
    let stream = match short(&path).and_then(|(_dir, short)| StdUnixStream::connect(short)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    stream.set_read_timeout(Some(EXCHANGE)).map_err(&failed)?;
    stream.set_write_timeout(Some(EXCHANGE)).map_err(&failed)?;
    let mut line = serde_json::to_vec(&question).map_err(ControlError::Answer)?;
    line.push(b'\n');
    (&stream).write_all(&line).map_err(&failed)?;
    let mut content = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut content).map_err(&failed)?;
    match serde_json::from_slice::<Result<T, String>>(&content).map_err(ControlError::Answer)? {
        Ok(answer) => Ok(Some(answer)),
        Err(reason) => Err(ControlError::Refused(reason)),
    }
}

/// The releases of this host, from the running agent or else from its files.
pub fn releases_of(layout: &Layout) -> Result<Vec<AppReleases>, ControlError> {
    if let Some(apps) = ask(layout, Question::Releases)? {
        return Ok(apps);
    }
    Ok(releases(layout, &*readable(layout), None))
}

/// The store, or an empty one where it cannot be read: what lies in directories is shown all the same.
fn readable(layout: &Layout) -> SharedStore {
    crate::store::read(layout).unwrap_or_else(|error| {
        tracing::warn!(%error, "history and evidence are not shown");
        Arc::new(MemoryStore::default())
    })
}

/// Everything about this host's apps, from the running agent or else from its files.
pub fn inspection_of(layout: &Layout) -> Result<Vec<AppInspection>, ControlError> {
    if let Some(apps) = ask(layout, Question::Inspect)? {
        return Ok(apps);
    }
    inspect_all(layout, &*readable(layout)).map_err(ControlError::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_is_answered_while_the_agent_runs() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than a socket's path may be.
        let state = dir.path().join("x".repeat(120));
        let layout = Layout::new(&state, dir.path().join("run")).unwrap();
        layout.create().unwrap();
        assert_eq!(ask::<AgentStatus>(&layout, Question::Status).unwrap(), None);
        let (publish, published) = watch::channel(Published::default());
        let (link, watched) = watch::channel(LinkState::default());
        let store = Arc::new(MemoryStore::default());
        let sources = Sources { layout: layout.clone(), store, published, link: watched };
        let control = Control::bind(sources).unwrap();
        let mode = fs::metadata(layout.control_socket()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let stop = CancellationToken::new();
        let running = tokio::spawn(control.run(stop.clone()));
        let asked = layout.clone();
        let answers = tokio::task::spawn_blocking(move || {
            let status = ask::<AgentStatus>(&asked, Question::Status).unwrap().unwrap();
            (status, releases_of(&asked).unwrap(), inspection_of(&asked).unwrap())
        });
        let (status, releases, inspection) = answers.await.unwrap();
        assert_eq!((status.pid, status.link.as_str()), (std::process::id(), "not connected yet"));
        assert!(releases.is_empty() && inspection.is_empty());
        stop.cancel();
        running.await.unwrap();
        assert!(!layout.control_socket().exists());
        // Without an agent the files answer.
        assert!(releases_of(&layout).unwrap().is_empty());
        drop((publish, link));
    }
}
