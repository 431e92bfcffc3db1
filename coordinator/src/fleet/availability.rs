//! What users saw of a rollout: which URLs are asked, and what came of it.

use windlass_proto::id::RolloutId;
use windlass_proto::spec::{AvailabilitySpec, RolloutSpec};
use windlass_proto::time::Timestamp;
use windlass_rollout::plan::{Check, Level};

use super::Fleet;

/// Answers are written to disk with each failure, with each change of the rollout, and after this many.
const EACH: u64 = 10;

/// What is asked for one open rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The rollout.
    pub rollout: RolloutId,
    /// What, and how often.
    pub spec: AvailabilitySpec,
}

impl Fleet {
    /// Refuses a spec whose URL may not be dialled.
    pub(super) fn may_dial(&self, spec: &RolloutSpec) -> Option<Check> {
        let url = &spec.availability.as_ref()?.url;
        if self.dial_allow.iter().any(|allowed| allowed.allows(url)) {
            return None;
        }
        let message = format!(
            "this coordinator may not dial {url}, which rollout.availability has; add it to dial_allow in coordinator.toml and \
             restart the coordinator, or remove it from the spec"
        );
        Some(Check { id: "availability", level: Level::Error, message })
    }

    /// What is asked now, for all open rollouts. What was allowed when a rollout began may be no longer.
    pub fn asked(&self) -> Vec<Asked> {
        let open = self.rollouts.values().map(|entry| &entry.rollout).filter(|rollout| !rollout.ended());
        let asked = open.filter_map(|rollout| {
            let spec = rollout.spec.availability.clone()?;
            self.may_dial(&rollout.spec).is_none().then(|| Asked { rollout: rollout.id.clone(), spec })
        });
        asked.collect()
    }

    /// Counts one question of a rollout; of one that has ended meanwhile it is of no interest.
    pub fn count_answer(&mut self, id: &RolloutId, at: Timestamp, answered: bool) {
        let Some(entry) = self.rollouts.get_mut(id).filter(|entry| !entry.rollout.ended()) else { return };
        let step = entry.rollout.step_name();
        let Some(ledger) = &mut entry.rollout.availability else { return };
        ledger.count(&step, at, answered);
        let (sent, _) = ledger.totals();
        if !answered || sent % EACH == 1 {
            self.keep_head(id);
        }
        if !answered {
            self.changes.rollouts.insert(id.clone());
        }
    }
}
