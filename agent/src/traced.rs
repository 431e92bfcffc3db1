//! What the agent tells of a deployment: a span for all of it, under the rollout's, and in it one for each phase.

use windlass_proto::phase::{Outcome, Phase};
use windlass_proto::time::{Span as Length, Timestamp};
use windlass_proto::trace::{Span, TraceParent};
use windlass_release::{Operation, State};

/// What was over with this step of an app.
pub fn over(before: &State, after: &State) -> Vec<Span> {
    [phase(before, after), deployment(before, after)].into_iter().flatten().collect()
}

/// An operation's span in the trace that its rollout belongs to.
fn id(operation: &Operation) -> Option<TraceParent> {
    operation.trace.map(|trace| trace.about(operation.op.as_str()))
}

/// The phase that was left, if an operation was in it and not merely the app at rest.
fn phase(before: &State, after: &State) -> Option<Span> {
    let (left, entered) = (before.phase(), after.phase());
    if left == entered || before.is_settled() {
        return None;
    }
    let deployment = id(before.operation.as_ref()?)?;
    let failed = matches!(
        entered,
        Phase::Undraining | Phase::Reverting | Phase::Reverted | Phase::Failed | Phase::Quarantined
    ) && !matches!(left, Phase::Undraining | Phase::Reverting);
    Some(Span {
        id: deployment.about(&format!("{} {}", before.seq, left.word())),
        under: Some(deployment.span()),
        name: left.word().into(),
        start: before.since,
        end: after.since,
        attributes: Vec::new(),
        error: failed.then(|| after.operation.as_ref().map(|operation| operation.reason.clone())).flatten(),
    })
}

/// The operation that has ended. How it ends after that, where a confirmed release is left again, is told by the phases.
fn deployment(before: &State, after: &State) -> Option<Span> {
    let operation = after.operation.as_ref()?;
    let outcome = operation.outcome?;
    let known = before.operation.as_ref().filter(|known| known.op == operation.op);
    if known.is_some_and(|known| known.outcome.is_some()) {
        return None;
    }
    let spent = Length(after.phase_times.values().sum());
    let mut attributes = vec![
        ("windlass.rollout", operation.rollout.to_string()),
        ("windlass.app", after.app.to_string()),
        ("windlass.version", operation.to.version.to_string()),
        ("windlass.outcome", outcome.word().to_owned()),
    ];
    attributes.extend(operation.fault.map(|fault| ("windlass.fault", fault.word().to_owned())));
    Some(Span {
        id: id(operation)?,
        under: operation.trace.map(TraceParent::span),
        name: "deployment".into(),
        start: Timestamp(after.since.0.saturating_sub_unsigned(spent.0)),
        end: after.since,
        attributes,
        error: (!matches!(outcome, Outcome::Confirmed | Outcome::Skipped)).then(|| operation.reason.clone()),
    })
}
