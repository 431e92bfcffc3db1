//! From a plan to a rollout.

use std::collections::{BTreeMap, BTreeSet};

use windlass_proto::id::{HostName, OpId, RolloutId};
use windlass_proto::phase::{Outcome, Phase};
use windlass_proto::time::Timestamp;
use windlass_proto::trace::TraceParent;

use crate::plan::Plan;
use crate::state::{Host, Part, Rollout, State, Way};

/// Longest id that the contract allows.
const ID_LENGTH: usize = 63;

/// Who orders a rollout, and when.
#[derive(Debug, Clone)]
pub struct Start {
    /// The new rollout's id.
    pub id: RolloutId,
    /// Who started it.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// Epoch of the coordinator.
    pub epoch: u64,
    /// Under what its own span lies.
    pub trace: Option<TraceParent>,
}

impl Rollout {
    /// The rollout that a plan describes, in state `Validating`. To be stored, then given [`crate::Event::Start`].
    pub fn new(plan: &Plan, start: Start, now: Timestamp) -> Self {
        let order = &plan.order;
        let changing = plan.batches.iter().flatten().map(|name| (name, Part::Stage));
        let settled = plan.unchanged.iter().chain(plan.excused.keys()).map(|name| (name, Part::Settled));
        let hosts = changing
            .chain(settled)
            .map(|(name, part)| {
                let mut host = Host::new(&start.id, name, part);
                host.domain = plan.domains.get(name).cloned().unwrap_or_default();
                host.former = plan.former.get(name).cloned();
                host.silent_since = plan.silent.contains(name).then_some(now);
                if let Some(excuse) = plan.excused.get(name) {
                    (host.outcome, host.gone) = (Some(Outcome::Skipped), true);
                    host.reason.clone_from(excuse);
                } else if part == Part::Settled {
                    (host.outcome, host.phase, host.unchanged) =
                        (Some(Outcome::Confirmed), Phase::Confirmed, true);
                    host.attested = Some(order.to.digest);
                }
                (name.clone(), host)
            })
            .collect::<BTreeMap<_, _>>();
        Self {
            id: start.id,
            app: order.app.clone(),
            environment: order.environment.clone(),
            revision: order.revision,
            kind: order.kind,
            rollback: order.leads_back(),
            from: order.from.clone(),
            to: order.to.clone(),
            spec: order.spec.clone(),
            started_by: start.by,
            reason: start.reason,
            started_at: now,
            trace: start.trace,
            ended_at: None,
            epoch: start.epoch,
            state: State::Validating,
            conditions: BTreeSet::new(),
            paused: String::new(),
            failure: String::new(),
            aborted_by: None,
            accepted: 0,
            last_host: plan.last_host.is_some(),
            leaving: plan.leaving,
            batches: plan.batches.clone(),
            hosts,
            progress_since: now,
            paused_since: None,
            recovery_until: None,
            back_until: None,
            first_end: None,
            availability: plan.order.spec.availability.as_ref().map(|_| Default::default()),
            version: 1,
        }
    }
}

impl Host {
    fn new(rollout: &RolloutId, name: &HostName, part: Part) -> Self {
        Self {
            domain: String::new(),
            former: None,
            unchanged: false,
            op: op_id(rollout, name, Way::Forward, 1),
            attempt: 1,
            not_before: None,
            way: Way::Forward,
            part,
            heard_op: None,
            seq: 0,
            phase: Phase::Idle,
            outcome: None,
            fault: None,
            reason: String::new(),
            causes: Vec::new(),
            detail: String::new(),
            drained: None,
            phase_times: BTreeMap::new(),
            hooks: Vec::new(),
            permit_at: None,
            touched: false,
            attested: None,
            elsewhere: false,
            silent_since: None,
            gone: false,
            reported: true,
            aborted: false,
            overdue: false,
            sent: None,
        }
    }

    /// Begins an operation of its own: forward again, or back.
    pub(crate) fn begin(&mut self, rollout: &RolloutId, name: &HostName, way: Way, attempt: u32) {
        self.op = op_id(rollout, name, way, attempt);
        (self.way, self.attempt, self.part) = (way, attempt, Part::Stage);
        (self.phase, self.outcome, self.permit_at) = (Phase::Idle, None, None);
        (self.sent, self.not_before) = (None, None);
        (self.drained, self.overdue, self.aborted) = (None, false, false);
        self.phase_times.clear();
        self.detail.clear();
        self.hooks.clear();
    }
}

/// The id of a host's operation: the same for the same rollout, host, way and attempt. Ids that would be too long end
/// in a hash of what was cut.
pub fn op_id(rollout: &RolloutId, host: &HostName, way: Way, attempt: u32) -> OpId {
    let way = if way == Way::Back { "-back" } else { "" };
    let attempt = if attempt > 1 { format!("-{attempt}") } else { String::new() };
    let text = format!("{rollout}-{host}{way}{attempt}");
    if let Ok(id) = OpId::new(text.as_str()) {
        return id;
    }
    let kept = &text[..ID_LENGTH - 17];

    #[expect(
        clippy::expect_used,
        reason = "rollout ids and host names are made of the same characters as operation ids"
    )]
    OpId::new(format!("{kept}-{:016x}", fnv(text.as_bytes()))).expect("a shortened name is a name")
}

/// FNV-1a: enough to keep apart the hosts of one rollout.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
