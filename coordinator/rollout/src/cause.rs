//! What went wrong with a host in a rollout: one book, first cause first, for everything that tells of it.

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::phase::{AppStatus, Fault, Outcome, Phase};
use windlass_proto::time::Timestamp;

use crate::state::{Host, Way};
use crate::turn::cut;

/// Causes kept of one host; of more the last replaces the one before it.
const CAUSES: usize = 4;

/// What a host says after it had confirmed begins so.
const WATCH: &str = "in the watch window: ";

/// A reason in the host's own words.
fn plain(reason: &str) -> &str {
    reason.strip_prefix(WATCH).unwrap_or(reason)
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Whose fault.
    pub fault: Option<Fault>,
    /// In one sentence.
    pub reason: String,
    /// The release that failed, where the host says so; none where the coordinator judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
    /// When the coordinator heard of it.
    pub at: Timestamp,
}

impl Host {
    /// Writes down what a status says of a failure.
    pub(crate) fn note(&mut self, status: &AppStatus, now: Timestamp) {
        if status.fault.is_none() || status.reason.is_empty() || status.phase == Phase::Confirmed {
            return;
        }
        // The same said again, or after it was said of the watch window.
        let said = cut(status.reason.as_str());
        if self.causes.iter().any(|cause| cause.reason.ends_with(&said)) {
            return;
        }
        let confirmed = self.way == Way::Forward && self.outcome == Some(Outcome::Confirmed);
        let reason = if confirmed { cut(format!("{WATCH}{said}")) } else { said.clone() };
        let release = status.target.as_ref().map(|release| release.digest);
        let cause = Cause { fault: status.fault, reason, release, at: now };
        match self.causes.last_mut() {
            // A host adds to what it said: how the way back went.
            Some(last) if last.fault == cause.fault && said.starts_with(plain(&last.reason)) => {
                let prefix = if plain(&last.reason) == last.reason { "" } else { WATCH };
                last.reason = cut(format!("{prefix}{said}"));
            }
            _ => self.write_down(cause),
        }
    }

    /// The coordinator's own judgement.
    pub(crate) fn judge(&mut self, fault: Fault, reason: impl Into<String>, now: Timestamp) {
        self.reason = cut(reason);
        let fault = *self.fault.get_or_insert(fault);
        self.write_down(Cause { fault: Some(fault), reason: self.reason.clone(), release: None, at: now });
    }

    fn write_down(&mut self, cause: Cause) {
        if self.causes.len() == CAUSES {
            self.causes.pop();
        }
        self.causes.push(cause);
    }

    /// The first cause; one that is the release's own comes before a connection that had broken and was tried again.
    pub fn first_cause(&self) -> Option<&Cause> {
        let own = self.causes.iter().find(|cause| cause.fault == Some(Fault::App));
        own.or_else(|| self.causes.first())
    }

    /// All of it in words, the first cause first; empty where nothing went wrong.
    pub fn story(&self) -> String {
        let Some(first) = self.first_cause() else { return String::new() };
        let others = self.causes.iter().filter(|cause| *cause != first);
        let mut story = first.reason.clone();
        for other in others {
            let word = if other.at < first.at { "before that" } else { "then" };
            story.push_str(&format!("; {word}: {}", other.reason));
        }
        cut(story)
    }

    /// Fault and reason as they are shown wherever the host's failure is told of.
    pub fn told(&self) -> (Option<Fault>, String) {
        let bad =
            self.outcome.is_some_and(|outcome| !matches!(outcome, Outcome::Confirmed | Outcome::Skipped));
        match self.first_cause() {
            Some(first) if self.way == Way::Forward && (bad || self.overdue) => (first.fault, self.story()),
            _ => (self.fault, self.reason.clone()),
        }
    }
}
