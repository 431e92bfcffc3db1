//! Hooks on hosts with systemd: each command under a shim of its own, which is a transient unit, so that it is apart from
//! the agent and its sandbox, and nothing that it began is left behind whatever it did.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use windlass_proto::spec::hooks::HOOK_LONGEST;

use super::ENDING;
use super::runner::{End, HookRunner, ShimRunner};
use crate::file::{self, FileError};
use crate::runtime::systemd::bus;
use crate::runtime::{RuntimeError, process};
use crate::shim::order::{self, Answer, Order, RunDir};

/// How long the shim may take to start the command.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// Letters of the mark in a unit's name; there is one hook of an application at a time.
const MARK_LETTERS: usize = 12;

/// Runs commands under a shim in a transient unit each.
#[derive(Debug)]
pub struct UnitRunner {
    program: PathBuf,
    shim: ShimRunner,
}

impl UnitRunner {
    /// `program` is the agent's own, by a path that systemd can use.
    pub fn new(program: PathBuf) -> Self {
        Self { shim: ShimRunner::new(program.clone()), program }
    }
}

fn name(mark: &str) -> String {
    format!("windlass-hook-{}.service", &mark[..mark.len().min(MARK_LETTERS)])
}

#[async_trait]
impl HookRunner for UnitRunner {
    async fn start(&self, run: &RunDir, order: &Order) -> Result<(), RuntimeError> {
        process::place(run, order)?;
        let answer = run.answer();
        file::remove(&answer)?;
        let words = ["shim", "--detached", "--order"].map(str::to_owned);
        let paths = [&run.order(), &answer].map(|path| path.to_string_lossy().into_owned());
        let [order_path, answer_path] = paths;
        let mut command = vec![self.program.to_string_lossy().into_owned()];
        command.extend(words);
        command.extend([order_path, "--answer".to_owned(), answer_path]);
        let description = format!("hook of {} {} (windlass)", order.release.app, order.release.version);
        // What bounds a hook is the agent; this is for when there is none.
        bus::start_transient(&name(&order.mark), &description, &command, HOOK_LONGEST.std() + ENDING).await?;
        let answered = async {
            loop {
                if let Some(answer) = order::read::<Answer>(&answer)? {
                    return Ok::<_, FileError>(answer);
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let slow = |_| {
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not answer in 10 s");
            RuntimeError::Shim(self.program.clone(), late)
        };
        process::answered(timeout(START_DEADLINE, answered).await.map_err(slow)??).map(drop)
    }

    async fn ended(&self, run: &RunDir, mark: &str) -> End {
        self.shim.ended(run, mark).await
    }

    async fn end(&self, run: &RunDir, mark: &str, grace: Duration) -> Result<(), RuntimeError> {
        self.shim.end(run, mark, grace).await?;
        Ok(bus::stop(&name(mark), Duration::ZERO).await?)
    }
}
