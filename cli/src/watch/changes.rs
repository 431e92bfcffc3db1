//! What changed from one state of a rollout to the next, as lines: pure.

use windlass_proto::rpc::{HookRun, HostProgress, Rollout};

use super::summary::title;
use crate::output::{json, text};

/// Last lines of a hook's output that are shown.
const HOOK_LINES: usize = 5;

/// One line per change; the first state gives the start. Each begins with what it is about: `start`, `state`, `batch`,
/// `host`, `wait`.
pub fn lines(old: Option<&Rollout>, new: &Rollout) -> Vec<String> {
    let mut lines = Vec::new();
    if old.is_none() {
        let hosts: usize = new.batches.iter().map(|b| b.hosts.len()).sum();
        let batches =
            if new.batches.len() == 1 { "1 batch".into() } else { format!("{} batches", new.batches.len()) };
        lines.push(format!(
            "start   {}  revision {}, {} in {batches}, {}",
            title(new),
            new.revision,
            text::count(hosts, "host"),
            new.state
        ));
    }
    for host in &new.hosts {
        let before = old.and_then(|o| o.hosts.iter().find(|h| h.host == host.host));
        if let Some(line) = host_line(before, host) {
            lines.push(format!("host    {}{line}{}", host.host, batch_of(new, &host.host)));
        }
    }
    for host in &new.hosts {
        let before = old.and_then(|o| o.hosts.iter().find(|h| h.host == host.host));
        lines.extend(hook_lines(before, host));
    }
    for batch in &new.batches {
        let before = old.and_then(|o| o.batches.iter().find(|b| b.index == batch.index));
        let state = before.map_or("waiting", |b| b.state.as_str());
        if state != batch.state {
            lines.push(format!("batch   {} of {} {}", batch.index, new.batches.len(), batch.state));
        }
    }
    let empty = Vec::new();
    for condition in &new.conditions {
        if !old.is_some_and(|o| o.conditions.contains(condition)) {
            lines.push(format!("paused  {condition}{}", waiting(new)));
        }
    }
    for condition in old.map_or(&empty, |o| &o.conditions) {
        if !new.conditions.contains(condition) {
            lines.push(format!("go on   {condition} is over"));
        }
    }
    if let Some(old) = old.filter(|old| old.state != new.state) {
        lines.push(format!("state   {} -> {}", old.state, new.state));
    }
    lines
}

fn waiting(rollout: &Rollout) -> String {
    if rollout.waiting_for.is_empty() {
        String::new()
    } else {
        format!(": waits for {}", rollout.waiting_for)
    }
}

fn batch_of(rollout: &Rollout, host: &str) -> String {
    let batch = rollout.batches.iter().find(|b| b.hosts.iter().any(|h| h == host));
    batch.map_or(String::new(), |b| format!("  (batch {})", b.index))
}

fn host_line(old: Option<&HostProgress>, new: &HostProgress) -> Option<String> {
    let outcome = json::outcome(new.outcome);
    if outcome.is_some() && old.is_none_or(|o| o.outcome != new.outcome) {
        let word = outcome.unwrap_or_default();
        let fault = json::fault(new.fault).map_or(String::new(), |f| format!(" ({f})"));
        let reason =
            if new.reason.is_empty() { String::new() } else { format!(": {}", first_line(&new.reason)) };
        return Some(format!(" {word}{fault}{reason}"));
    }
    // The coordinator's word for a host that it does not hear.
    let silent = |h: &HostProgress| h.detail == "silent";
    match old {
        Some(old) if silent(new) && !silent(old) => {
            return Some(format!(" silent while {}", json::phase(new.phase)));
        }
        Some(old) if silent(old) && !silent(new) => {
            return Some(format!(" heard again, {}", json::phase(new.phase)));
        }
        _ => {}
    }
    // A host that waits its turn has nothing to tell.
    let phase = json::phase(new.phase);
    let moved = old.is_some_and(|o| o.phase != new.phase) || (old.is_none() && phase != "idle");
    (moved && !matches!(phase, "idle" | "unknown")).then(|| {
        let detail =
            if new.detail.is_empty() { String::new() } else { format!(": {}", first_line(&new.detail)) };
        format!(" {phase}{detail}")
    })
}

/// A line for each hook that began, and for each that ended with the last of its output.
fn hook_lines(old: Option<&HostProgress>, new: &HostProgress) -> Vec<String> {
    let mut lines = Vec::new();
    for run in &new.hooks {
        let same = |known: &&HookRun| {
            (known.at_ms, &known.hook, &known.command) == (run.at_ms, &run.hook, &run.command)
        };
        let before = old.and_then(|o| o.hooks.iter().find(same));
        let about = format!("hook    {} {} of {}: {}", new.host, run.hook, run.version, run.command);
        match run.took_ms {
            None if before.is_none() => lines.push(format!("{about} began")),
            Some(took) if before.is_none_or(|b| b.took_ms.is_none()) => {
                let took = text::span(i64::try_from(took).unwrap_or(0));
                lines.push(format!("{about}: {} after {took}", run.end));
                let last: Vec<&str> = run.output.lines().rev().take(HOOK_LINES).collect();
                lines.extend(last.into_iter().rev().map(|line| format!("hook    {}   | {line}", new.host)));
            }
            _ => {}
        }
    }
    lines
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_proto::rpc::{Batch, Fault, Outcome, Phase, ReleaseRef};

    #[test]
    fn each_change_is_one_line() {
        let mut rollout = Rollout {
            id: "r-1".into(),
            app: "web".into(),
            to: Some(ReleaseRef { version: "2".into(), ..Default::default() }),
            state: "Preparing".into(),
            batches: vec![Batch { index: 1, hosts: vec!["a".into(), "b".into()], state: "waiting".into() }],
            hosts: vec![
                HostProgress { host: "a".into(), phase: Phase::Idle.into(), ..Default::default() },
                HostProgress { host: "b".into(), phase: Phase::Idle.into(), ..Default::default() },
            ],
            ..Default::default()
        };
        let mut told = lines(None, &rollout);
        let mut next = |change: &dyn Fn(&mut Rollout)| {
            let old = rollout.clone();
            change(&mut rollout);
            told.extend(lines(Some(&old), &rollout));
        };
        next(&|r| r.hosts[0].phase = Phase::Staged.into());
        next(&|r| {
            r.state = "Progressing".into();
            r.batches[0].state = "running".into();
            r.hosts[0].phase = Phase::Draining.into();
            r.hosts[0].detail = "2 connections".into();
        });
        next(&|r| r.hosts[0].detail = "silent".into());
        next(&|r| r.hosts[0].detail.clear());
        next(&|r| r.conditions = vec!["Recovery".into()]);
        next(&|r| r.conditions.clear());
        next(&|r| {
            r.hosts[0].phase = Phase::Reverted.into();
            r.hosts[0].outcome = Outcome::Reverted.into();
            r.hosts[0].fault = Fault::App.into();
            r.hosts[0].reason = "probe readiness failed\nmore".into();
            r.batches[0].state = "failed".into();
        });
        next(&|r| r.waiting_for = "b".into());
        insta::assert_snapshot!(told.join("\n"));
    }
}
