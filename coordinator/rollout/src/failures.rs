//! What is remembered of an app's releases that failed by their own fault, in whichever environment: they are offered to no
//! host of any.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::id::{HostName, RolloutId};
use windlass_proto::time::Timestamp;

use crate::plan::Poisoned;
use crate::state::{Rollout, State};

/// Failed digests remembered of an app.
const FAILED: usize = 200;

/// The failed releases of an app, as its ended rollouts leave them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
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
    /// When that began.
    #[serde(default)]
    pub at: Timestamp,
    /// On how many it is poison, by the strictest of the rollouts in which it failed: no later order sets it higher.
    #[serde(default = "usual")]
    pub after: u32,
}

/// For what was counted before thresholds were kept.
const fn usual() -> u32 {
    2
}

impl Failures {
    /// A rollout begins: what it was let off for, it has used. Says whether there was such.
    pub fn begin(&mut self, to: &Digest) -> bool {
        self.paroled.remove(to).is_some()
    }

    /// A rollout has ended.
    pub fn conclude(&mut self, rollout: &Rollout) {
        if rollout.state == State::Succeeded {
            // It was tried once more, and is well.
            self.failed.remove(&rollout.to.digest);
        }
        self.revise(rollout);
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

    /// Counts the hosts on which the release failed by its own fault; after the end more may have said so.
    pub fn revise(&mut self, rollout: &Rollout) {
        for host in rollout.app_failures().cloned() {
            let on = self.failed.entry(rollout.to.digest).or_insert_with(|| FailedOn {
                hosts: BTreeSet::new(),
                rollout: rollout.id.clone(),
                at: rollout.started_at,
                after: u32::MAX,
            });
            on.hosts.insert(host);
            on.rollout = rollout.id.clone();
            on.at = rollout.started_at;
            on.after = on.after.min(rollout.spec.failure.poison_after);
        }
        while self.failed.len() > FAILED {
            let oldest = self.failed.iter().min_by_key(|(_, on)| on.at).map(|(digest, _)| *digest);
            oldest.map(|digest| self.failed.remove(&digest));
        }
        self.paroled.retain(|digest, _| self.failed.contains_key(digest));
    }
}
