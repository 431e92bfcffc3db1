//! Why an event changed nothing.

use windlass_proto::id::OpId;
use windlass_proto::phase::Phase;

/// An event that does not apply. The state is as it was; nothing is to be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// From a coordinator whose time is over.
    #[error("epoch {given} is over: this host obeys epoch {highest}")]
    Fenced {
        /// The order's epoch.
        given: u64,
        /// The highest obeyed so far.
        highest: u64,
    },
    /// Another operation is under way.
    #[error("busy with operation {op}, which is {phase}")]
    Busy {
        /// The operation at hand.
        op: OpId,
        /// Where it is.
        phase: Phase,
    },
    /// About an operation that is not the one at hand.
    #[error("operation {0} is not the one at hand")]
    OtherOperation(OpId),
    /// For another app.
    #[error("the release is of another app")]
    OtherApp,
    /// Not expected in this phase.
    #[error("not expected while {0}")]
    NotNow(Phase),
    /// A permit came after its time.
    #[error("the permit is over")]
    PermitOver,
    /// A permit came, but no lease was renewed within [`crate::LEASE_FRESH`].
    #[error("no drain without contact: the last lease is older than {}", crate::LEASE_FRESH)]
    NoContact,
    /// A confirm came over a session opened before the switch; it proves nothing of the host as it is now.
    #[error("a confirm counts only over a session opened after the switch")]
    OldSession,
    /// An abort came after confirm; only a new rollout changes a confirmed host.
    #[error("already confirmed; order a rollback instead")]
    AlreadyConfirmed,
    /// The outcome of something that was overtaken.
    #[error("outcome of turn {given}, but this is turn {current}")]
    Overtaken {
        /// The outcome's turn.
        given: u64,
        /// The turn waited for.
        current: u64,
    },
    /// A tick before its time.
    #[error("nothing is due")]
    NothingDue,
}
