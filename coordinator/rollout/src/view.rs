//! A rollout as people and scripts see it: the fields of CLI.md's kind `Rollout`.

use std::collections::{BTreeMap, BTreeSet};

use windlass_proto::id::{AppName, Environment, HostName, RolloutId};
use windlass_proto::phase::{Drained, Fault, HookRun, Outcome, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::Timestamp;

use crate::budget::max_unavailable;
use crate::check::{hosts_word, names};
use crate::state::{BatchStep, Condition, Host, Kind, Part, Rollout, State, Way};

/// A rollout to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its id.
    pub id: RolloutId,
    /// The app.
    pub app: AppName,
    /// The environment of the app.
    pub environment: Environment,
    /// Revision that it makes.
    pub revision: u64,
    /// What the fleet had before.
    pub from: Option<ReleaseRef>,
    /// The target.
    pub to: ReleaseRef,
    /// Word of DESIGN 6.
    pub state: &'static str,
    /// Why it does not go on.
    pub conditions: Vec<&'static str>,
    /// The operator's reason.
    pub reason: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// In the order of change.
    pub batches: Vec<BatchView>,
    /// All hosts, in the order of change; then unchanged and excused ones.
    pub hosts: Vec<HostView>,
    /// In words; empty when it does not wait.
    pub waiting_for: String,
    /// Who started it.
    pub started_by: String,
    /// What was asked for.
    pub kind: Kind,
    /// Why it failed; empty otherwise.
    pub failure: String,
    /// Rises with each change.
    pub version: u64,
}

/// One batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    /// From 1.
    pub index: u32,
    /// Its hosts.
    pub hosts: Vec<HostName>,
    /// `waiting`, `running`, `done` or `failed`.
    pub state: &'static str,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// Its name.
    pub host: HostName,
    /// Where it is.
    pub phase: Phase,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Whose fault a failure is.
    pub fault: Option<Fault>,
    /// Why.
    pub reason: String,
    /// What the drain saw.
    pub drained: Option<Drained>,
    /// Milliseconds in each phase.
    pub phase_times: BTreeMap<Phase, u64>,
    /// What it does right now.
    pub detail: String,
    /// What its hooks did.
    pub hooks: Vec<HookRun>,
}

impl Rollout {
    /// The rollout as it is shown.
    pub fn view(&self) -> View {
        let changing: BTreeSet<_> = self.batches.iter().flatten().collect();
        let others = self.hosts.iter().filter(|(name, host)| host.unchanged || !changing.contains(name));
        let others = others.map(|(name, _)| name);
        let hosts = self.batches.iter().flatten().chain(others);
        let hosts = hosts.filter_map(|name| Some((name, self.hosts.get(name)?)));
        View {
            id: self.id.clone(),
            app: self.app.clone(),
            environment: self.environment.clone(),
            revision: self.revision,
            from: self.from.clone(),
            to: self.to.clone(),
            state: self.state.word(),
            conditions: self.conditions.iter().map(|condition| condition.word()).collect(),
            reason: self.reason.clone(),
            started_at: self.started_at,
            ended_at: self.ended_at,
            batches: (0..self.batches.len()).map(|index| self.batch_view(index)).collect(),
            hosts: hosts.map(|(name, host)| host_view(name, host)).collect(),
            waiting_for: waiting_for(self),
            started_by: self.started_by.clone(),
            kind: self.kind,
            failure: self.failure.clone(),
            version: self.version,
        }
    }

    fn batch_view(&self, index: usize) -> BatchView {
        let names = &self.batches[index];
        let hosts = || names.iter().filter_map(|name| self.hosts.get(name));
        let failed = hosts().any(Host::has_failed);
        let passed = match self.state {
            State::Progressing { batch, step } => {
                index < batch || (index == batch && matches!(step, BatchStep::Baking { .. }))
            }
            State::Promoting | State::Succeeded => true,
            _ => hosts().all(Host::is_through) && hosts().any(|host| host.way == Way::Forward),
        };
        let touched = hosts().any(|host| host.touched);
        let running = matches!(self.state, State::Progressing { batch, .. } if batch == index) || touched;
        let state = match (failed, passed, running) {
            (true, ..) => "failed",
            (_, true, _) => "done",
            (_, _, true) if self.ended() => "failed",
            (_, _, true) => "running",
            _ => "waiting",
        };
        BatchView { index: crate::batches::count(index) + 1, hosts: names.clone(), state }
    }
}

fn host_view(name: &HostName, host: &Host) -> HostView {
    let released = host.part == Part::Released;
    let (fault, reason) = host.told();
    let skipped = host.outcome == Some(Outcome::Skipped);
    let detail = match (released, host.silent_since.is_some()) {
        (_, true) => "silent".into(),
        (true, _) => "not touched".into(),
        _ => host.detail.clone(),
    };
    HostView {
        host: name.clone(),
        phase: if released || skipped { Phase::Idle } else { host.phase },
        outcome: host.outcome,
        fault: fault.filter(|_| host.has_failed() || host.outcome.is_some_and(|o| o != Outcome::Confirmed)),
        reason,
        drained: host.drained,
        phase_times: host.phase_times.clone(),
        detail,
        hooks: host.hooks.clone(),
    }
}

/// What the rollout waits for, in words; empty when it does not wait.
pub(crate) fn waiting_for(r: &Rollout) -> String {
    let listed = |keep: &dyn Fn(&Host) -> bool| -> Vec<&HostName> {
        r.hosts.iter().filter(|(_, host)| keep(host)).map(|(name, _)| name).collect()
    };
    let doing = |keep: &dyn Fn(&Host) -> bool| -> String {
        let all = listed(keep);
        let shown = all.iter().take(3).map(|name| {
            let host = &r.hosts[*name];
            let down = host.outcome == Some(Outcome::Confirmed) && !host.is_on(r.target_of(host));
            let what = match (host.silent_since.is_some(), down) {
                (true, _) => "silent",
                (_, true) => "confirmed, but not running it",
                _ => host.phase.word(),
            };
            let detail = if host.detail.is_empty() { String::new() } else { format!(": {}", host.detail) };
            format!("{name} ({what}{detail})")
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        if all.len() > 3 { format!("{shown} and {} more", all.len() - 3) } else { shown }
    };
    let budget = || format!("max_unavailable is {}", hosts_word(max_unavailable(&r.spec, r.total())));
    if r.ended() {
        return String::new();
    }
    if r.conditions.contains(&Condition::Manual) {
        return format!("a person: {}; `windlass rollout resume {}` or abort", r.paused, r.id);
    }
    if r.conditions.contains(&Condition::Recovery) {
        let missing = listed(&|host| !host.reported && !host.gone && host.silent_since.is_none());
        return format!("reports of {} after the coordinator's restart", names(missing));
    }
    if r.conditions.contains(&Condition::LostHosts) {
        let silent = listed(&|host| {
            !host.gone && (host.silent_since.is_some() || host.outcome == Some(Outcome::Lost))
        });
        return format!(
            "{}, which {} not heard of; {}",
            names(silent.iter().copied()),
            are(silent.len()),
            budget()
        );
    }
    if r.conditions.contains(&Condition::Budget) {
        let down = listed(&|host| r.is_down(host));
        if !down.is_empty() {
            return format!("hosts to come back ({}); {}", names(down), budget());
        }
        let idle = listed(&|host| host.is_member() && !r.serves(host));
        let only = names(r.serving());
        return match idle.is_empty() {
            true => format!("another host to serve beside {only}"),
            false => format!("another host to serve beside {only}; nothing runs on {}", names(idle)),
        };
    }
    match r.state {
        State::Validating => "its start".into(),
        State::Preparing => {
            let staging = |host: &Host| host.part == Part::Stage && host.phase != Phase::Staged;
            let text = doing(&staging);
            if text.is_empty() { text } else { format!("{text} to stage {}", r.to.version) }
        }
        State::Progressing { batch, step: BatchStep::Baking { .. } } => {
            format!("pause_between {} after batch {}", r.spec.strategy.pause_between, batch + 1)
        }
        State::Progressing { batch, step: BatchStep::Deploying } => {
            let own = r.batches[..=batch].iter().flatten().filter_map(|name| Some(&r.hosts.get(name)?.op));
            let own: BTreeSet<_> = own.collect();
            let in_batch = |host: &Host| own.contains(&host.op);
            let down = |host: &Host| host.outcome == Some(Outcome::Confirmed) && !host.is_on(&r.to);
            let flying = doing(&|host| host.in_flight());
            if flying.is_empty() {
                doing(&|host| in_batch(host) && (host.part == Part::Stage || down(host)))
            } else {
                flying
            }
        }
        State::Promoting => doing(&|host| host.outcome == Some(Outcome::Confirmed) && !host.is_on(&r.to)),
        _ => doing(&|host| {
            host.in_flight() || host.way == Way::Back && (host.part == Part::Stage || host.outcome.is_none())
        }),
    }
}

const fn are(hosts: usize) -> &'static str {
    if hosts == 1 { "is" } else { "are" }
}
