//! How a rollout ended, in words: pure.

use std::time::Duration;

use windlass_proto::rpc::{HostProgress, Phase, Rollout};

use super::seen;
use crate::error::ExpectedError;
use crate::exit::Exit;
use crate::output::{json, style, text};

/// Conditions that only a person can lift.
const NEEDS_A_PERSON: [&str; 5] =
    ["Manual", "StepPause", "Inconclusive", "ApprovalPending", "MonitoringUnavailable"];
/// Conditions that lift by themselves when hosts come back, and otherwise need a person, too.
const MAY_NEED_A_PERSON: [&str; 2] = ["LostHosts", "Budget"];
/// How long hosts have to come back before watching gives up on them.
const COME_BACK: Duration = Duration::from_secs(60);

/// True while the rollout waits for hosts to come back.
pub fn waits_for_hosts(rollout: &Rollout) -> bool {
    rollout.conditions.iter().any(|c| MAY_NEED_A_PERSON.contains(&c.as_str()))
}

/// The exit code with which watching ends at this state; `None` while the rollout goes on. `waited` is how long
/// the rollout has waited for hosts to come back.
pub fn verdict(rollout: &Rollout, waited: Duration) -> Option<Exit> {
    match rollout.state.as_str() {
        "Succeeded" => return Some(Exit::Done),
        "Failed" | "RolledBack" | "RollbackFailed" | "Cancelled" | "Rejected" | "Denied" | "Expired"
        | "Superseded" | "MigrationStuck" => return Some(Exit::RolloutFailed),
        _ if rollout.ended_at_ms != 0 => return Some(Exit::RolloutFailed),
        _ => {}
    }
    let paused = rollout.conditions.iter().any(|c| NEEDS_A_PERSON.contains(&c.as_str()))
        || (waits_for_hosts(rollout) && waited >= COME_BACK);
    // Going back needs nobody, and hosts in flight are worth waiting for.
    (paused && rollout.state != "Aborting" && !rollout.hosts.iter().any(in_flight)).then_some(Exit::Paused)
}

/// The exit code with which waiting for the end of an aborted rollout ends; `None` while it goes back. It ended as asked
/// where no host is left on its release or without any.
pub fn verdict_of_abort(rollout: &Rollout) -> Option<Exit> {
    if rollout.ended_at_ms == 0 {
        return None;
    }
    let back = match rollout.state.as_str() {
        "RolledBack" | "Cancelled" => true,
        // There was no former release: nothing runs, or what came to run stays.
        "Failed" => confirmed(rollout).0 == 0,
        _ => false,
    };
    Some(if back { Exit::Done } else { Exit::RolloutFailed })
}

/// Out of service, or on its way there or back.
pub fn in_flight(host: &HostProgress) -> bool {
    matches!(
        host.phase(),
        Phase::Draining
            | Phase::Undraining
            | Phase::Stopping
            | Phase::Switching
            | Phase::Starting
            | Phase::Verifying
            | Phase::Admitting
            | Phase::Trial
            | Phase::Reverting
    )
}

/// `web 1.8.3 -> 1.9.0`.
pub fn title(rollout: &Rollout) -> String {
    let to = rollout.to.as_ref().map_or("?", |r| r.version.as_str());
    let app = text::app(&rollout.app, &rollout.environment);
    match &rollout.from {
        Some(from) if from.version != to => format!("{app} {} -> {to}", from.version),
        Some(from) if rollout.to.as_ref().is_some_and(|to| to.digest != from.digest) => {
            format!("{app} {to} ({} -> {})", text::short_digest(&from.digest), rollout_digest(rollout))
        }
        _ => format!("{app} {to}"),
    }
}

fn rollout_digest(rollout: &Rollout) -> &str {
    rollout.to.as_ref().map_or("", |to| text::short_digest(&to.digest))
}

/// Hosts that ended on the target, and all that were to.
pub fn confirmed(rollout: &Rollout) -> (usize, usize) {
    let planned: Vec<&String> = rollout.batches.iter().flat_map(|b| &b.hosts).collect();
    let done =
        |h: &&HostProgress| planned.contains(&&h.host) && json::outcome(h.outcome) == Some("confirmed");
    (rollout.hosts.iter().filter(done).count(), planned.len())
}

/// Hosts whose part went wrong.
pub fn failed(rollout: &Rollout) -> impl Iterator<Item = &HostProgress> {
    rollout.hosts.iter().filter(|host| {
        let bad = matches!(
            json::outcome(host.outcome),
            Some("reverted" | "already_reverted" | "failed" | "quarantined" | "lost")
        );
        bad && !(host.reason.is_empty() && host.fault() == windlass_proto::rpc::Fault::Unspecified)
    })
}

/// What a success is told as: steps with their verbs.
pub fn success(rollout: &Rollout) -> Vec<(&'static str, String)> {
    let (done, all) = confirmed(rollout);
    let took = text::span(rollout.ended_at_ms - rollout.started_at_ms);
    let app = text::app(&rollout.app, &rollout.environment);
    let version = rollout.to.as_ref().map_or("?", |r| r.version.as_str());
    let mut lines = Vec::new();
    if all == 0 {
        lines.push(("Unchanged", format!("{app} {version} is on every host already")));
        return lines;
    }
    lines.push(("Finished", format!("{app} {version} on {done}/{all} hosts in {took}")));
    let cut: u32 = rollout.hosts.iter().filter_map(|h| h.drained).map(|d| d.cut).sum();
    if cut > 0 {
        let are = if cut == 1 { "1 connection was".to_owned() } else { format!("{cut} connections were") };
        lines.push(("", format!("{are} cut; `windlass rollout show` says on which hosts")));
    }
    lines.extend(seen::line(rollout).map(|seen| ("Users saw", seen)));
    for host in rollout.hosts.iter().filter(|h| json::outcome(h.outcome) == Some("skipped")) {
        lines.push(("Skipped", format!("{}  {}", host.host, host.reason)));
    }
    for host in failed(rollout) {
        lines.push(("Left out", format!("{}  {}", host.host, host.reason)));
    }
    if rollout.from.is_some() && rollout.kind != "rollback" {
        let env = text::env_flag(&rollout.environment);
        lines.push(("", format!("undo: windlass rollback {}{env}", rollout.app)));
    }
    lines
}

/// One paragraph a failed host; the same reason is told once.
pub fn failures(rollout: &Rollout) -> Vec<String> {
    let mut lines = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    for host in failed(rollout) {
        let outcome = json::outcome(host.outcome).unwrap_or("failed");
        let fault = json::fault(host.fault).map_or(String::new(), |fault| format!(" ({fault})"));
        let reason = if host.reason.is_empty() { "no reason was given" } else { host.reason.as_str() };
        let said = if told.contains(&reason) { "same" } else { reason };
        told.push(reason);
        let said = said.trim_end().replace('\n', "\n           ");
        lines.push(format!("  {:10} {}{fault}: {said}", host.host, style::word(outcome)));
    }
    lines
}

/// The last word about a rollout that failed or waits for a person.
pub fn error(rollout: &Rollout, exit: Exit) -> ExpectedError {
    let id = &rollout.id;
    let title = title(rollout);
    if exit == Exit::Paused {
        let waits = match rollout.waiting_for.as_str() {
            "" => rollout.conditions.join(", "),
            // The hints say how to go on; the coordinator's words do, too.
            waiting => waiting
                .split("; `windlass")
                .next()
                .unwrap_or(waiting)
                .trim_start_matches("a person: ")
                .to_owned(),
        };
        let error = ExpectedError::new(exit, format!("rollout {id} ({title}) is paused: {waits}"));
        // A used-up budget is no matter of an operator's word.
        let error = match rollout.conditions.as_slice() {
            [only] if only == "Budget" => {
                error.hint(format!("windlass rollout watch {id}    (it goes on by itself)"))
            }
            _ => error.hint(format!("windlass rollout resume {id}")),
        };
        return error.hint(format!("windlass rollout abort {id}    (stops it and goes back)"));
    }
    let why = if rollout.failure.is_empty() { rollout.state.clone() } else { rollout.failure.clone() };
    let mut error =
        ExpectedError::new(exit, format!("rollout {id} ({title}) failed: {}", why.trim_end_matches('.')));
    error = error.line(where_the_fleet_is(rollout));
    if let Some(seen) = seen::line(rollout) {
        error = error.line(format!("users saw {seen}"));
    }
    let own_fault = |host: &&HostProgress| !matches!(json::fault(host.fault), None | Some("policy"));
    if let Some(host) = failed(rollout).find(own_fault).map(|host| &host.host) {
        error = error.hint(format!("windlass why {host}"));
    }
    match rollout.state.as_str() {
        "RollbackFailed" => error.hint("windlass host list"),
        "Cancelled" => error,
        _ => error.hint(format!(
            "windlass rollout retry {id}    (for hosts that were not reached, after mending the cause)"
        )),
    }
}

/// How many hosts are back, on the new release, or need a person.
pub fn where_the_fleet_is(rollout: &Rollout) -> String {
    let former = rollout.from.as_ref().map_or("what they ran before", |r| r.version.as_str());
    let (on_target, all) = confirmed(rollout);
    let count = |wanted: &[&str]| {
        rollout.hosts.iter().filter(|h| json::outcome(h.outcome).is_some_and(|o| wanted.contains(&o))).count()
    };
    let back = count(&["reverted", "already_reverted"]);
    let sick = count(&["quarantined", "lost"]);
    let mut parts = Vec::new();
    if back > 0 {
        let back = text::count(back, "host");
        parts.push(match rollout.from {
            Some(_) => format!("{back} back on {former}"),
            None => format!("{back} back to running nothing"),
        });
    }
    if on_target > 0 && rollout.state != "RolledBack" {
        parts.push(format!("{} on the new release", text::count(on_target, "host")));
    }
    if sick > 0 {
        parts.push(format!("{} need a person", text::count(sick, "host")));
    }
    let untouched = all.saturating_sub(back + on_target + sick + count(&["failed"]));
    if untouched > 0 && rollout.state != "RolledBack" {
        parts.push(format!("{} never touched", text::count(untouched, "host")));
    }
    if parts.is_empty() { format!("every host is on {former}") } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_proto::rpc::{Batch, Fault, Outcome, ReleaseRef};

    pub(crate) fn sample(state: &str) -> Rollout {
        let release = |version: &str| {
            Some(ReleaseRef {
                app: "web".into(),
                version: version.into(),
                digest: format!("b3:{version}"),
                counter: 1,
            })
        };
        let host = |name: &str, phase: Phase, outcome: Outcome| HostProgress {
            host: name.into(),
            phase: phase.into(),
            outcome: outcome.into(),
            ..Default::default()
        };
        Rollout {
            id: "r-7k2m".into(),
            app: "web".into(),
            from: release("1.8.3"),
            to: release("1.9.0"),
            state: state.into(),
            kind: "deploy".into(),
            started_at_ms: 1_000,
            ended_at_ms: 582_000,
            batches: vec![
                Batch { index: 1, hosts: vec!["web-01".into()], state: "done".into() },
                Batch { index: 2, hosts: vec!["web-02".into(), "web-03".into()], state: "running".into() },
            ],
            hosts: vec![
                host("web-01", Phase::Confirmed, Outcome::Confirmed),
                HostProgress {
                    fault: Fault::App.into(),
                    reason: "GET 127.0.1.2:8080/ready -> 503, 3 of 3 tries".into(),
                    ..host("web-02", Phase::Reverted, Outcome::Reverted)
                },
                host("web-03", Phase::Staged, Outcome::Unspecified),
            ],
            ..Default::default()
        }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn states_have_their_documented_exit() {
        for (state, exit) in [
            ("Succeeded", Some(Exit::Done)),
            ("Failed", Some(Exit::RolloutFailed)),
            ("RolledBack", Some(Exit::RolloutFailed)),
            ("RollbackFailed", Some(Exit::RolloutFailed)),
            ("Cancelled", Some(Exit::RolloutFailed)),
            ("Progressing", None),
            ("Aborting", None),
        ] {
            let rollout = Rollout { ended_at_ms: 0, ..sample(state) };
            assert_eq!(verdict(&rollout, Duration::ZERO), exit, "{state}");
        }
    }

    #[test]
    fn an_abort_ends_as_asked_where_no_host_is_left_on_the_release() {
        let ended = |state: &str, outcome: Outcome| {
            let mut rollout = Rollout { ended_at_ms: 1, ..sample(state) };
            rollout.hosts[0].outcome = outcome.into();
            verdict_of_abort(&rollout)
        };
        for (state, outcome, exit) in [
            ("RolledBack", Outcome::Reverted, Exit::Done),
            ("Cancelled", Outcome::Skipped, Exit::Done),
            ("Failed", Outcome::Reverted, Exit::Done),
            ("Failed", Outcome::Confirmed, Exit::RolloutFailed),
            ("RollbackFailed", Outcome::Lost, Exit::RolloutFailed),
            ("Succeeded", Outcome::Confirmed, Exit::RolloutFailed),
        ] {
            assert_eq!(ended(state, outcome), Some(exit), "{state} {outcome:?}");
        }
        let open = Rollout { ended_at_ms: 0, ..sample("Aborting") };
        assert_eq!(verdict_of_abort(&open), None);
    }

    #[test]
    fn paused_counts_once_no_host_is_in_flight() {
        let mut rollout =
            Rollout { ended_at_ms: 0, conditions: vec!["Manual".into()], ..sample("Progressing") };
        assert_eq!(verdict(&rollout, Duration::ZERO), Some(Exit::Paused));
        rollout.hosts[2].phase = Phase::Starting.into();
        assert_eq!(verdict(&rollout, Duration::ZERO), None);
        rollout.hosts[2].phase = Phase::Staged.into();
        rollout.conditions = vec!["LostHosts".into()];
        assert_eq!(verdict(&rollout, Duration::from_secs(10)), None, "hosts may come back");
        assert_eq!(verdict(&rollout, Duration::from_secs(61)), Some(Exit::Paused));
        rollout.conditions = vec!["Recovery".into()];
        assert_eq!(verdict(&rollout, Duration::ZERO), None);
    }

    #[test]
    fn a_failure_tells_reasons_place_and_way_out() {
        let rollout = Rollout { failure: "1 host failed, 0 allowed.".into(), ..sample("Failed") };
        let mut text = failures(&rollout).join("\n");
        text.push('\n');
        text.push_str(&error(&rollout, Exit::RolloutFailed).render());
        insta::assert_snapshot!(plain(&text));
    }

    #[test]
    fn a_success_ends_with_the_undo() {
        let lines: Vec<String> =
            success(&sample("Succeeded")).into_iter().map(|(v, l)| format!("{v}|{l}")).collect();
        insta::assert_snapshot!(lines.join("\n"));
        let elsewhere = Rollout { environment: "staging".into(), ..sample("Succeeded") };
        assert_eq!(success(&elsewhere).pop().unwrap().1, "undo: windlass rollback web --env staging");
    }
}
