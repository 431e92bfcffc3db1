//! What the coordinator tells of a rollout: one span, from its order to its end, under the span of whoever ordered it. Those of
//! hosts lie under it.

use windlass_proto::trace::{Span, TraceParent};
use windlass_rollout::{Rollout, State};

/// The rollout's own span in the trace that it belongs to.
pub(super) fn id(rollout: &Rollout) -> Option<TraceParent> {
    rollout.trace.map(|trace| trace.about(rollout.id.as_str()))
}

/// A rollout that has ended. It began when it was recorded, maybe under another coordinator.
pub(super) fn span(rollout: &Rollout) -> Option<Span> {
    let state = rollout.state;
    let error = (state != State::Succeeded).then(|| match rollout.failure.as_str() {
        "" => state.word().to_owned(),
        why => format!("{}: {why}", state.word()),
    });
    Some(Span {
        id: id(rollout)?,
        under: rollout.trace.map(TraceParent::span),
        name: "rollout".into(),
        start: rollout.started_at,
        end: rollout.ended_at?,
        attributes: vec![
            ("windlass.rollout", rollout.id.to_string()),
            ("windlass.app", rollout.app.to_string()),
            ("windlass.version", rollout.to.version.to_string()),
            ("windlass.kind", rollout.kind.word().to_owned()),
            ("windlass.state", state.word().to_owned()),
            ("windlass.hosts", rollout.batches.iter().map(Vec::len).sum::<usize>().to_string()),
        ],
        error,
    })
}
