//! What runs the command of a hook, apart from the agent, so that it outlives it and is found again.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;

use crate::runtime::process::{exited, spawn, unfinished};
use crate::runtime::{RuntimeError, kill};
use crate::shim::order::{self, Exited, Order, RunDir};

/// What became of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The command ended.
    Exit(Exited),
    /// It was never begun.
    NeverBegun,
    /// It is gone, and nobody wrote down how.
    Unknown,
}

/// Starts, watches and ends one command at a time in a run directory. A start is known by its order's mark, also to
/// an agent that did not make it.
#[async_trait]
pub trait HookRunner: std::fmt::Debug + Send + Sync {
    /// Starts a command; returns when it runs.
    async fn start(&self, run: &RunDir, order: &Order) -> Result<(), RuntimeError>;

    /// Waits for its end. May be dropped at any time.
    async fn ended(&self, run: &RunDir, mark: &str) -> End;

    /// Ends all that came of it: SIGTERM, and after `grace` SIGKILL. Nothing of it is left on success.
    async fn end(&self, run: &RunDir, mark: &str, grace: Duration) -> Result<(), RuntimeError>;
}

/// Runs commands under a shim each, as the process runtime does applications.
#[derive(Debug)]
pub struct ShimRunner {
    shim: PathBuf,
}

impl ShimRunner {
    /// `shim` is the program that has the hidden verb.
    pub const fn new(shim: PathBuf) -> Self {
        Self { shim }
    }
}

#[async_trait]
impl HookRunner for ShimRunner {
    async fn start(&self, run: &RunDir, order: &Order) -> Result<(), RuntimeError> {
        spawn(&self.shim, run, order).await.map(drop)
    }

    async fn ended(&self, run: &RunDir, mark: &str) -> End {
        unfinished(run).await;
        let ordered = order::read::<Order>(&run.order()).ok().flatten();
        if ordered.is_none_or(|order| order.mark != mark) {
            return End::NeverBegun;
        }
        let Some(started) = run.read_started().filter(|started| started.mark == mark) else {
            return End::Unknown;
        };
        exited(run, &started).await.map_or(End::Unknown, End::Exit)
    }

    async fn end(&self, run: &RunDir, mark: &str, grace: Duration) -> Result<(), RuntimeError> {
        unfinished(run).await;
        match run.read_started().filter(|started| started.mark == mark) {
            Some(started) => {
                // A hook's time is over for all of it, also for what began a session of its own.
                for member in kill::members(&started) {
                    kill::signal(member.id, Signal::SIGTERM);
                }
                kill::stop(run, &started, Signal::SIGTERM, grace).await.map(drop)
            }
            None => Ok(()),
        }
    }
}
