//! What hosts do not do, and what is lost of what they say: the rollout's business, or at least the log's.

use windlass_proto::id::{HostId, HostName, RolloutId};
use windlass_proto::refused::OrderRefused;
use windlass_rollout::Event;

use super::hosts::{TEXT, cut};
use super::log::event;
use super::{Fleet, RolloutEntry};

impl Fleet {
    /// A host says that it does not do what it was told; false when the session is no longer the host's.
    pub fn refused(&mut self, id: &HostId, number: u64, refused: OrderRefused) -> bool {
        if !self.is_current(id, number) {
            return false;
        }
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else { return false };
        host.last_heard = Some(now);
        let name = host.record.name.clone();
        let of_rollout = |entry: &&RolloutEntry| {
            entry.rollout.hosts.get(&name).is_some_and(|part| Some(&part.op) == refused.op.as_ref())
        };
        let rollout = self.rollouts.values().find(of_rollout).map(|entry| entry.rollout.id.clone());
        let app = refused.app.as_ref().map(ToString::to_string).unwrap_or_default();
        match rollout {
            Some(rollout) => {
                self.advance(&rollout, Event::HostRefused { host: name, refused: Box::new(refused) });
            }
            // The same again is no news, and must not push news out of the log.
            None if host.refused == refused.reason => {}
            None => {
                host.refused.clone_from(&refused.reason);
                let message = format!("{name} refused an order: {}", refused.reason);
                let mut record = event("host.refused", &format!("agent/{id}"), cut(message, TEXT));
                (record.host, record.app) = (name.to_string(), app);
                self.log(record);
            }
        }
        true
    }

    /// What a host froze before it went back could not be kept here.
    pub fn lost_evidence(&mut self, host: &HostName, rollout: &RolloutId, why: &str) {
        let message = format!("the evidence of {host} in {rollout} could not be kept: {why}");
        let mut record = event("host.evidence_lost", "coordinator", cut(message, TEXT));
        (record.host, record.rollout) = (host.to_string(), rollout.to_string());
        self.log(record);
    }
}
