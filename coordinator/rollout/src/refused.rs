//! What a rollout refuses, and why.

use windlass_proto::id::{HostName, RolloutId};

/// An operator's event that the rollout cannot take; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is over.
    #[error("rollout {id} has ended ({state}); `windlass rollout retry {id}` makes a new one")]
    Ended {
        /// Which rollout.
        id: RolloutId,
        /// How it ended.
        state: &'static str,
    },
    /// It goes back already.
    #[error("rollout {id} is going back, which cannot be paused or resumed")]
    GoingBack {
        /// Which rollout.
        id: RolloutId,
    },
    /// Nothing is paused: what it waits for is no matter of an operator's word.
    #[error(
        "rollout {id} is not paused, so there is nothing to resume; it waits for {waits}; `windlass rollout abort {id}` ends it"
    )]
    NothingToResume {
        /// Which rollout.
        id: RolloutId,
        /// What it waits for, in words.
        waits: String,
    },
    /// The host is not one of the rollout's.
    #[error("host {host} takes no part in rollout {id}")]
    UnknownHost {
        /// Which rollout.
        id: RolloutId,
        /// Which host.
        host: HostName,
    },
    /// Only an ended rollout can be retried.
    #[error("rollout {id} is still {state}; abort it first or wait for its end")]
    StillOpen {
        /// Which rollout.
        id: RolloutId,
        /// Its state.
        state: &'static str,
    },
    /// All hosts are on the target.
    #[error("rollout {id} left no host behind; there is nothing to retry")]
    NothingLeft {
        /// Which rollout.
        id: RolloutId,
    },
}
