//! Questions to hosts whose answers come back over the hosts' sessions. Nothing of them is kept: an operator waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use windlass_proto::id::HostId;
use windlass_proto::limits::{LOG_BYTES, LOG_LINES};
use windlass_proto::rpc::AppLog;

/// How long a host may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The questions that wait for their answers; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Questions(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    asked: u64,
    by_ticket: BTreeMap<u64, (HostId, oneshot::Sender<AppLog>)>,
}

/// A question that waits. It is forgotten when this is dropped.
#[derive(Debug)]
pub struct Question {
    ticket: u64,
    answer: oneshot::Receiver<AppLog>,
    questions: Questions,
}

impl Questions {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A question that only this host may answer.
    pub fn to(&self, host: HostId) -> Question {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting();
        waiting.asked += 1;
        let ticket = waiting.asked;
        waiting.by_ticket.insert(ticket, (host, sender));
        Question { ticket, answer, questions: self.clone() }
    }

    /// Takes a host's answer. One that nobody waits for, or that another host was asked for, is dropped; what is longer
    /// than agreed is cut.
    pub fn answered(&self, host: &HostId, mut log: AppLog) {
        let mut waiting = self.waiting();
        if waiting.by_ticket.get(&log.ticket).is_none_or(|(asked, _)| asked != host) {
            tracing::debug!(%host, ticket = log.ticket, "answer that nobody waits for");
            return;
        }
        if let Some((_, sender)) = waiting.by_ticket.remove(&log.ticket) {
            cut(&mut log);
            let _ = sender.send(log);
        }
    }
}

impl Question {
    /// What the host sends back with its answer.
    pub const fn ticket(&self) -> u64 {
        self.ticket
    }

    /// The answer; `None` when none comes within 10 s.
    pub async fn answer(mut self) -> Option<AppLog> {
        tokio::time::timeout(PATIENCE, &mut self.answer).await.ok()?.ok()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.questions.waiting().by_ticket.remove(&self.ticket);
    }
}

/// An operator's terminal is not the host's to fill.
fn cut(log: &mut AppLog) {
    let mut left = LOG_BYTES;
    let mut fits = |line: &String| {
        let fits = line.len() <= left;
        left = left.saturating_sub(line.len());
        fits
    };
    let kept = log.lines.iter().rev().take(LOG_LINES as usize).take_while(|line| fits(line)).count();
    log.lines.drain(..log.lines.len() - kept);
    log.problem = log.problem.chars().take(1000).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostId {
        HostId::new(name).unwrap()
    }

    #[tokio::test]
    async fn only_the_host_that_was_asked_answers_and_only_once() {
        let questions = Questions::default();
        let question = questions.to(host("a"));
        let log =
            |text: &str| AppLog { ticket: question.ticket(), lines: vec![text.into()], ..AppLog::default() };
        let (foreign, own, again) = (log("foreign"), log("own"), log("again"));
        questions.answered(&host("b"), foreign);
        questions.answered(&host("a"), own);
        questions.answered(&host("a"), again);
        assert_eq!(question.answer().await.unwrap().lines, ["own"]);
        assert!(questions.waiting().by_ticket.is_empty());
    }

    #[tokio::test]
    async fn a_question_that_is_given_up_leaves_nothing_behind() {
        let questions = Questions::default();
        let question = questions.to(host("a"));
        questions.waiting().by_ticket.clear();
        assert_eq!(question.answer().await, None);
        drop(questions.to(host("b")));
        assert!(questions.waiting().by_ticket.is_empty());
    }

    #[test]
    fn the_newest_lines_fit() {
        let mut log = AppLog { lines: (0..7_000).map(|n| n.to_string()).collect(), ..AppLog::default() };
        cut(&mut log);
        assert_eq!((log.lines.len(), log.lines.last().unwrap().as_str()), (LOG_LINES as usize, "6999"));
        log.lines = vec!["x".repeat(LOG_BYTES), "y".repeat(LOG_BYTES / 2)];
        cut(&mut log);
        assert_eq!(log.lines.len(), 1);
        assert!(log.lines[0].starts_with('y'));
    }
}
