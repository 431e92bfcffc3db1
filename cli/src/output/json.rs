//! The JSON kinds of design/CLI.md. Members are never taken away within v1.

use serde_json::{Map, Value, json};
use windlass_proto::digest::Digest;
use windlass_proto::phase::{Fault, Outcome, Phase};
use windlass_proto::rpc;

use super::text::rfc3339;

/// Adds `apiVersion` and `kind` to an object.
pub fn wrap(kind: &str, value: Value) -> Value {
    let mut whole = Map::new();
    whole.insert("apiVersion".into(), "windlass/v1".into());
    whole.insert("kind".into(), kind.into());
    if let Value::Object(members) = value {
        whole.extend(members);
    }
    Value::Object(whole)
}

/// The word of a phase; a phase of a newer coordinator is `unknown`.
pub fn phase(number: i32) -> &'static str {
    Phase::from_wire(number).ok().flatten().map_or("unknown", Phase::word)
}

/// The word of an outcome; `None` while there is none.
pub fn outcome(number: i32) -> Option<&'static str> {
    Outcome::from_wire(number).ok().flatten().map(Outcome::word)
}

/// The word of a fault; `None` without one.
pub fn fault(number: i32) -> Option<&'static str> {
    Fault::from_wire(number).ok().flatten().map(Fault::word)
}

/// A release as others refer to it; null when there is none.
pub fn release(release: Option<&rpc::ReleaseRef>) -> Value {
    release.map_or(Value::Null, |r| json!({ "version": r.version, "digest": r.digest, "counter": r.counter }))
}

fn null_if_empty(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn drained(drained: Option<&rpc::Drained>) -> Value {
    let d = drained.copied().unwrap_or_default();
    json!({ "in_flight": d.in_flight, "closed": d.closed, "cut": d.cut })
}

fn phase_seconds(times: &[rpc::PhaseTime]) -> Value {
    let seconds = times.iter().map(|t| (phase(t.phase).to_owned(), json!(t.milliseconds as f64 / 1000.0)));
    Value::Object(seconds.collect())
}

fn batches(batches: &[rpc::Batch]) -> Value {
    batches.iter().map(|b| json!({ "index": b.index, "hosts": b.hosts, "state": b.state })).collect()
}

fn availability(seen: &rpc::Availability) -> Value {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let steps: Value = seen
        .steps
        .iter()
        .map(|step| {
            let gap = seconds(step.longest_gap_ms);
            json!({ "step": step.step, "sent": step.sent, "failed": step.failed, "longest_gap_seconds": gap })
        })
        .collect();
    let longest = seen.steps.iter().map(|step| step.longest_gap_ms).max().unwrap_or_default();
    json!({
        "url": seen.url,
        "sent": seen.steps.iter().map(|step| step.sent).sum::<u64>(),
        "failed": seen.steps.iter().map(|step| step.failed).sum::<u64>(),
        "longest_gap_seconds": seconds(longest),
        "steps": steps,
    })
}

/// A rollout.
pub fn rollout(r: &rpc::Rollout) -> Value {
    let hosts: Value = r
        .hosts
        .iter()
        .map(|h| {
            json!({
                "host": h.host,
                "phase": phase(h.phase),
                "outcome": outcome(h.outcome),
                "fault": fault(h.fault),
                "reason": h.reason,
                "detail": h.detail,
                "drained": drained(h.drained.as_ref()),
                "phase_seconds": phase_seconds(&h.phase_times),
                "hooks": h.hooks.iter().map(hook).collect::<Value>(),
            })
        })
        .collect();
    json!({
        "id": r.id,
        "app": r.app,
        "environment": r.environment,
        "revision": r.revision,
        "type": r.kind,
        "from": release(r.from.as_ref()),
        "to": release(r.to.as_ref()),
        "state": r.state,
        "conditions": r.conditions,
        "reason": r.reason,
        "failure": null_if_empty(&r.failure),
        "availability": r.availability.as_ref().map(availability),
        "trace": (!r.trace.is_empty()).then_some(&r.trace),
        "waiting_for": null_if_empty(&r.waiting_for),
        "started_by": r.started_by,
        "started_at": rfc3339(r.started_at_ms),
        "ended_at": rfc3339(r.ended_at_ms),
        "batches": batches(&r.batches),
        "hosts": hosts,
    })
}

fn hook(h: &rpc::HookRun) -> Value {
    json!({
        "name": h.hook,
        "version": h.version,
        "command": h.command,
        "at": rfc3339(h.at_ms),
        "runs": h.runs,
        "exit": h.exit,
        "end": null_if_empty(&h.end),
        "seconds": h.took_ms.map(|ms| ms as f64 / 1000.0),
        "output_tail": h.output,
    })
}

/// Several rollouts.
pub fn rollout_list(rollouts: &[rpc::Rollout]) -> Value {
    wrap("RolloutList", json!({ "rollouts": rollouts.iter().map(rollout).collect::<Value>() }))
}

/// A plan.
pub fn plan(p: &rpc::Plan) -> Value {
    let difference = p.difference.as_ref();
    let told = |value: &String| (!value.is_empty()).then(|| value.clone());
    let files = |count: Option<&rpc::FileCount>| {
        count.map(|count| json!({ "files": count.files, "bytes": count.bytes }))
    };
    let checks: Value =
        p.checks.iter().map(|c| json!({ "id": c.id, "level": c.level, "message": c.message })).collect();
    json!({
        "app": p.app,
        "environment": p.environment,
        "from": release(p.from.as_ref()),
        "to": release(p.to.as_ref()),
        "revision": p.revision,
        "batches": batches(&p.batches),
        "checks": checks,
        "estimate_seconds": p.estimate_seconds,
        "rollback_seconds": p.rollback_seconds,
        "bytes_to_send": p.bytes_to_send,
        "changes": difference.map_or(&[][..], |d| &d.changes).iter()
            .map(|c| json!({ "path": c.path, "from": told(&c.from), "to": told(&c.to) })).collect::<Value>(),
        "changes_left_out": difference.map_or(0, |d| d.left_out),
        "changes_unknown": difference.map(|d| d.unknown.as_str()).filter(|why| !why.is_empty()),
        "files_added": files(difference.and_then(|d| d.added.as_ref())),
        "files_removed": files(difference.and_then(|d| d.removed.as_ref())),
        "files_changed": files(difference.and_then(|d| d.changed.as_ref())),
        "unchanged": p.unchanged,
        "refusing": p.grant.as_ref().map(|terms| terms.hosts.as_slice()).unwrap_or_default(),
        "candidates": p.candidates.iter().map(|c| json!({ "release": release(c.release.as_ref()), "hosts": c.hosts })).collect::<Value>(),
    })
}

/// One row of `versions`: what is attested, not what was ordered.
pub fn version_row(row: &rpc::VersionRow) -> Value {
    let status = row.status.clone().unwrap_or_default();
    let attested = status.attested.clone().unwrap_or_default();
    let running = running(&status);
    json!({
        "host": row.host,
        "app": status.app,
        "environment": null_if_empty(&row.environment),
        "version": running.map(|r| r.version.as_str()),
        "digest": match (&running, attested.digest.as_str()) {
            (_, digest) if !digest.is_empty() => Value::from(digest),
            (Some(release), _) => Value::from(release.digest.as_str()),
            _ => Value::Null,
        },
        "outcome_phase": standing(&status),
        "outcome": outcome(status.outcome),
        "attested": attestation(&attested),
        "since": rfc3339(status.since_ms),
        "stale": row.stale,
        "confirmed": release(status.confirmed.as_ref()),
    })
}

/// Where the host stands with the app: its phase, but of a host that dropped an order untouched what it was before.
pub fn standing(status: &rpc::AppStatus) -> &'static str {
    let digest = |release: &Option<rpc::ReleaseRef>| release.as_ref().map(|r| r.digest.clone());
    let untouched = status.phase() == rpc::Phase::Idle && status.confirmed.is_some();
    if untouched && digest(&status.confirmed) == digest(&status.current) {
        return phase(rpc::Phase::Confirmed as i32);
    }
    phase(status.phase)
}

/// The release that provably runs: of those the host knows, the one whose digest is attested; without a process
/// (static, or stopped) what the link names.
pub fn running(status: &rpc::AppStatus) -> Option<&rpc::ReleaseRef> {
    let attested = status.attested.as_ref().map(|a| a.digest.as_str()).filter(|d| !d.is_empty());
    let known = [&status.current, &status.confirmed, &status.target];
    match attested {
        Some(digest) => known.into_iter().flatten().find(|r| r.digest == digest),
        None => status.current.as_ref(),
    }
}

fn attestation(a: &rpc::Attestation) -> Value {
    json!({
        "ok": a.ok,
        "exe": null_if_empty(&a.exe),
        "pid": (a.pid != 0).then_some(a.pid),
        "started_at": rfc3339(a.started_at_ms),
        "link": null_if_empty(&a.link),
        "digest": null_if_empty(&a.digest),
    })
}

/// The table of versions.
pub fn versions(rows: &[rpc::VersionRow]) -> Value {
    wrap("Versions", json!({ "rows": rows.iter().map(version_row).collect::<Value>() }))
}

/// A host.
pub fn host(h: &rpc::Host) -> Value {
    let facts = h.facts.clone().unwrap_or_default();
    let apps: Value = h
        .apps
        .iter()
        .map(|status| {
            json!({
                "app": status.app,
                "environment": h.environments.get(&status.app),
                "version": running(status).map(|r| r.version.as_str()),
                "digest": running(status).map(|r| r.digest.as_str()),
                "phase": phase(status.phase),
                "outcome": outcome(status.outcome),
                "fault": fault(status.fault),
                "reason": status.reason,
                "detail": status.detail,
                "confirmed": release(status.confirmed.as_ref()),
                "target": release(status.target.as_ref()),
                "attested": attestation(&status.attested.clone().unwrap_or_default()),
                "held": status.held,
                "since": rfc3339(status.since_ms),
            })
        })
        .collect();
    json!({
        "name": h.name,
        "id": h.id,
        "address": h.address,
        "state": h.state,
        "labels": h.labels.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect::<Map<_, _>>(),
        "agent_version": h.agent_version,
        "last_seen": rfc3339(h.last_seen_ms),
        "enrolled_at": rfc3339(h.enrolled_at_ms),
        "apps": apps,
        "foreign": null_if_empty(&h.foreign),
        "facts": {
            "cpus": facts.cpus,
            "memory_bytes": facts.memory_bytes,
            "disk_free_bytes": facts.disk_free_bytes,
            "kernel": facts.kernel,
            "os": facts.os,
            "problems": facts.problems,
        },
    })
}

/// Several hosts.
pub fn host_list(hosts: &[rpc::Host]) -> Value {
    wrap("HostList", json!({ "hosts": hosts.iter().map(host).collect::<Value>() }))
}

/// The cause of a failure.
pub fn why(w: &rpc::WhyResponse) -> Value {
    let evidence: Value = w
        .evidence
        .iter()
        .map(|e| json!({ "kind": e.kind, "at": rfc3339(e.at_ms), "text": e.text }))
        .collect();
    wrap(
        "Why",
        json!({
            "host": null_if_empty(&w.host),
            "rollout": null_if_empty(&w.rollout),
            "fault": fault(w.fault),
            "cause": w.cause,
            "evidence": evidence,
        }),
    )
}

/// A bundle that the coordinator holds.
pub fn bundle(b: &rpc::BundleInfo) -> Value {
    let release = b.release.clone().unwrap_or_default();
    json!({
        "app": release.app,
        "version": release.version,
        "digest": release.digest,
        "counter": release.counter,
        "files": b.files,
        "bytes": b.bytes,
        "chunks": b.chunks,
        "stored_bytes": b.stored_bytes,
        "key_ids": b.key_ids,
        "pushed_at": rfc3339(b.pushed_at_ms),
        "pushed_by": null_if_empty(&b.pushed_by),
        "accepted": b.accepted,
    })
}

/// Several bundles.
pub fn bundle_list(bundles: &[rpc::BundleInfo]) -> Value {
    wrap("BundleList", json!({ "bundles": bundles.iter().map(bundle).collect::<Value>() }))
}

/// An event.
pub fn event(e: &rpc::Event) -> Value {
    json!({
        "seq": e.seq,
        "at": rfc3339(e.at_ms),
        // `kind` says what the JSON object is; the event's own kind is its type.
        "type": e.kind,
        "who": null_if_empty(&e.who),
        "app": null_if_empty(&e.app),
        "host": null_if_empty(&e.host),
        "rollout": null_if_empty(&e.rollout),
        "message": e.message,
    })
}

/// An audit record.
pub fn audit_record(r: &rpc::AuditRecord) -> Value {
    let digest = |bytes: &[u8]| Digest::try_from(bytes).ok().map(|digest| digest.to_string());
    json!({
        "seq": r.seq,
        "at": rfc3339(r.at_ms),
        "who": r.who,
        "certificate": null_if_empty(&r.certificate),
        "address": r.address,
        "method": r.method,
        "about": r.about,
        "request": digest(&r.request),
        "outcome": r.outcome,
        "previous": digest(&r.previous),
        "digest": digest(&r.digest),
    })
}

/// A join token. `join` is there only when it was just made.
pub fn token(t: &rpc::Token) -> Value {
    json!({
        "id": t.id,
        "join": null_if_empty(&t.join),
        "labels": t.labels.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect::<Map<_, _>>(),
        "host": null_if_empty(&t.host),
        "expires_at": rfc3339(t.expires_at_ms),
        "created_by": null_if_empty(&t.created_by),
        "state": t.state,
        "used_by": null_if_empty(&t.used_by),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    /// Every member that design/CLI.md promises.
    fn has(value: &Value, promised: &str) {
        for name in promised.split_whitespace() {
            assert!(members(value).contains(&name), "{name} is missing from {value}");
        }
    }

    #[test]
    fn kinds_have_the_members_of_the_contract() {
        let release =
            rpc::ReleaseRef { app: "web".into(), version: "1".into(), digest: "b3:1".into(), counter: 1 };
        let wire = rpc::Rollout {
            from: Some(release.clone()),
            to: Some(release.clone()),
            batches: vec![rpc::Batch::default()],
            hosts: vec![rpc::HostProgress {
                phase: rpc::Phase::Trial.into(),
                fault: rpc::Fault::App.into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let value = wrap("Rollout", rollout(&wire));
        has(
            &value,
            "apiVersion kind id app environment revision from to state conditions reason started_at ended_at batches hosts",
        );
        has(&value["from"], "version digest");
        has(&value["batches"][0], "index hosts state");
        has(&value["hosts"][0], "host phase outcome fault reason drained phase_seconds");
        has(&value["hosts"][0]["drained"], "in_flight closed cut");
        assert_eq!(
            (&value["hosts"][0]["phase"], &value["hosts"][0]["outcome"]),
            (&json!("trial"), &Value::Null)
        );
        assert_eq!(value["hosts"][0]["fault"], "app");
        assert_eq!(value["ended_at"], Value::Null);

        let value =
            wrap("Plan", plan(&rpc::Plan { checks: vec![rpc::Check::default()], ..Default::default() }));
        has(
            &value,
            "app environment from to revision batches checks estimate_seconds rollback_seconds bytes_to_send",
        );
        has(&value["checks"][0], "id level message");

        let value =
            versions(&[rpc::VersionRow { status: Some(rpc::AppStatus::default()), ..Default::default() }]);
        has(&value["rows"][0], "host app environment version digest outcome_phase attested since");
        has(&value["rows"][0]["attested"], "ok exe pid started_at link");

        let apps = vec![rpc::AppStatus::default()];
        let value = host_list(&[rpc::Host { apps, ..Default::default() }]);
        has(&value["hosts"][0], "name id address state labels agent_version last_seen apps facts");
        has(&value["hosts"][0]["apps"][0], "app version phase");
        has(&value["hosts"][0]["facts"], "cpus memory_bytes disk_free_bytes kernel");

        let value = why(&rpc::WhyResponse { evidence: vec![rpc::Evidence::default()], ..Default::default() });
        has(&value, "host rollout fault cause evidence");
        has(&value["evidence"][0], "kind at text");
    }

    #[test]
    fn versions_show_what_runs_not_what_was_ordered() {
        let release = |version: &str, digest: &str| {
            Some(rpc::ReleaseRef { version: version.into(), digest: digest.into(), ..Default::default() })
        };
        let status = rpc::AppStatus {
            current: release("2", "b3:2"),
            confirmed: release("1", "b3:1"),
            target: release("2", "b3:2"),
            attested: Some(rpc::Attestation { digest: "b3:1".into(), ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(running(&status).unwrap().version, "1");
    }
}
