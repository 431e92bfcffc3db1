//! Answers to operators' questions, beside the session's own work and bounded like it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use windlass_proto::rpc::{AgentMessage, AppLog, ReadLog, agent_message};

use crate::layout::Layout;
use crate::tail;

/// Questions answered at once.
const AT_ONCE: usize = 4;

/// How long an answer may wait for its turn on the stream; the coordinator waits no longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads what operators ask for. What is still being read when the session ends is dropped with it.
#[derive(Debug)]
pub struct Reading {
    layout: Layout,
    up: mpsc::Sender<AgentMessage>,
    tasks: JoinSet<()>,
}

impl Reading {
    /// For one session, whose messages go to `up`.
    pub fn new(layout: Layout, up: mpsc::Sender<AgentMessage>) -> Self {
        Self { layout, up, tasks: JoinSet::new() }
    }

    /// Begins to answer.
    pub fn answer(&mut self, asked: ReadLog) {
        while self.tasks.try_join_next().is_some() {}
        let ticket = asked.ticket;
        if self.tasks.len() >= AT_ONCE {
            let problem = format!("the host is answering {AT_ONCE} such questions already; ask again");
            // Without room there is no answer either, and the coordinator says so.
            let _ = self.up.try_send(message(AppLog { ticket, problem, ..AppLog::default() }));
            return;
        }
        let (layout, up) = (self.layout.clone(), self.up.clone());
        self.tasks.spawn(async move {
            let read = spawn_blocking(move || tail::tail(&layout, &asked.app, asked.lines)).await;
            let log = match read {
                Ok(Ok(tail)) => AppLog {
                    ticket,
                    release: Some((&tail.release).into()),
                    lines: tail.lines,
                    ..AppLog::default()
                },
                Ok(Err(none)) => AppLog { ticket, problem: none.to_string(), ..AppLog::default() },
                Err(_) => {
                    AppLog { ticket, problem: "a thread of the agent failed".into(), ..AppLog::default() }
                }
            };
            let _ = timeout(PATIENCE, up.send(message(log))).await;
        });
    }
}

fn message(log: AppLog) -> AgentMessage {
    AgentMessage { kind: Some(agent_message::Kind::Log(log)) }
}
