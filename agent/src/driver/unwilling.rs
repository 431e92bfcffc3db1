//! Why an order is not done, and what is said of it; pure.

use windlass_proto::fence::Unfit;
use windlass_proto::id::{AppName, OpId};
use windlass_proto::limits::{APPS, FIRST_RELEASES};
use windlass_proto::phase::Fault;
use windlass_proto::refused::OrderRefused;
use windlass_release::Refused;

/// Why an order is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwilling {
    /// The host does not obey the coordinator that gave it.
    #[error("this host does not obey the coordinator that gave the order: {0}")]
    Unfit(#[from] Unfit),
    /// No room for another app.
    #[error("this host has {APPS} apps, as many as a host takes")]
    Full,
    /// Room, but not now.
    #[error(
        "this host is fetching the first releases of {FIRST_RELEASES} other apps; as many at once are the most"
    )]
    Crowded,
    /// An operation that is not here.
    #[error("this host knows nothing of operation {0}")]
    NoOperation(OpId),
    /// An app that is not here.
    #[error("this host knows nothing of app {0}")]
    NoApp(AppName),
    /// The machine says no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The journal does not take it.
    #[error("the host cannot record what it does: {0}")]
    Unrecorded(String),
}

impl Unwilling {
    const fn fault(&self) -> Fault {
        match self {
            Self::Unfit(_) | Self::Refused(Refused::Fenced { .. }) => Fault::Policy,
            Self::Full | Self::Crowded | Self::Unrecorded(_) => Fault::Host,
            Self::Refused(Refused::NoContact | Refused::PermitOver | Refused::OldSession) => Fault::Transport,
            Self::NoOperation(_) | Self::NoApp(_) | Self::Refused(_) => Fault::Agent,
        }
    }

    /// Whether the same order may be done later.
    const fn is_not_yet(&self) -> bool {
        match self {
            Self::Unfit(_) | Self::Full | Self::NoOperation(_) | Self::NoApp(_) => false,
            Self::Refused(refused) => !matches!(refused, Refused::Fenced { .. } | Refused::OtherApp),
            Self::Crowded | Self::Unrecorded(_) => true,
        }
    }

    /// What goes up.
    pub(super) fn answer(&self, (op, app): (Option<OpId>, Option<AppName>)) -> OrderRefused {
        let (fault, not_yet) = (self.fault(), self.is_not_yet());
        OrderRefused { op, app, fault, reason: self.to_string(), not_yet }
    }
}

#[cfg(test)]
mod tests {
    use windlass_proto::phase::Phase;

    use super::*;

    #[test]
    fn what_can_pass_is_told_from_what_cannot() {
        let op = || OpId::new("op-1").unwrap();
        let cases = [
            (Unwilling::Unfit(Unfit::Lower { given: 1, obeyed: 2 }), Fault::Policy, false),
            (Refused::Fenced { given: 1, highest: 2 }.into(), Fault::Policy, false),
            (Unwilling::Full, Fault::Host, false),
            (Unwilling::NoOperation(op()), Fault::Agent, false),
            (Unwilling::NoApp("shop".parse().unwrap()), Fault::Agent, false),
            (Refused::OtherApp.into(), Fault::Agent, false),
            (Unwilling::Crowded, Fault::Host, true),
            (Unwilling::Unrecorded("no space left".into()), Fault::Host, true),
            (Refused::NoContact.into(), Fault::Transport, true),
            (Refused::PermitOver.into(), Fault::Transport, true),
            (Refused::OldSession.into(), Fault::Transport, true),
            (Refused::Busy { op: op(), phase: Phase::Trial }.into(), Fault::Agent, true),
            (Refused::NotNow(Phase::Trial).into(), Fault::Agent, true),
            (Refused::AlreadyConfirmed.into(), Fault::Agent, true),
        ];
        for (why, fault, not_yet) in cases {
            let answer = why.answer((Some(op()), None));
            assert_eq!((answer.fault, answer.not_yet), (fault, not_yet), "{why}");
            assert_eq!((answer.op, answer.reason), (Some(op()), why.to_string()));
        }
    }
}
