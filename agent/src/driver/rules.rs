//! What the driver goes by; pure.

use windlass_proto::phase::{Fault, Phase};
use windlass_release::{Event, Now, Staging, State};

use crate::store::HistoryRow;

/// Going back must work with a broken disk; going forward must not.
pub(super) const fn may_go_unrecorded(before: Phase, after: Phase) -> bool {
    match after {
        Phase::Undraining
        | Phase::Failed
        | Phase::Idle
        | Phase::Reverting
        | Phase::Reverted
        | Phase::Quarantined => true,
        // The supervision of what is confirmed.
        Phase::Confirmed => matches!(before, Phase::Confirmed),
        _ => false,
    }
}

/// What happens instead of a step that cannot be recorded: the operation fails, and the host stays or goes back where it can do
/// so without a record. Otherwise the step is tried again, or a deadline ends it.
pub(super) fn instead(before: &State, after: &State, why: &str) -> Option<Event> {
    let reason = format!("the host cannot record what it does: {why}");
    let fault = Fault::Host;
    match (before.phase(), after.phase()) {
        (_, Phase::Assigned) | (Phase::Assigned | Phase::Staging | Phase::Staged, _) => {
            let op = after.operation.as_ref()?.op.clone();
            Some(Event::Staging { op, news: Staging::Failed { fault, reason } })
        }
        (
            Phase::Draining
            | Phase::Stopping
            | Phase::Switching
            | Phase::Starting
            | Phase::Verifying
            | Phase::Admitting,
            _,
        ) => Some(Event::Failed { turn: before.turn, fault, reason }),
        _ => None,
    }
}

/// The row of history that a step makes, if it ends an operation.
pub(super) fn ending(before: &State, after: &State) -> Option<HistoryRow> {
    let operation = after.operation.as_ref()?;
    let outcome = operation.outcome?;
    let known = before.operation.as_ref().filter(|former| former.op == operation.op);
    if known.is_some_and(|former| former.outcome == Some(outcome)) {
        return None;
    }
    Some(HistoryRow {
        op: operation.op.clone(),
        rollout: operation.rollout.clone(),
        release: operation.to.clone(),
        from: operation.from.clone(),
        ended_at: after.since,
        outcome,
        fault: operation.fault,
        reason: operation.reason.clone(),
    })
}

pub(super) fn in_words(now: Now) -> String {
    match now.contact {
        Some(at) => format!("last lease {} ago", now.boot.since(at)),
        None => "no lease since the agent started".to_owned(),
    }
}
