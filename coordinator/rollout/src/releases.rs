//! What is remembered of an app's releases across its rollouts: which were stable, and which failed by their own fault.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::id::{HostName, RolloutId};
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::Timestamp;

use crate::plan::Poisoned;
use crate::state::{Rollout, State};

/// Stable releases remembered of an app.
const GOOD: usize = 100;
/// Failed digests remembered of an app.
const FAILED: usize = 200;

/// The releases of an app, as its ended rollouts leave them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Releases {
    /// Releases that succeeded, oldest first; the last is the current one. A rollback takes away what it left.
    pub good: Vec<ReleaseRef>,
    /// Every digest that ever succeeded, and that hosts have not left by themselves since.
    pub succeeded: BTreeSet<Digest>,
    /// Digests that failed for app reasons, with the hosts they failed on.
    pub failed: BTreeMap<Digest, FailedOn>,
    /// Poisoned digests that may be tried once more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paroled: BTreeMap<Digest, Parole>,
}

/// Leave to try a poisoned release once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parole {
    /// Who gave it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// Where a digest failed for app reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedOn {
    /// On which hosts.
    pub hosts: BTreeSet<HostName>,
    /// In which rollout last.
    pub rollout: RolloutId,
    /// On how many it is poison, by the strictest of the rollouts in which it failed: no later order sets it higher.
    #[serde(default = "usual")]
    pub after: u32,
}

/// For what was counted before thresholds were kept.
const fn usual() -> u32 {
    2
}

impl Releases {
    /// The release that the fleet is on: the last that succeeded.
    pub fn current(&self) -> Option<&ReleaseRef> {
        self.good.last()
    }

    /// A rollout has ended.
    pub fn conclude(&mut self, rollout: &Rollout) {
        if rollout.state == State::Succeeded {
            let to = rollout.to.clone();
            // Going back to a release takes away what came after it: another rollback goes further back.
            match self.good.iter().position(|good| good.digest == to.digest) {
                Some(at) => self.good.truncate(at + 1),
                None => self.good.push(to.clone()),
            }
            let excess = self.good.len().saturating_sub(GOOD);
            self.good.drain(..excess);
            self.succeeded.insert(to.digest);
            // It was tried once more, and is well.
            self.failed.remove(&to.digest);
        }
        self.count(rollout);
    }

    /// A rollout begins: what it was let off for, it has used.
    pub fn begin(&mut self, to: &Digest) {
        self.paroled.remove(to);
    }

    /// Hosts said something after the end: a release that they left is no good one, whatever it was taken for.
    pub fn revise(&mut self, rollout: &Rollout) {
        if rollout.first_end.is_some() {
            self.good.retain(|good| good.digest != rollout.to.digest);
            self.succeeded.remove(&rollout.to.digest);
        }
        self.count(rollout);
    }

    /// Digests that failed on at least `after` hosts, or on as many as the rollouts said in which they failed.
    pub fn poisoned(&self, after: u32) -> Vec<Poisoned> {
        let often = self
            .failed
            .iter()
            .filter(|(_, failed)| failed.hosts.len() >= failed.after.min(after).max(1) as usize);
        often
            .map(|(digest, failed)| Poisoned {
                digest: *digest,
                hosts: failed.hosts.iter().cloned().collect(),
                rollout: failed.rollout.clone(),
                paroled: self.paroled.get(digest).cloned(),
            })
            .collect()
    }

    /// Hosts on which the release failed by its own fault.
    fn count(&mut self, rollout: &Rollout) {
        for host in rollout.app_failures().cloned() {
            let on = self.failed.entry(rollout.to.digest).or_insert_with(|| FailedOn {
                hosts: BTreeSet::new(),
                rollout: rollout.id.clone(),
                after: u32::MAX,
            });
            on.hosts.insert(host);
            on.rollout = rollout.id.clone();
            on.after = on.after.min(rollout.spec.failure.poison_after);
        }
        while self.failed.len() > FAILED {
            self.failed.pop_first();
        }
    }
}
