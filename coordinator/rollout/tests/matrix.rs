//! Every (state, event) pair: where it leads and what it asks for, as one table in `matrix.txt`.
//!
//! `WINDLASS_REGENERATE=1 cargo test -p windlass-rollout --test matrix` writes the table anew; its difference is what a
//! change of the machine means, and is to be read.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod fleet;

use std::fmt::Write as _;

use windlass_proto::id::HostName;
use windlass_proto::phase::{AppStatus, Attestation, Fault, Outcome, Phase};
use windlass_proto::refused::OrderRefused;
use windlass_proto::time::{Span, Timestamp};
use windlass_rollout::{Effect, Event, Refused, Rollout, State, Step, step};

use fleet::{name, rolling, rollout, status};

/// A rollout under construction: three hosts, batches of one, budget one.
#[derive(Clone)]
struct Scene {
    r: Rollout,
    now: Timestamp,
}

impl Scene {
    fn new(strategy: &str, failure: &str) -> Self {
        let strategy =
            format!(r#", "max_parallel": 1, "max_unavailable": 1, "pause_between": "1m"{strategy}"#);
        Self { r: rollout(3, rolling(&strategy, "", failure)), now: Timestamp(0) }
    }

    fn give(mut self, event: Event) -> Self {
        self.now = self.now.after(Span(10));
        self.r = step(&self.r, event, self.now).unwrap().state;
        self
    }

    fn says(self, host: usize, phase: Phase) -> Self {
        let status = self.status(host, phase);
        self.give(Event::HostStatus { host: name(host), status })
    }

    fn status(&self, host: usize, phase: Phase) -> Box<AppStatus> {
        let seq = self.r.hosts[&name(host)].seq + 1;
        Box::new(status(&self.r, &name(host), seq, phase))
    }

    fn preparing() -> Self {
        Self::new("", "").give(Event::Start)
    }

    fn staged(self) -> Self {
        self.says(1, Phase::Staged).says(2, Phase::Staged).says(3, Phase::Staged)
    }

    fn confirmed(self, host: usize) -> Self {
        self.says(host, Phase::Trial).says(host, Phase::Confirmed)
    }

    fn after(mut self, span: Span) -> Self {
        self.now = self.now.after(span);
        self.give(Event::Tick)
    }

    fn abort(self) -> Self {
        self.give(Event::Abort { by: "ana".into(), reason: "no".into() })
    }
}

const MINUTE: Span = Span::secs(61);

fn scenes() -> Vec<(&'static str, Scene)> {
    let flying = || Scene::preparing().staged();
    let second = || flying().confirmed(1).after(MINUTE);
    let last = || second().confirmed(2).after(MINUTE);
    let dropped = |scene: Scene| {
        let mut status = scene.status(1, Phase::Confirmed);
        status.attested = Attestation::default();
        scene.give(Event::HostStatus { host: name(1), status })
    };
    let back = || second().abort();
    vec![
        ("Validating", Scene::new("", "")),
        ("Preparing", Scene::preparing().says(1, Phase::Staged)),
        ("Deploying: host-1 has its permit", flying()),
        ("Deploying: host-1 on trial", flying().says(1, Phase::Trial)),
        ("Baking", flying().confirmed(1)),
        ("Manual", flying().give(Event::Pause { by: "ana".into(), reason: "lunch".into() })),
        ("Recovery", flying().give(Event::Recovered { epoch: 2 })),
        ("LostHosts: host-1, confirmed", {
            let silent =
                flying().confirmed(1).after(Span::secs(30)).give(Event::HostSilent { host: name(1) });
            silent.after(Span::secs(40))
        }),
        ("Failed, on_failure: pause", {
            let scene = Scene::new("", r#", "on_failure": "pause""#).give(Event::Start).staged();
            scene.says(1, Phase::Reverted)
        }),
        ("All confirmed, host-1 does not attest", dropped(last()).confirmed(3)),
        ("Aborting: host-1 goes back, host-2 in flight", back()),
        ("Succeeded", last().confirmed(3)),
        ("RolledBack", flying().says(1, Phase::Reverted)),
        ("RollbackFailed", flying().says(1, Phase::Quarantined)),
        ("Failed", Scene::preparing().says(1, Phase::Failed)),
        ("Cancelled", Scene::preparing().abort()),
    ]
}

fn events(scene: &Scene) -> Vec<(String, Event)> {
    let mut events = vec![("Start".to_owned(), Event::Start)];
    for phase in [
        Phase::Staging,
        Phase::Staged,
        Phase::Draining,
        Phase::Trial,
        Phase::Confirmed,
        Phase::Reverted,
        Phase::Failed,
        Phase::Quarantined,
    ] {
        let event = Event::HostStatus { host: name(1), status: scene.status(1, phase) };
        events.push((format!("host-1 {phase}"), event));
    }
    let mut lost = scene.status(1, Phase::Reverted);
    lost.fault = Some(Fault::Transport);
    events.push(("host-1 reverted, transport".into(), Event::HostStatus { host: name(1), status: lost }));
    let mut unproven = scene.status(1, Phase::Trial);
    unproven.attested = Attestation::default();
    events.push(("host-1 trial, not attested".into(), Event::HostStatus { host: name(1), status: unproven }));
    let mut dropped = scene.status(1, Phase::Idle);
    dropped.outcome = Some(Outcome::Skipped);
    events.push(("host-1 dropped it untouched".into(), Event::HostStatus { host: name(1), status: dropped }));
    let mut late = scene.status(1, Phase::Reverted);
    late.outcome = Some(Outcome::AlreadyReverted);
    events.push(("host-1 already reverted".into(), Event::HostStatus { host: name(1), status: late }));
    let mut old = scene.status(1, Phase::Quarantined);
    old.seq = 0;
    events
        .push(("host-1 quarantined, but long ago".into(), Event::HostStatus { host: name(1), status: old }));
    let mut other = scene.status(1, Phase::Confirmed);
    other.op = Some(windlass_proto::id::OpId::new("r-0-host-1").unwrap());
    events.push(("host-1 of another operation".into(), Event::HostStatus { host: name(1), status: other }));
    let stranger = HostName::new("stranger").unwrap();
    let status = scene.status(1, Phase::Staged);
    events.push(("a stranger".into(), Event::HostStatus { host: stranger, status }));
    let again = scene.status(1, scene.r.hosts[&name(1)].phase);
    events.push(("host-1 connects".into(), Event::HostConnected { host: name(1), status: Some(again) }));
    events.push((
        "host-1 connects, knows nothing".into(),
        Event::HostConnected { host: name(1), status: None },
    ));
    for (what, not_yet) in [("host-1 refuses", false), ("host-1 refuses for now", true)] {
        let op = Some(scene.r.hosts[&name(1)].op.clone());
        let refused = OrderRefused { op, app: None, fault: Fault::Host, reason: "full".into(), not_yet };
        events.push((what.into(), Event::HostRefused { host: name(1), refused: Box::new(refused) }));
    }
    events.push(("host-1 silent".into(), Event::HostSilent { host: name(1) }));
    events.push(("Tick".into(), Event::Tick));
    events.push(("Tick, 70 s later".into(), Event::Tick));
    events.push(("Tick, 10 min later".into(), Event::Tick));
    events.push(("Pause".into(), Event::Pause { by: "bo".into(), reason: String::new() }));
    events.push(("Resume".into(), Event::Resume { by: "bo".into() }));
    events.push(("Abort".into(), Event::Abort { by: "bo".into(), reason: String::new() }));
    events.push(("Recovered".into(), Event::Recovered { epoch: 3 }));
    events
}

fn shown(before: &Rollout, result: &Result<Step, Refused>) -> String {
    let Ok(next) = result else { return "refused".into() };
    let r = &next.state;
    let mut text = match r.state {
        State::Progressing { batch, step } => format!("batch {} {step:?}", batch + 1),
        state => state.word().to_owned(),
    };
    if let Some(at) = text.find(" { until") {
        text.truncate(at);
    }
    for condition in &r.conditions {
        write!(text, " +{}", condition.word()).unwrap();
    }
    if r == before {
        text.push_str(", as it was");
    }
    for (name, host) in &r.hosts {
        if host.outcome != before.hosts[name].outcome {
            let outcome = host.outcome.map_or("none".into(), |outcome| outcome.to_string());
            write!(text, "; {name} {outcome}").unwrap();
        }
    }
    for effect in &next.effects {
        match effect {
            Effect::Assign { host, op, .. } => write!(text, "; Assign {host} {op}").unwrap(),
            Effect::Permit { host, .. } => write!(text, "; Permit {host}").unwrap(),
            Effect::Confirm { host, .. } => write!(text, "; Confirm {host}").unwrap(),
            Effect::AbortOp { host, .. } => write!(text, "; AbortOp {host}").unwrap(),
            Effect::Ended { state } => write!(text, "; Ended {}", state.word()).unwrap(),
            Effect::Revised => text.push_str("; Revised"),
            Effect::Event { .. } | Effect::SetTimer { .. } => {}
        }
    }
    text
}

#[test]
fn every_pair_leads_where_the_table_says() {
    let mut table = String::new();
    for (title, scene) in scenes() {
        let waiting = scene.r.view().waiting_for;
        writeln!(
            table,
            "\n{title} ({}{})",
            scene.r.state.word(),
            if waiting.is_empty() { String::new() } else { format!(", waits for {waiting}") }
        )
        .unwrap();
        for (what, event) in events(&scene) {
            let later = match what.as_str() {
                "Tick, 70 s later" => Span::secs(70),
                "Tick, 10 min later" => Span::secs(600),
                _ => Span(10),
            };
            let result = step(&scene.r, event.clone(), scene.now.after(later));
            writeln!(table, "  {what:34}{}", shown(&scene.r, &result)).unwrap();
            check(&scene, &event, &result);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/matrix.txt");
    let table = table.trim_start();
    if std::env::var_os("WINDLASS_REGENERATE").is_some() {
        std::fs::write(path, table).unwrap();
    }
    let recorded = std::fs::read_to_string(path).unwrap_or_default();
    for (line, (now, then)) in table.lines().zip(recorded.lines()).enumerate() {
        assert_eq!(now, then, "matrix.txt:{}", line + 1);
    }
    assert_eq!(table.lines().count(), recorded.lines().count());
}

#[test]
fn a_host_that_was_taken_out_of_service_and_fell_silent_is_lost_and_not_excused() {
    let scene = Scene::preparing().staged();
    let mut reverted = scene.status(1, Phase::Reverted);
    reverted.fault = Some(Fault::Transport);
    let again = scene.give(Event::HostStatus { host: name(1), status: reverted });
    assert_eq!(again.r.hosts[&name(1)].outcome, None, "the network's fault is tried again");
    let silent = again.after(Span::secs(20)).give(Event::HostSilent { host: name(1) });
    let ended = silent.after(Span::secs(600));
    let host = &ended.r.hosts[&name(1)];
    assert_eq!((host.outcome, host.fault), (Some(Outcome::Lost), Some(Fault::Transport)), "{}", host.reason);
    assert_ne!(ended.r.state, State::Succeeded);
}

/// A host whose disk had broken told of a failure that it could not record, and remembers nothing of it.
#[test]
fn a_host_that_waits_for_a_permit_of_an_ended_rollout_is_told_to_drop_it() {
    let scene = Scene::preparing().staged();
    let mut failed = scene.status(1, Phase::Failed);
    (failed.outcome, failed.fault) = (Some(Outcome::Failed), Some(Fault::Host));
    let ended = scene.give(Event::HostStatus { host: name(1), status: failed }).after(Span::secs(900));
    assert!(ended.r.ended(), "{:?}", ended.r.state);
    for phase in [Phase::Assigned, Phase::Staging, Phase::Staged] {
        let event = Event::HostStatus { host: name(1), status: ended.status(1, phase) };
        let next = windlass_rollout::step(&ended.r, event, ended.now).unwrap();
        let told = next
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::AbortOp { host, .. } if *host == name(1)));
        assert!(told, "{phase}: {:?}", next.effects);
    }
}

/// What holds in every row, whatever the table says.
fn check(scene: &Scene, event: &Event, result: &Result<Step, Refused>) {
    let before = &scene.r;
    let Ok(next) = result else {
        let operator = matches!(event, Event::Pause { .. } | Event::Resume { .. } | Event::Abort { .. });
        let stranger = matches!(event, Event::HostStatus { host, .. } if host.as_str() == "stranger");
        assert!(operator || stranger, "{event:?} was refused");
        return;
    };
    if before.ended() {
        // An end is an end, unless hosts leave what they had confirmed: then it was no success.
        let left = |name: &&HostName| {
            let now = next.state.hosts[*name].outcome;
            before.hosts[*name].outcome == Some(Outcome::Confirmed) && now != Some(Outcome::Confirmed)
        };
        let has_left = before.hosts.keys().any(|name| left(&name));
        assert_eq!(next.state.state == State::Succeeded, before.state == State::Succeeded && !has_left);
        assert!(next.state.state == before.state || has_left, "an end is an end");
        assert!(next.state.ended());
        for effect in &next.effects {
            let allowed = matches!(
                effect,
                Effect::AbortOp { .. } | Effect::Event { .. } | Effect::SetTimer { .. } | Effect::Revised
            );
            assert!(allowed, "{effect:?} after the end");
        }
    }
    if matches!(event, Event::Abort { .. }) {
        assert!(
            !next
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::Permit { .. } | Effect::Confirm { .. }))
        );
    }
    if before.conditions.iter().any(|condition| condition.word() == "Manual")
        && next.state.conditions == before.conditions
    {
        assert!(
            !next.effects.iter().any(|effect| matches!(effect, Effect::Permit { .. })),
            "permit in a pause"
        );
    }
    // Said twice, nothing more happens.
    let twice = step(&next.state, event.clone(), scene.now.after(Span(20)));
    if let Ok(twice) = twice
        && !matches!(event, Event::HostConnected { .. } | Event::Tick)
    {
        let new = |effect: &&Effect| !matches!(effect, Effect::SetTimer { .. } | Effect::Event { .. });
        let again: Vec<_> = twice.effects.iter().filter(new).collect();
        assert_eq!(twice.state.state, next.state.state, "{event:?} twice");
        assert!(matches!(event, Event::Recovered { .. }) || again.is_empty(), "{event:?} twice: {again:?}");
    }
}
