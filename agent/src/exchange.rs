//! What session and driver tell each other.
//!
//! The session puts [`FromSession`] into a bounded channel; the driver publishes the newest [`Published`] through a
//! watch channel. Neither waits for the other: an order that is lost with a session is sent again by the coordinator,
//! and a status says everything. What the driver does not do it says to the session that brought it ([`Answers`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use windlass_proto::fence::{Obeyed, Offer};
use windlass_proto::id::{AppName, OpId};
use windlass_proto::phase::AppStatus;
use windlass_proto::refused::OrderRefused;
use windlass_proto::rpc::{AgentMessage, agent_message};
use windlass_proto::time::Span;
use windlass_release::{Assign, BootTime};

/// Something that came over a session.
#[derive(Debug, Clone)]
pub struct FromSession {
    /// When the dialling of that session began: only a confirm from a session dialled after the switch counts.
    pub opened_at: BootTime,
    /// When it was received.
    pub received_at: BootTime,
    /// Under which leadership it came; none from a coordinator that is older than fences.
    pub under: Option<Under>,
    /// Where it is said that it is not done.
    pub answers: Answers,
    /// What came.
    pub order: Order,
}

/// The way back to whoever gave an order.
#[derive(Debug, Clone, Default)]
pub struct Answers(Option<mpsc::Sender<AgentMessage>>);

impl Answers {
    /// By the stream of a session.
    pub const fn by(up: mpsc::Sender<AgentMessage>) -> Self {
        Self(Some(up))
    }

    /// Says that an order is not done. Where the stream has no room, or has ended, the order is sent again, and refused again.
    pub fn refuse(&self, refused: OrderRefused) {
        let OrderRefused { op, app, fault, reason, not_yet } = &refused;
        let (op, app) = (op.as_ref().map(tracing::field::display), app.as_ref().map(tracing::field::display));
        if *not_yet {
            tracing::info!(op, app, reason, "order not done yet");
        } else {
            tracing::warn!(op, app, %fault, reason, "order refused");
        }
        if let Some(up) = &self.0 {
            let kind = Some(agent_message::Kind::Refused(refused.into()));
            let _ = up.try_send(AgentMessage { kind });
        }
    }
}

/// The leadership under which an order came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Under {
    /// What its coordinator showed when the session began.
    pub offer: Arc<Offer>,
    /// Number of the assignment; 0 for other orders.
    pub mark: u64,
}

/// What a coordinator says, checked and in the domain's types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A lease was renewed: proof of contact.
    Lease,
    /// Move to a release.
    Assign(Box<Assign>),
    /// Leave to take the host out of service, for so long from receipt.
    Permit {
        /// For this operation.
        op: OpId,
        /// The coordinator's epoch.
        epoch: u64,
        /// How long it lasts.
        ttl: Span,
    },
    /// The release is permanent.
    Confirm {
        /// For this operation.
        op: OpId,
        /// The coordinator's epoch.
        epoch: u64,
    },
    /// Stop and go back.
    Abort {
        /// This operation.
        op: OpId,
        /// The coordinator's epoch.
        epoch: u64,
        /// Why.
        reason: String,
    },
    /// An operator releases a quarantined app.
    ReleaseQuarantine {
        /// The app.
        app: AppName,
        /// The coordinator's epoch.
        epoch: u64,
        /// Nothing is started.
        leave_down: bool,
        /// Why.
        reason: String,
    },
}

impl Order {
    /// The operation and the app that the order names.
    pub fn names(&self) -> (Option<OpId>, Option<AppName>) {
        match self {
            Self::Lease => (None, None),
            Self::Assign(assign) => (Some(assign.op.clone()), Some(assign.to.app.clone())),
            Self::Permit { op, .. } | Self::Confirm { op, .. } | Self::Abort { op, .. } => {
                (Some(op.clone()), None)
            }
            Self::ReleaseQuarantine { app, .. } => (None, Some(app.clone())),
        }
    }
}

/// What the driver has the session say. Published after it is durable.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// The newest status of every app on this host: all in `Hello`, the changed ones (by `seq`) later.
    pub apps: BTreeMap<AppName, Arc<AppStatus>>,
    /// The highest epoch this host has obeyed; a coordinator that welcomes with a lower one is not listened to.
    pub highest_epoch: u64,
    /// What this host has obeyed, by the journal.
    pub obeyed: Option<Obeyed>,
    /// Rises when the session is to be closed and a new one dialled. The session compares with the value it saw when it
    /// began to dial.
    pub redials: u64,
    /// What is wrong with the host itself, each in a sentence.
    pub problems: Vec<String>,
}

/// Most problems that are kept; the first ones are the causes of the others.
const PROBLEMS: usize = 8;

impl Published {
    /// Adds what is wrong with the host, until the agent ends; says whether it is new.
    pub fn add_problem(&mut self, problem: &str) -> bool {
        let is_new = self.problems.len() < PROBLEMS && !self.problems.iter().any(|known| known == problem);
        if is_new {
            self.problems.push(problem.to_owned());
        }
        is_new
    }
}
