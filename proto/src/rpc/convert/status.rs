//! What a host says of an app.

use std::collections::BTreeMap;

use super::{InvalidField, optional, parsed};
use crate::grant::Past;
use crate::limits::PAST_RELEASES;
use crate::phase::{AppStatus, Attestation, Drained, Evidence, Fault, HookName, HookRun, Outcome, Phase};
use crate::release::ReleaseRef;
use crate::rpc;
use crate::time::Timestamp;

impl From<Drained> for rpc::Drained {
    fn from(drained: Drained) -> Self {
        Self { in_flight: drained.in_flight, closed: drained.closed, cut: drained.cut }
    }
}

impl From<rpc::Drained> for Drained {
    fn from(wire: rpc::Drained) -> Self {
        Self { in_flight: wire.in_flight, closed: wire.closed, cut: wire.cut }
    }
}

impl From<Attestation> for rpc::Attestation {
    fn from(attested: Attestation) -> Self {
        Self {
            ok: attested.ok,
            exe: attested.exe,
            pid: attested.pid,
            started_at_ms: attested.started_at.unwrap_or_default().0,
            link: attested.link,
            digest: attested.digest.map(|digest| digest.to_string()).unwrap_or_default(),
        }
    }
}

impl TryFrom<rpc::Attestation> for Attestation {
    type Error = InvalidField;
    fn try_from(wire: rpc::Attestation) -> Result<Self, InvalidField> {
        Ok(Self {
            ok: wire.ok,
            exe: wire.exe,
            pid: wire.pid,
            started_at: (wire.started_at_ms != 0).then_some(Timestamp(wire.started_at_ms)),
            link: wire.link,
            digest: optional("digest", &wire.digest)?,
        })
    }
}

impl From<Evidence> for rpc::Evidence {
    fn from(evidence: Evidence) -> Self {
        Self { kind: evidence.kind, at_ms: evidence.at.0, text: evidence.text }
    }
}

impl From<rpc::Evidence> for Evidence {
    fn from(wire: rpc::Evidence) -> Self {
        Self { kind: wire.kind, at: Timestamp(wire.at_ms), text: wire.text }
    }
}

impl From<HookRun> for rpc::HookRun {
    fn from(run: HookRun) -> Self {
        Self {
            hook: run.hook.to_string(),
            version: run.version.to_string(),
            command: run.command,
            at_ms: run.at.0,
            runs: run.runs,
            took_ms: run.took,
            exit: run.exit,
            end: run.end,
            output: run.output,
        }
    }
}

impl TryFrom<rpc::HookRun> for HookRun {
    type Error = InvalidField;
    fn try_from(wire: rpc::HookRun) -> Result<Self, InvalidField> {
        let named = HookName::ALL.iter().find(|name| name.word() == wire.hook);
        Ok(Self {
            hook: *named.ok_or_else(|| InvalidField::new("hook", format!("unknown hook {:?}", wire.hook)))?,
            version: parsed("version", &wire.version)?,
            command: wire.command,
            at: Timestamp(wire.at_ms),
            took: wire.took_ms,
            runs: wire.runs,
            exit: wire.exit,
            end: wire.end,
            output: wire.output,
        })
    }
}

impl From<Past> for rpc::Past {
    fn from(past: Past) -> Self {
        Self { seen: past.seen, confirmed: past.confirmed.iter().map(ToString::to_string).collect() }
    }
}

impl TryFrom<rpc::Past> for Past {
    type Error = InvalidField;
    fn try_from(wire: rpc::Past) -> Result<Self, InvalidField> {
        let confirmed = wire.confirmed.iter().take(PAST_RELEASES).map(|text| parsed("confirmed", text));
        Ok(Self { seen: wire.seen, confirmed: confirmed.collect::<Result<_, _>>()? })
    }
}

/// Phase times as the wire carries them.
pub fn phase_times_to_wire(times: &BTreeMap<Phase, u64>) -> Vec<rpc::PhaseTime> {
    let item = |(phase, ms): (&Phase, &u64)| rpc::PhaseTime {
        phase: Phase::to_wire(Some(*phase)),
        milliseconds: *ms,
    };
    times.iter().map(item).collect()
}

/// Phase times from the wire.
pub fn phase_times_from_wire(wire: &[rpc::PhaseTime]) -> Result<BTreeMap<Phase, u64>, InvalidField> {
    let item = |time: &rpc::PhaseTime| Ok((required_phase(time.phase)?, time.milliseconds));
    wire.iter().map(item).collect::<Result<_, InvalidField>>().map_err(|e| e.within("phase_times"))
}

fn required_phase(number: i32) -> Result<Phase, InvalidField> {
    Phase::from_wire(number)?.ok_or_else(|| InvalidField::new("phase", "it is missing"))
}

fn release(field: &str, wire: Option<rpc::ReleaseRef>) -> Result<Option<ReleaseRef>, InvalidField> {
    wire.map(ReleaseRef::try_from).transpose().map_err(|error| error.within(field))
}

impl From<AppStatus> for rpc::AppStatus {
    fn from(status: AppStatus) -> Self {
        Self {
            app: status.app.to_string(),
            seq: status.seq,
            op_id: status.op.map(|id| id.to_string()).unwrap_or_default(),
            rollout_id: status.rollout.map(|id| id.to_string()).unwrap_or_default(),
            epoch: status.epoch,
            phase: Phase::to_wire(Some(status.phase)),
            outcome: Outcome::to_wire(status.outcome),
            fault: Fault::to_wire(status.fault),
            reason: status.reason,
            current: status.current.map(Into::into),
            confirmed: status.confirmed.map(Into::into),
            target: status.target.map(Into::into),
            attested: Some(status.attested.into()),
            drained: status.drained.map(Into::into),
            phase_times: phase_times_to_wire(&status.phase_times),
            since_ms: status.since.0,
            evidence: status.evidence.into_iter().map(Into::into).collect(),
            held: status.held.iter().map(ToString::to_string).collect(),
            detail: status.detail,
            hooks: status.hooks.into_iter().map(Into::into).collect(),
            past: status.past.map(Into::into),
        }
    }
}

impl TryFrom<rpc::AppStatus> for AppStatus {
    type Error = InvalidField;
    fn try_from(wire: rpc::AppStatus) -> Result<Self, InvalidField> {
        let hooks = wire.hooks.into_iter().map(HookRun::try_from).collect::<Result<_, _>>();
        let attested = wire.attested.map(Attestation::try_from).transpose();
        let past = wire.past.map(Past::try_from).transpose();
        Ok(Self {
            app: parsed("app", &wire.app)?,
            seq: wire.seq,
            op: optional("op_id", &wire.op_id)?,
            rollout: optional("rollout_id", &wire.rollout_id)?,
            epoch: wire.epoch,
            phase: required_phase(wire.phase)?,
            outcome: Outcome::from_wire(wire.outcome)?,
            fault: Fault::from_wire(wire.fault)?,
            reason: wire.reason,
            current: release("current", wire.current)?,
            confirmed: release("confirmed", wire.confirmed)?,
            target: release("target", wire.target)?,
            attested: attested.map_err(|error| error.within("attested"))?.unwrap_or_default(),
            drained: wire.drained.map(Into::into),
            phase_times: phase_times_from_wire(&wire.phase_times)?,
            since: Timestamp(wire.since_ms),
            evidence: wire.evidence.into_iter().map(Into::into).collect(),
            held: wire.held.iter().map(|text| parsed("held", text)).collect::<Result<_, _>>()?,
            detail: wire.detail,
            hooks: hooks.map_err(|error| error.within("hooks"))?,
            past: past.map_err(|error| error.within("past"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn full() -> AppStatus {
        let release = |n: u8| ReleaseRef {
            app: "shop".parse().unwrap(),
            version: format!("1.{n}").parse().unwrap(),
            digest: Digest::from_bytes([n; 32]),
            counter: n.into(),
        };
        AppStatus {
            app: "shop".parse().unwrap(),
            seq: 7,
            op: Some("op-1".parse().unwrap()),
            rollout: Some("r-1".parse().unwrap()),
            epoch: 3,
            phase: Phase::Reverted,
            outcome: Some(Outcome::Reverted),
            fault: Some(Fault::App),
            reason: "readiness failed".into(),
            current: Some(release(1)),
            confirmed: Some(release(1)),
            target: Some(release(2)),
            attested: Attestation {
                ok: true,
                exe: "/x/bin/shop".into(),
                pid: 12,
                started_at: Some(Timestamp(99)),
                link: "/x".into(),
                digest: Some(Digest::from_bytes([1; 32])),
            },
            drained: Some(Drained { in_flight: 3, closed: 2, cut: 1 }),
            phase_times: BTreeMap::from([(Phase::Staging, 10), (Phase::Draining, 20)]),
            since: Timestamp(1234),
            evidence: vec![Evidence { kind: "log".into(), at: Timestamp(5), text: "boom".into() }],
            held: vec![Digest::from_bytes([1; 32])],
            detail: "idle".into(),
            hooks: vec![HookRun {
                hook: HookName::AfterInstall,
                version: "1.2".parse().unwrap(),
                command: "bin/prepare".into(),
                at: Timestamp(7),
                took: Some(12),
                runs: 2,
                exit: Some(3),
                end: "exit code 3".into(),
                output: "no".into(),
            }],
            past: Some(Past { seen: 9, confirmed: vec![Digest::from_bytes([1; 32])] }),
        }
    }

    #[test]
    fn a_status_round_trips() {
        let status = full();
        assert_eq!(AppStatus::try_from(rpc::AppStatus::from(status.clone())), Ok(status));
    }

    #[test]
    fn errors_name_the_field() {
        let wire = || rpc::AppStatus::from(full());
        let broken: [(&str, rpc::AppStatus); 8] = [
            ("app", rpc::AppStatus { app: "../x".into(), ..wire() }),
            ("phase", rpc::AppStatus { phase: 0, ..wire() }),
            ("op_id", rpc::AppStatus { op_id: "A B".into(), ..wire() }),
            (
                "hooks.hook",
                rpc::AppStatus {
                    hooks: vec![rpc::HookRun { hook: "x".into(), ..wire().hooks.remove(0) }],
                    ..wire()
                },
            ),
            ("held", rpc::AppStatus { held: vec!["x".into()], ..wire() }),
            (
                "past.confirmed",
                rpc::AppStatus { past: Some(rpc::Past { seen: 1, confirmed: vec!["x".into()] }), ..wire() },
            ),
            (
                "target.digest",
                rpc::AppStatus {
                    target: Some(rpc::ReleaseRef { digest: "x".into(), ..full().target.unwrap().into() }),
                    ..wire()
                },
            ),
            (
                "attested.digest",
                rpc::AppStatus {
                    attested: Some(rpc::Attestation { digest: "x".into(), ..full().attested.into() }),
                    ..wire()
                },
            ),
        ];
        for (field, wire) in broken {
            assert_eq!(AppStatus::try_from(wire).unwrap_err().field, field);
        }
    }
}
