//! Statuses on their way up.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use windlass_proto::id::AppName;
use windlass_proto::phase::AppStatus as Status;
use windlass_proto::rpc::{AgentMessage, AppStatus, agent_message};

use crate::exchange::Published;

/// What went up, by app.
pub(super) struct Sent {
    pub(super) up: mpsc::Sender<AgentMessage>,
    pub(super) told: BTreeMap<AppName, Arc<Status>>,
}

impl Sent {
    /// Sends what is newer than what was sent, or says the same in other words. False when there was no room for all of it.
    pub(super) fn catch_up(&mut self, published: &Published) -> bool {
        // An app that the host has forgotten begins again, should it come back.
        self.told.retain(|app, _| published.apps.contains_key(app));
        for (app, status) in &published.apps {
            let is_told = |told: &Arc<Status>| told.seq >= status.seq && told.detail == status.detail;
            if self.told.get(app).is_some_and(is_told) {
                continue;
            }
            let message = agent_message::Kind::Status(AppStatus::from((**status).clone()));
            match self.up.try_send(AgentMessage { kind: Some(message) }) {
                Ok(()) => drop(self.told.insert(app.clone(), Arc::clone(status))),
                Err(TrySendError::Full(_)) => return false,
                // The stream has ended, which the other direction tells.
                Err(TrySendError::Closed(_)) => return true,
            }
        }
        true
    }
}
