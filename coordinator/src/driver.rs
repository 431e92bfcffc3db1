//! The one task that owns the fleet: take commands, let them change it, commit, and only then send and answer.
//!
//! Commands that wait together are committed together: one flush serves them all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_proto::rpc::ErrorKind;

use crate::clock::Clock;
use crate::fleet::{Act, Deposed, Fleet, Refusal};
use crate::store::{CommitError, Fence, MAX_BYTES, MAX_OPS, Member, Rise, StateStore, Txn, Write};

/// Commands waiting; more wait in their callers.
const QUEUE: usize = 1024;
/// Commands committed together at most.
const GROUP: usize = 128;
/// A failing store is tried again for so long before the coordinator stops.
const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// After a commit that took longer, hosts get their time to be heard again.
const DEAF: Duration = Duration::from_secs(3);

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

    /// Like [`Driver::request`] for work that changes something, in somebody's name: what is asked for is on record, done or
    /// refused.
    pub async fn act<T: Send + 'static>(
        &self,
        act: Act,
        work: impl FnOnce(&mut Fleet, &str) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.request(move |fleet| {
            let result = work(fleet, &act.who);
            fleet.record(act, result.as_ref().err());
            result
        })
        .await
    }
}

/// Why the driver stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum DriverFailed {
    /// The store.
    #[error("the coordinator cannot keep its state and stops; hosts keep what they run")]
    Store(#[source] CommitError),
    /// Something that changed has no form in which it could be kept.
    #[error("the coordinator cannot keep a record and stops: {0}; hosts keep what they run")]
    Unkept(String),
    /// Another coordinator has come as far or further. It is on record.
    #[error(transparent)]
    Deposed(Box<Deposed>),
}

/// Starts the task; it ends on `stop` after the commands that wait are done, or when the store fails for good.
pub fn spawn(
    fleet: Fleet,
    disk: Disk,
    clock: Clock,
    stop: CancellationToken,
) -> (Driver, tokio::task::JoinHandle<Result<(), DriverFailed>>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let task = tokio::spawn(run(fleet, disk, clock, receiver, stop));
    (Driver { commands: sender }, task)
}

async fn run(
    mut fleet: Fleet,
    mut disk: Disk,
    mut clock: Clock,
    mut commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
) -> Result<(), DriverFailed> {
    let mut answers: Vec<Answer> = Vec::new();
    loop {
        let wait = fleet.next_deadline().map(|at| at.since(clock.now()).std());
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(command) => {
                    fleet.now = clock.now();
                    answers.push(command(&mut fleet));
                }
                None => return Ok(()),
            },
            () = sleep(wait) => {}
            () = stop.cancelled() => return Ok(()),
        }
        fleet.now = clock.now();
        while answers.len() < GROUP && fleet.pending() < MAX_OPS / 2 {
            match commands.try_recv() {
                Ok(command) => answers.push(command(&mut fleet)),
                Err(_) => break,
            }
        }
        fleet.tick();
        if let Some(why) = fleet.unkept() {
            return Err(DriverFailed::Unkept(why.to_owned()));
        }
        let (writes, outbox) = fleet.take_changes();
        let writing = Instant::now();
        let is_commit = !writes.is_empty();
        disk.commit(writes).await?;
        if is_commit {
            fleet.counted.commit(writing.elapsed());
        }
        if writing.elapsed() > DEAF {
            tracing::warn!(seconds = writing.elapsed().as_secs(), "the disk is slow");
            fleet.now = clock.now();
            fleet.was_deaf();
        }
        fleet.dispatch(outbox);
        for answer in answers.drain(..) {
            answer();
        }
        if let Some(deposed) = fleet.deposed() {
            return Err(DriverFailed::Deposed(Box::new(deposed.clone())));
        }
        if let Some(above) = fleet.take_rise() {
            disk.rise(Rise::after_restore(above)).await?;
            fleet.lead_anew(disk.fence);
            let (writes, outbox) = fleet.take_changes();
            disk.commit(writes).await?;
            fleet.dispatch(outbox);
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

/// The store, with the right to write to it.
#[derive(Debug)]
pub struct Disk {
    /// The store.
    pub store: Arc<dyn StateStore>,
    /// Who writes.
    pub member: Member,
    /// The right to.
    pub fence: Fence,
}

impl Disk {
    /// Wins the right again, under a higher epoch.
    async fn rise(&mut self, rise: Rise) -> Result<(), DriverFailed> {
        let won = self.store.campaign(&self.member, rise).await;
        self.fence = won.map_err(|error| DriverFailed::Store(error.into()))?.fence;
        Ok(())
    }

    /// Commits in order, in as many transactions as the store's bounds ask for.
    async fn commit(&self, writes: Vec<Write>) -> Result<(), DriverFailed> {
        let mut txn = Txn::default();
        let mut bytes = 0;
        for write in writes {
            if txn.writes.len() == MAX_OPS || bytes + write.bytes() > MAX_BYTES {
                self.apply(std::mem::take(&mut txn)).await?;
                bytes = 0;
            }
            bytes += write.bytes();
            txn.writes.push(write);
        }
        if txn.writes.is_empty() {
            return Ok(());
        }
        self.apply(txn).await
    }

    /// Writes are puts and deletes without conditions, so trying again is harmless even if the first try was applied.
    async fn apply(&self, txn: Txn) -> Result<(), DriverFailed> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            match self.store.commit(&self.fence, txn.clone()).await {
                Ok(_) => return Ok(()),
                Err(error @ CommitError::Store(_)) if started.elapsed() < STORE_PATIENCE => {
                    tracing::error!(error = %crate::log::chain(&error), "commit failed, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                Err(error) => return Err(DriverFailed::Store(error)),
            }
        }
    }
}
