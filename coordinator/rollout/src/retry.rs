//! An ended rollout once more, for the hosts that it left behind.

use std::collections::BTreeSet;

use windlass_proto::id::HostName;
use windlass_proto::phase::Outcome;

use crate::refused::Refused;
use crate::state::Rollout;

impl Rollout {
    /// The hosts that a retry is for: all that do not attest the target. The rest of the order is that of this rollout.
    pub fn left_behind(&self) -> Result<BTreeSet<HostName>, Refused> {
        if !self.ended() {
            return Err(Refused::StillOpen { id: self.id.clone(), state: self.state.word() });
        }
        let stays = |host: &crate::state::Host| {
            host.outcome == Some(Outcome::Confirmed) && host.way == crate::state::Way::Forward
        };
        let left: BTreeSet<HostName> =
            self.hosts.iter().filter(|(_, host)| !stays(host)).map(|(name, _)| name.clone()).collect();
        if left.is_empty() { Err(Refused::NothingLeft { id: self.id.clone() }) } else { Ok(left) }
    }
}
