//! What the coordinator is told of an app.

use windlass_proto::digest::Digest;
use windlass_proto::phase::{AppStatus, Attestation, Evidence, HookRun, Outcome};

use crate::state::{Progress, RevertGoal, RevertStep, State, Supervision};

/// What only the shell can see, at the moment of the report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// What provably runs.
    pub attested: Attestation,
    /// All complete releases of the app on this host.
    pub held: Vec<Digest>,
    /// What was frozen for the operation at hand.
    pub evidence: Vec<Evidence>,
    /// What the hooks of the operation at hand did so far.
    pub hooks: Vec<HookRun>,
}

/// All that the host says of the app. Evidence goes along only with an outcome that is a failure.
pub fn status(state: &State, observed: Observed) -> AppStatus {
    let operation = state.operation.as_ref();
    let outcome = operation.and_then(|operation| operation.outcome);
    let failed = outcome.is_some_and(|outcome| outcome != Outcome::Confirmed);
    AppStatus {
        app: state.app.clone(),
        seq: state.seq,
        op: operation.map(|operation| operation.op.clone()),
        rollout: operation.map(|operation| operation.rollout.clone()),
        epoch: operation.map_or(state.epoch, |operation| operation.epoch),
        phase: state.phase(),
        outcome,
        fault: operation.and_then(|operation| operation.fault),
        reason: operation.map(|operation| operation.reason.clone()).unwrap_or_default(),
        current: state.current.clone(),
        confirmed: state.confirmed.clone(),
        target: operation.map(|operation| operation.to.clone()),
        attested: observed.attested,
        drained: operation.and_then(|operation| operation.drained),
        phase_times: state.phase_times.clone(),
        since: state.since,
        evidence: if failed { observed.evidence } else { Vec::new() },
        held: observed.held,
        detail: detail(state),
        hooks: observed.hooks,
        past: Some(state.past()),
    }
}

fn detail(state: &State) -> String {
    if let Some(hook) = state.operation.as_ref().and_then(|operation| operation.hook) {
        return format!("running hook {hook}");
    }
    let complaint = state.operation.as_ref().map(|op| op.complaint.as_str()).unwrap_or_default();
    let doing = match &state.progress {
        Progress::Assigned => "waiting to fetch",
        Progress::Staging => "fetching and verifying",
        Progress::Staged => "waiting for the permit",
        Progress::Draining { .. } => "waiting for requests to finish",
        Progress::Undraining { retry_at: Some(_), .. } => "waiting to try again to return to traffic",
        Progress::Undraining { .. } => "returning to traffic",
        Progress::Stopping => "stopping the old release",
        Progress::Switching { .. } => "moving the link",
        Progress::Starting { .. } => "waiting for startup",
        Progress::Verifying { ready_since: None, .. } => "waiting for readiness",
        Progress::Verifying { smoke_passed: false, .. } => "making smoke checks",
        Progress::Verifying { .. } => "ready; watching until min_healthy_time has passed",
        Progress::Admitting { .. } => "entering traffic",
        Progress::Trial { holding: false, .. } => "waiting for confirm",
        Progress::Trial { holding: true, .. } => "holding without confirm while healthy",
        Progress::Reverting { goal: RevertGoal::Out, .. } => "stopping the app, as on_contact_lost says",
        Progress::Reverting { step, .. } => match step {
            RevertStep::Stopping => "stopping the new release",
            RevertStep::Switching => "moving the link back",
            RevertStep::Starting { .. } => "starting the last confirmed release",
            RevertStep::Verifying { .. } => "waiting for readiness of the last confirmed release",
            RevertStep::Admitting => "returning to traffic",
            RevertStep::Waiting { .. } => "waiting to try again to go back",
        },
        Progress::Quarantined => "out of service until a person releases it",
        Progress::Idle | Progress::Confirmed | Progress::Reverted | Progress::Failed => {
            return match state.supervision {
                Supervision::Off | Supervision::Up { .. } => complaint.to_owned(),
                Supervision::Linking | Supervision::Starting => "starting the app".to_owned(),
                Supervision::Stopping => "restarting the app: liveness failed".to_owned(),
                Supervision::Waiting { .. } => format!(
                    "the app ended; it will be started again (restart {})",
                    state.restarts.saturating_add(1)
                ),
            };
        }
    };
    if complaint.is_empty() { doing.to_owned() } else { format!("{doing}: {complaint}") }
}
