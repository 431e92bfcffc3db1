//! All that can happen to a rollout.

use windlass_proto::id::{HostName, OpId};
use windlass_proto::phase::AppStatus;
use windlass_proto::refused::OrderRefused;

/// Something that happened. Every event may come twice, late, or after the rollout has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The rollout was recorded; begin.
    Start,
    /// A host said something about the app.
    HostStatus {
        /// Which host.
        host: HostName,
        /// Its newest status.
        status: Box<AppStatus>,
    },
    /// A host opened a new session.
    HostConnected {
        /// Which host.
        host: HostName,
        /// What its `Hello` says of the app; `None`: it knows nothing of it.
        status: Option<Box<AppStatus>>,
    },
    /// A host would refuse this operation's release because of its counter, by what it has said: it was not given the order.
    Declined {
        /// Which host.
        host: HostName,
        /// The operation.
        op: OpId,
        /// Why, and what lets it take the release.
        why: String,
    },
    /// A host said that it does not do what it was told.
    HostRefused {
        /// Which host.
        host: HostName,
        /// What it said.
        refused: Box<OrderRefused>,
    },
    /// A host has not been heard of for too long.
    HostSilent {
        /// Which host.
        host: HostName,
    },
    /// Time has passed. Wanted at the time of the last [`crate::Effect::SetTimer`]; harmless at any other.
    Tick,
    /// An operator stops progress.
    Pause {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// An operator lets it go on; hosts that are silent now are excused by name.
    Resume {
        /// Who.
        by: String,
    },
    /// An operator wants everything back.
    Abort {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The coordinator started again and loaded this rollout; no host is connected.
    Recovered {
        /// Its new epoch.
        epoch: u64,
    },
}
