//! What a host does not do, it says: that is its failure at once, and nobody waits for a deadline.

use windlass_proto::id::HostName;
use windlass_proto::phase::Outcome;
use windlass_proto::refused::OrderRefused;

use crate::hear::is_disruptive;
use crate::refused::Refused;
use crate::state::{Part, Way};
use crate::turn::{Turn, cut};

impl Turn {
    /// A host does not do what this rollout told it.
    pub(crate) fn host_refused(&mut self, name: &HostName, refused: OrderRefused) -> Result<(), Refused> {
        self.present(name)?;
        let (ended, now, version) = (self.r.ended(), self.now, self.r.to.version.clone());
        let host = self.host(name)?;
        if refused.op.as_ref() != Some(&host.op) {
            return Ok(());
        }
        let why = cut(format!("refused: {}", refused.reason));
        if refused.not_yet {
            // It is told again; until then this is what it does.
            host.detail = why;
            return Ok(());
        }
        if ended {
            // What it will not drop, it is not told to drop for ever.
            (host.heard_op, host.sent) = (None, None);
            return Ok(());
        }
        if matches!(host.part, Part::Settled | Part::Released) {
            host.sent = None;
            return Ok(());
        }
        if host.part == Part::Abort && is_disruptive(host.phase) {
            // It has failed already; what becomes of its way back it says itself, or a deadline.
            host.detail = why;
            return Ok(());
        }
        host.fault = Some(refused.fault);
        host.judge(refused.fault, why.as_str(), now);
        match (host.part, is_disruptive(host.phase)) {
            // It may be out of service: it is to go back, and has failed whatever comes of that.
            (Part::Go, true) => {
                (host.part, host.overdue, host.sent) = (Part::Abort, true, None);
                self.log("host.failed", Some(name), why);
                Ok(())
            }
            _ => match host.way {
                Way::Forward => self.through(name, Outcome::Failed, version.as_ref()),
                Way::Back => self.back(name, Outcome::Failed),
            },
        }
    }
}
