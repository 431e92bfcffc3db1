//! The one task that owns the fleet: take commands, let them change it, commit, and only then send and answer.
//!
//! Commands that wait together are committed together: one flush serves them all.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use windlass_proto::rpc::ErrorKind;
use windlass_proto::time::Timestamp;

use crate::fleet::{Fleet, Refusal};
use crate::store::{CommitError, Fence, MAX_BYTES, MAX_OPS, StateStore, Txn, Write};

/// Commands waiting; more wait in their callers.
const QUEUE: usize = 1024;
/// Commands committed together at most.
const GROUP: usize = 128;
/// A failing store is tried again for so long before the coordinator stops.
const STORE_PATIENCE: Duration = Duration::from_secs(30);

type Answer = Box<dyn FnOnce() + Send>;
type Command = Box<dyn FnOnce(&mut Fleet) -> Answer + Send>;

/// Talks to the driver's task; cheap to clone.
#[derive(Debug, Clone)]
pub struct Driver {
    commands: mpsc::Sender<Command>,
}

impl Driver {
    /// Runs `work` on the fleet and gives back its result, once everything that it changed is on disk.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Fleet) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let stopped = || Refusal::new(ErrorKind::Unavailable, "the coordinator is stopping; try again");
        let (sender, receiver) = oneshot::channel();
        let command: Command = Box::new(move |fleet| {
            let result = work(fleet);
            // Nobody waits any more when the caller went away; the work is done all the same.
            Box::new(move || drop(sender.send(result)))
        });
        self.commands.send(command).await.map_err(|_| stopped())?;
        receiver.await.map_err(|_| stopped())
    }

    /// Like [`Driver::ask`] for work that may be refused.
    pub async fn request<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Fleet) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.ask(work).await?
    }
}

/// Why the driver stopped by itself.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator cannot keep its state and stops; hosts keep what they run")]
pub struct DriverFailed(#[source] CommitError);

/// The wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Starts the task; it ends on `stop` after the commands that wait are done, or when the store fails for good.
pub fn spawn(
    fleet: Fleet,
    store: Arc<dyn StateStore>,
    fence: Fence,
    stop: CancellationToken,
) -> (Driver, tokio::task::JoinHandle<Result<(), DriverFailed>>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let task = tokio::spawn(run(fleet, store, fence, receiver, stop));
    (Driver { commands: sender }, task)
}

async fn run(
    mut fleet: Fleet,
    store: Arc<dyn StateStore>,
    fence: Fence,
    mut commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
) -> Result<(), DriverFailed> {
    let mut answers: Vec<Answer> = Vec::new();
    loop {
        let wait = fleet.next_deadline().map(|at| at.since(now()).std());
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(command) => {
                    fleet.now = now();
                    answers.push(command(&mut fleet));
                }
                None => return Ok(()),
            },
            () = sleep(wait) => {}
            () = stop.cancelled() => return Ok(()),
        }
        fleet.now = now();
        while answers.len() < GROUP && fleet.pending() < MAX_OPS / 2 {
            match commands.try_recv() {
                Ok(command) => answers.push(command(&mut fleet)),
                Err(_) => break,
            }
        }
        fleet.tick();
        let (writes, outbox) = fleet.take_changes();
        commit(store.as_ref(), &fence, writes).await?;
        fleet.dispatch(outbox);
        for answer in answers.drain(..) {
            answer();
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        // A deadline that has just passed is not spun on.
        Some(wait) => tokio::time::sleep(wait.max(Duration::from_millis(1))).await,
        None => std::future::pending().await,
    }
}

/// Commits in order, in as many transactions as the store's bounds ask for.
async fn commit(store: &dyn StateStore, fence: &Fence, writes: Vec<Write>) -> Result<(), DriverFailed> {
    let mut txn = Txn::default();
    let mut bytes = 0;
    for write in writes {
        if txn.writes.len() == MAX_OPS || bytes + write.bytes() > MAX_BYTES {
            commit_patiently(store, fence, std::mem::take(&mut txn)).await?;
            bytes = 0;
        }
        bytes += write.bytes();
        txn.writes.push(write);
    }
    if txn.writes.is_empty() {
        return Ok(());
    }
    commit_patiently(store, fence, txn).await
}

/// Writes are puts and deletes without conditions, so trying again is harmless even if the first try was applied.
async fn commit_patiently(store: &dyn StateStore, fence: &Fence, txn: Txn) -> Result<(), DriverFailed> {
    let started = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(50);
    loop {
        match store.commit(fence, txn.clone()).await {
            Ok(_) => return Ok(()),
            Err(error @ CommitError::Store(_)) if started.elapsed() < STORE_PATIENCE => {
                tracing::error!(%error, "commit failed, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            Err(error) => return Err(DriverFailed(error)),
        }
    }
}
