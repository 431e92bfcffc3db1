//! What is remembered of an environment's releases across its rollouts: which were stable.

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::release::ReleaseRef;

use crate::state::{Rollout, State};

/// Stable releases remembered of an environment.
const GOOD: usize = 100;
/// Digests remembered as having succeeded there: one row holds them, and rows are bounded.
const SUCCEEDED: usize = 1000;

/// The releases of an environment of an app, as its ended rollouts leave them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Releases {
    /// Releases that succeeded, oldest first; the last is the current one. A rollback takes away what it left.
    pub good: Vec<ReleaseRef>,
    /// Digests that succeeded and that hosts have not left by themselves since, the latest success last.
    pub succeeded: Vec<Digest>,
}

impl Releases {
    /// The release that the environment is on: the last that succeeded.
    pub fn current(&self) -> Option<&ReleaseRef> {
        self.good.last()
    }

    /// A rollout has ended.
    pub fn conclude(&mut self, rollout: &Rollout) {
        if rollout.state != State::Succeeded {
            return;
        }
        let to = rollout.to.clone();
        // Going back to a release takes away what came after it: another rollback goes further back.
        match self.good.iter().position(|good| good.digest == to.digest) {
            Some(at) => self.good.truncate(at + 1),
            None => self.good.push(to.clone()),
        }
        let excess = self.good.len().saturating_sub(GOOD);
        self.good.drain(..excess);
        self.succeeded.retain(|digest| *digest != to.digest);
        self.succeeded.push(to.digest);
        let excess = self.succeeded.len().saturating_sub(SUCCEEDED);
        self.succeeded.drain(..excess);
    }

    /// Hosts said something after the end: a release that they left is no good one, whatever it was taken for.
    pub fn revise(&mut self, rollout: &Rollout) {
        if rollout.first_end.is_some() {
            self.good.retain(|good| good.digest != rollout.to.digest);
            self.succeeded.retain(|digest| *digest != rollout.to.digest);
        }
    }
}
