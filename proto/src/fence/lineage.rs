//! The coordinator's side: which leaderships its state knows, and whom it may therefore lead.

use std::collections::BTreeMap;

use super::{Fence, JUMP, Led};

/// Most fences that are kept. One comes with each start that orders anything; a host that stayed away for longer is led again
/// after `reset-fence`, or after a start with `--after-restore`.
pub const LINEAGE: usize = 1024;

/// The fences under which a state was led, each with how far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage(BTreeMap<Fence, u64>);

/// What a host shows in its greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// What it has obeyed; none: nobody yet, or its agent is older than fences.
    pub led: Option<Led>,
    /// Whether the fence came with the valid signature of the fleet's coordinators.
    pub signed: bool,
    /// The highest epoch of any order that it has obeyed; its word alone.
    pub highest: u64,
}

/// How a coordinator came back from a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restore {
    /// It was started with `--after-restore`: an operator says that no other coordinator leads this fleet.
    pub now: bool,
    /// Leaderships below this epoch are of the time that the restore has ended; 0: there was none.
    pub below: u64,
}

/// What a coordinator makes of what a host shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It leads the host, and shows it this entry of its lineage.
    Leads {
        /// The entry.
        follows: Option<Led>,
    },
    /// After a restore: it takes this into its lineage, and leads the host then.
    TakesIn {
        /// What the host has obeyed.
        led: Led,
        /// Whether it must first lead above that.
        rises: bool,
    },
    /// The host has obeyed somebody whom its state does not know, or further than it knows: it does not lead it.
    Foreign,
    /// Another coordinator of this fleet has come as far or further: its own time is over.
    Deposed,
}

impl Lineage {
    /// Adds a leadership, or how far it went; the oldest one beyond the bound is dropped and returned.
    pub fn add(&mut self, led: Led) -> Option<Fence> {
        let mark = self.0.entry(led.fence).or_default();
        *mark = led.mark.max(*mark);
        let oldest = *self.0.first_key_value()?.0;
        (self.0.len() > LINEAGE).then(|| {
            self.0.remove(&oldest);
            oldest
        })
    }

    /// The entry of a fence.
    pub fn get(&self, fence: &Fence) -> Option<Led> {
        self.0.get(fence).map(|mark| Led { fence: *fence, mark: *mark })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What to make of a host, for a coordinator that leads under `own`.
    pub fn judge(&self, own: Fence, restore: Restore, shown: &Shown) -> Verdict {
        let Some(led) = shown.led else {
            return if shown.highest > own.epoch {
                Verdict::Foreign
            } else {
                Verdict::Leads { follows: None }
            };
        };
        let known = if led.fence == own { Some(led) } else { self.get(&led.fence) };
        if let Some(follows) = known.filter(|known| known.mark >= led.mark) {
            let above = led.fence.epoch.max(shown.highest) > own.epoch;
            return if above { Verdict::Foreign } else { Verdict::Leads { follows: Some(follows) } };
        }
        // From here on it accuses somebody, and a host's word alone accuses nobody.
        if !shown.signed {
            return Verdict::Foreign;
        }
        let rises = led.fence.epoch >= own.epoch;
        if restore.now {
            // Above more than that no host but this one would follow.
            let reachable = led.fence.epoch.saturating_sub(own.epoch) < JUMP / 2;
            return if reachable { Verdict::TakesIn { led, rises } } else { Verdict::Foreign };
        }
        match rises {
            false if led.fence.epoch < restore.below => Verdict::TakesIn { led, rises: false },
            false => Verdict::Foreign,
            true => Verdict::Deposed,
        }
    }
}
