//! All that a rollout can ask of the world.

use windlass_proto::id::{HostName, OpId};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::HostOrder;
use windlass_proto::time::{Span, Timestamp};

use crate::state::State;

/// Something to do, after the new state is on disk. Doing it twice, late or not at all is harmless: what a host still
/// lacks is sent again. Messages to a host without a session are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell the host to stage a release and wait for the permit.
    Assign {
        /// Which host.
        host: HostName,
        /// The operation; its idempotency key.
        op: OpId,
        /// What to move to.
        release: ReleaseRef,
        /// What to keep to.
        order: HostOrder,
        /// The release was confirmed on this host before.
        rollback: bool,
    },
    /// Let the host go out of service.
    Permit {
        /// Which host.
        host: HostName,
        /// Its operation.
        op: OpId,
        /// For how long the leave is good.
        ttl: Span,
    },
    /// Make the release permanent on the host.
    Confirm {
        /// Which host.
        host: HostName,
        /// Its operation.
        op: OpId,
    },
    /// Tell the host to drop the operation and go back by itself.
    AbortOp {
        /// Which host.
        host: HostName,
        /// Its operation.
        op: OpId,
        /// Why.
        reason: String,
    },
    /// Write to the event log.
    Event {
        /// `rollout.started`, `host.confirmed`, …
        kind: &'static str,
        /// The host that it is about.
        host: Option<HostName>,
        /// In words.
        message: String,
    },
    /// Send [`crate::Event::Tick`] at this time; replaces the timer set before.
    SetTimer {
        /// When.
        at: Timestamp,
    },
    /// The rollout is over: let go of the app.
    Ended {
        /// How.
        state: State,
    },
    /// What a host said after the end changes what is to be concluded from the rollout.
    Revised,
}
