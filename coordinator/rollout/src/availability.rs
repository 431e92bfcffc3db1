//! What users saw of a rollout: answers of one URL, asked once a period, counted by what the rollout did at that time.

use serde::{Deserialize, Serialize};
use windlass_proto::time::{Span, Timestamp};

use crate::state::{BatchStep, Rollout, State};

/// Steps that are kept; a rollout has as many as batches and a few more. What comes after counts with the last one.
const STEPS: usize = 200;

/// The ledger of one rollout. Where the coordinator was away, nobody asked, and nothing is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// In the order in which they were first counted.
    pub steps: Vec<Seen>,
    /// The first question of those in a row that were not answered, and the step in which it was asked.
    failing: Option<(Timestamp, usize)>,
}

/// What was seen in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `preparing`, `batch 1`, `batch 1, baking`, `promoting`, `going back`.
    pub step: String,
    /// Questions asked.
    pub sent: u64,
    /// Those without an answer, or with a bad one.
    pub failed: u64,
    /// The longest time from a failed question to the next one that was answered; counted where it began.
    pub longest_gap: Span,
}

impl Availability {
    /// Counts one question, asked at this time in this step. Questions come in their order.
    pub fn count(&mut self, step: &str, asked: Timestamp, answered: bool) {
        let at = self.step(step);
        self.steps[at].sent += 1;
        self.steps[at].failed += u64::from(!answered);
        let (since, began) = match (self.failing, answered) {
            (None, true) => return,
            (None, false) => (asked, at),
            (Some(failing), _) => failing,
        };
        self.failing = (!answered).then_some((since, began));
        let gap = &mut self.steps[began].longest_gap;
        *gap = (*gap).max(asked.since(since));
    }

    /// Questions asked in all, and those that failed.
    pub fn totals(&self) -> (u64, u64) {
        (self.steps.iter().map(|seen| seen.sent).sum(), self.steps.iter().map(|seen| seen.failed).sum())
    }

    /// The longest gap of all.
    pub fn longest_gap(&self) -> Span {
        self.steps.iter().map(|seen| seen.longest_gap).max().unwrap_or_default()
    }

    fn step(&mut self, step: &str) -> usize {
        if let Some(at) = self.steps.iter().rposition(|seen| seen.step == step) {
            return at;
        }
        if self.steps.len() < STEPS {
            self.steps.push(Seen { step: step.to_owned(), ..Seen::default() });
        }
        self.steps.len() - 1
    }
}

impl Rollout {
    /// What the rollout is doing, as the ledger names it.
    pub fn step_name(&self) -> String {
        match self.state {
            State::Validating | State::Preparing => "preparing".to_owned(),
            State::Progressing { batch, step: BatchStep::Deploying } => format!("batch {}", batch + 1),
            State::Progressing { batch, step: BatchStep::Baking { .. } } => {
                format!("batch {}, baking", batch + 1)
            }
            State::Promoting => "promoting".to_owned(),
            State::Aborting => "going back".to_owned(),
            State::Succeeded
            | State::RolledBack
            | State::RollbackFailed
            | State::Failed
            | State::Cancelled => "ended".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(questions: &[Question]) -> Availability {
        let mut ledger = Availability::default();
        for (step, at, answered) in questions {
            ledger.count(step, Timestamp(*at), *answered);
        }
        ledger
    }

    fn seen(ledger: &Availability) -> Vec<(&str, u64, u64, u64)> {
        ledger.steps.iter().map(|s| (s.step.as_str(), s.sent, s.failed, s.longest_gap.0)).collect()
    }

    /// Step, time, whether it was answered.
    type Question = (&'static str, i64, bool);
    /// Step, questions, those that failed, the longest gap.
    type Counts = (&'static str, u64, u64, u64);

    #[test]
    fn gaps_are_counted_where_they_begin_and_the_longest_stays() {
        let cases: [(&[Question], &[Counts]); 7] = [
            (&[], &[]),
            (&[("a", 0, true), ("a", 1000, true)], &[("a", 2, 0, 0)]),
            // One lost answer: a second until the next.
            (&[("a", 0, true), ("a", 1000, false), ("a", 2000, true)], &[("a", 3, 1, 1000)]),
            // A gap that has not ended grows with each question.
            (&[("a", 0, false), ("a", 1000, false), ("a", 2500, false)], &[("a", 3, 3, 2500)]),
            // A gap over two steps is of the first.
            (
                &[
                    ("a", 0, true),
                    ("a", 1000, false),
                    ("b", 2000, false),
                    ("b", 4000, true),
                    ("b", 5000, true),
                ],
                &[("a", 2, 1, 3000), ("b", 3, 1, 0)],
            ),
            // The longest of two.
            (
                &[
                    ("a", 0, false),
                    ("a", 100, true),
                    ("a", 200, false),
                    ("a", 900, true),
                    ("a", 1000, false),
                    ("a", 1001, true),
                ],
                &[("a", 6, 3, 700)],
            ),
            // A step that comes back goes on.
            (&[("a", 0, true), ("b", 1, true), ("a", 2, true)], &[("a", 2, 0, 0), ("b", 1, 0, 0)]),
        ];
        for (questions, expected) in cases {
            let ledger = ledger(questions);
            assert_eq!(seen(&ledger), *expected, "{questions:?}");
            let sent = questions.len() as u64;
            let failed = questions.iter().filter(|(.., answered)| !answered).count() as u64;
            assert_eq!(ledger.totals(), (sent, failed));
        }
    }

    #[test]
    fn steps_are_bounded() {
        let mut ledger = Availability::default();
        for n in 0..2 * STEPS {
            ledger.count(&n.to_string(), Timestamp(n as i64), true);
        }
        assert_eq!(ledger.steps.len(), STEPS);
        assert_eq!(ledger.totals(), (2 * STEPS as u64, 0));
    }
}
