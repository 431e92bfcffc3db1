//! The coordinator's records as the wire shows them.

use windlass_proto::id::{AppName, Environment, HostName};
use windlass_proto::phase::{Fault, Outcome, Phase};
use windlass_proto::rpc;
use windlass_proto::rpc::convert::phase_times_to_wire;
use windlass_proto::time::Timestamp;
use windlass_rollout::Rollout;
use windlass_rollout::plan::Level;
use windlass_rollout::way_back::Question;

use super::plan::Made;
use crate::fleet::record::{BundleRecord, EventRecord, GrantRecord, TokenRecord};
use crate::fleet::{Fleet, Host};

/// A host.
pub fn host(fleet: &Fleet, host: &Host) -> rpc::Host {
    let record = &host.record;
    let apps = host.statuses.values().map(|status| status.clone().into());
    rpc::Host {
        name: record.name.to_string(),
        id: record.id.to_string(),
        address: record.address.clone(),
        state: host.state(fleet.now, None).word().to_owned(),
        labels: record.labels.clone(),
        agent_version: record.agent_version.clone(),
        last_seen_ms: host.last_seen().unwrap_or_default().0,
        apps: apps.collect(),
        facts: record.facts.as_ref().map(|facts| rpc::Facts {
            cpus: facts.cpus,
            memory_bytes: facts.memory_bytes,
            disk_free_bytes: facts.disk_free_bytes,
            kernel: facts.kernel.clone(),
            os: facts.os.clone(),
            problems: facts.problems.clone(),
        }),
        enrolled_at_ms: record.enrolled_at.0,
        environments: record.environments.iter().map(|(app, of)| (app.to_string(), of.to_string())).collect(),
        foreign: record.foreign.as_ref().map(|foreign| foreign.words(fleet.fence())).unwrap_or_default(),
    }
}

/// A token, without its secret.
pub fn token(token: &TokenRecord, now: Timestamp) -> rpc::Token {
    rpc::Token {
        id: token.id.clone(),
        join: String::new(),
        labels: token.labels.clone(),
        host: token.host.as_ref().map(ToString::to_string).unwrap_or_default(),
        expires_at_ms: token.expires_at.0,
        created_by: token.created_by.clone(),
        state: token.state(now).word().to_owned(),
        used_by: token.used.as_ref().map(|used| used.name.to_string()).unwrap_or_default(),
    }
}

/// A bundle.
pub fn bundle(bundle: &BundleRecord, accepted: bool) -> rpc::BundleInfo {
    rpc::BundleInfo {
        release: Some((&bundle.release).into()),
        files: bundle.files,
        bytes: bundle.bytes,
        chunks: bundle.chunks,
        stored_bytes: bundle.stored_bytes,
        key_ids: bundle.key_ids.clone(),
        pushed_at_ms: bundle.pushed_at.0,
        pushed_by: bundle.pushed_by.clone(),
        accepted,
    }
}

/// A grant.
pub fn grant(record: &GrantRecord) -> rpc::GrantInfo {
    rpc::GrantInfo {
        release: Some((&record.release).into()),
        up_to: record.grant.up_to,
        until_ms: record.grant.until.0,
        key_ids: record.key_ids.clone(),
    }
}

/// An event.
pub fn event(event: &EventRecord) -> rpc::Event {
    rpc::Event {
        seq: event.seq,
        at_ms: event.at.0,
        kind: event.kind.clone(),
        who: event.who.clone(),
        app: event.app.clone(),
        host: event.host.clone(),
        rollout: event.rollout.clone(),
        message: event.message.clone(),
    }
}

/// A plan.
pub fn plan(made: Made) -> rpc::Plan {
    let Made { plan, grant, difference } = made;
    let batches = plan.batches.iter().zip(1..).map(|(hosts, index)| rpc::Batch {
        index,
        hosts: names(hosts),
        state: "waiting".to_owned(),
    });
    let checks = plan.checks.iter().map(|check| rpc::Check {
        id: check.id.to_owned(),
        level: check.level.word().to_owned(),
        message: check.message.clone(),
    });
    rpc::Plan {
        app: plan.order.app.to_string(),
        environment: plan.order.environment.to_string(),
        from: plan.order.from.as_ref().map(Into::into),
        to: Some((&plan.order.to).into()),
        revision: plan.order.revision,
        batches: batches.collect(),
        checks: checks.collect(),
        estimate_seconds: plan.estimate_seconds,
        rollback_seconds: plan.rollback_seconds,
        bytes_to_send: plan.bytes_to_send,
        unchanged: names(&plan.unchanged),
        candidates: Vec::new(),
        grant,
        difference,
    }
}

/// What `plan` says of a rollback that has to name its target.
pub fn undecided(app: &AppName, environment: &Environment, question: &Question) -> rpc::Plan {
    let candidates = question.candidates.iter().map(|candidate| rpc::Candidate {
        release: Some((&candidate.release).into()),
        hosts: candidate.hosts,
        about: candidate.to_string(),
    });
    rpc::Plan {
        app: app.to_string(),
        environment: environment.to_string(),
        checks: vec![rpc::Check {
            id: "undecided".to_owned(),
            level: Level::Error.word().to_owned(),
            message: question.to_string(),
        }],
        candidates: candidates.collect(),
        ..rpc::Plan::default()
    }
}

/// A rollout.
pub fn rollout(rollout: &Rollout) -> rpc::Rollout {
    let view = rollout.view();
    let batches = view.batches.into_iter().map(|batch| rpc::Batch {
        index: batch.index,
        hosts: names(&batch.hosts),
        state: batch.state.to_owned(),
    });
    let hosts = view.hosts.into_iter().map(|host| rpc::HostProgress {
        host: host.host.to_string(),
        phase: Phase::to_wire(Some(host.phase)),
        outcome: Outcome::to_wire(host.outcome),
        fault: Fault::to_wire(host.fault),
        reason: host.reason,
        drained: host.drained.map(Into::into),
        phase_times: phase_times_to_wire(&host.phase_times),
        detail: host.detail,
        hooks: host.hooks.into_iter().map(Into::into).collect(),
    });
    rpc::Rollout {
        id: view.id.to_string(),
        app: view.app.to_string(),
        environment: view.environment.to_string(),
        revision: view.revision,
        from: view.from.map(Into::into),
        to: Some(view.to.into()),
        state: view.state.to_owned(),
        conditions: view.conditions.into_iter().map(str::to_owned).collect(),
        reason: view.reason,
        started_at_ms: view.started_at.0,
        ended_at_ms: view.ended_at.unwrap_or_default().0,
        batches: batches.collect(),
        hosts: hosts.collect(),
        waiting_for: view.waiting_for,
        started_by: view.started_by,
        kind: view.kind.word().to_owned(),
        failure: view.failure,
        version: view.version,
        availability: availability(rollout),
        trace: rollout.trace.map(|trace| format!("{:032x}", trace.trace())).unwrap_or_default(),
    }
}

fn availability(rollout: &Rollout) -> Option<rpc::Availability> {
    let (spec, ledger) = (rollout.spec.availability.as_ref()?, rollout.availability.as_ref()?);
    let steps = ledger.steps.iter().map(|seen| rpc::StepAvailability {
        step: seen.step.clone(),
        sent: seen.sent,
        failed: seen.failed,
        longest_gap_ms: seen.longest_gap.0,
    });
    Some(rpc::Availability { url: spec.url.to_string(), steps: steps.collect() })
}

fn names(hosts: &[HostName]) -> Vec<String> {
    hosts.iter().map(ToString::to_string).collect()
}
