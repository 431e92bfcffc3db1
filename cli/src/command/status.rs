//! `windlass status`: apps, open rollouts and sick hosts on one screen.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use windlass_proto::rpc::{AppStatus, Host, InfoRequest, ListHostsRequest, ListRolloutsRequest, Rollout};

use super::environment;
use crate::args::Status;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json as kinds, style, table, text};
use crate::spec::near;
use crate::watch::summary;

/// Shows the fleet.
pub async fn run(invocation: &Invocation, args: Status) -> Result {
    let out = &invocation.out;
    let client = invocation.connect().await?;
    let subject = "cannot read the fleet's status";
    let environment =
        environment::showing(&client, args.app.as_deref().unwrap_or_default(), args.env.as_deref()).await?;
    let info = client.ask(subject, client.fleet.clone().info(InfoRequest {})).await?;
    let request = ListHostsRequest { selector: String::new() };
    let hosts = client.ask(subject, client.fleet.clone().list_hosts(request)).await?.hosts;
    let list = |open_only| {
        let request = ListRolloutsRequest { open_only, ..Default::default() };
        async { client.ask(subject, client.rollouts.clone().list(request)).await.map(|list| list.rollouts) }
    };
    let mut rollouts = list(true).await?;
    rollouts.extend(list(false).await?);
    let mut apps = summarise(&hosts, &rollouts);
    if let Some(app) = &args.app {
        if !apps.keys().any(|(name, _)| name == app) {
            let meant = near(app, apps.keys().map(|(name, _)| *name))
                .map(|m| format!(", did you mean {m:?}?"))
                .unwrap_or_default();
            return Err(
                ExpectedError::failed(format!("no host has an app {app:?}{meant}")).hint("windlass status")
            );
        }
        apps.retain(|(name, _), _| name == app);
    }
    if !environment.is_empty() {
        apps.retain(|(_, of), _| *of == environment);
    }
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for host in &hosts {
        *states.entry(host.state.as_str()).or_default() += 1;
    }
    if out.format == Format::Name {
        let mut names: Vec<&str> = apps.keys().map(|(name, _)| *name).collect();
        names.dedup();
        names.into_iter().try_for_each(|name| out.line(name))?;
        return Ok(Exit::Done);
    }
    if out.format.is_structured() {
        let all: Value = apps.values().map(App::json).collect();
        let states: Value =
            states.iter().map(|(s, n)| ((*s).to_owned(), json!(n))).collect::<serde_json::Map<_, _>>().into();
        out.list(
            &kinds::wrap(
                "Status",
                json!({ "fleet": info.fleet, "epoch": info.epoch, "hosts": { "total": hosts.len(), "states": states }, "apps": all }),
            ),
            "apps",
            "App",
        )?;
        return Ok(Exit::Done);
    }
    if apps.is_empty() {
        out.talk("no app runs yet; windlass deploy");
    } else {
        let mut rows: Vec<Vec<String>> = apps.values().map(App::row).collect();
        let mut header = vec!["APP", "RELEASE", "HOSTS", "HEALTH", "ROLLOUT"];
        if environment::several(apps.keys().map(|(_, of)| *of)) {
            header.insert(1, "ENV");
            let of = apps.keys().map(|(_, of)| if of.is_empty() { "-" } else { *of });
            rows.iter_mut().zip(of).for_each(|(row, of)| row.insert(1, of.to_owned()));
        }
        out.data(&table::render(&header, &rows))?;
        out.line("")?;
    }
    let counts: Vec<String> = states.iter().map(|(state, n)| format!("{n} {}", style::word(state))).collect();
    out.line(&format!(
        "fleet {}, {}: {}",
        info.fleet,
        text::count(hosts.len(), "host"),
        if counts.is_empty() { "none enrolled".into() } else { counts.join(", ") }
    ))?;
    for host in hosts.iter().filter(|h| matches!(h.state.as_str(), "silent" | "quarantined" | "foreign")) {
        let heard = text::ago(host.last_seen_ms);
        let verb = if host.state == "foreign" { "host show" } else { "why" };
        out.line(&format!(
            "  {}  {}, last heard {heard}; windlass {verb} {}",
            host.name,
            style::word(&host.state),
            host.name
        ))?;
    }
    Ok(Exit::Done)
}

/// An app and one of its environments; empty for hosts that belong to none.
type Key<'a> = (&'a str, &'a str);

struct App<'a> {
    name: &'a str,
    environment: &'a str,
    /// Hosts by the version they run.
    versions: BTreeMap<&'a str, usize>,
    hosts: usize,
    sick: Vec<(&'a str, String)>,
    /// Hosts that went back, and from which version.
    back: Vec<(&'a str, &'a str)>,
    /// The one under way, or the newest if that ended otherwise than it should.
    rollout: Option<&'a Rollout>,
}

fn summarise<'a>(hosts: &'a [Host], rollouts: &'a [Rollout]) -> BTreeMap<Key<'a>, App<'a>> {
    let mut apps: BTreeMap<Key<'_>, App<'_>> = BTreeMap::new();
    let new = |(name, environment)| App {
        name,
        environment,
        versions: BTreeMap::new(),
        hosts: 0,
        sick: Vec::new(),
        back: Vec::new(),
        rollout: None,
    };
    for host in hosts {
        for status in &host.apps {
            let of = host.environments.get(&status.app).map_or("", String::as_str);
            let key = (status.app.as_str(), of);
            let app = apps.entry(key).or_insert_with(|| new(key));
            let Some(release) = kinds::running(status) else { continue };
            app.hosts += 1;
            *app.versions.entry(&release.version).or_default() += 1;
            if let Some(word) = sickness(host, status) {
                app.sick.push((&host.name, word));
            }
            if kinds::phase(status.phase) == "reverted"
                && let Some(left) = status.target.as_ref().filter(|target| target.digest != release.digest)
            {
                app.back.push((&host.name, &left.version));
            }
        }
    }
    for rollout in rollouts {
        let key = (rollout.app.as_str(), rollout.environment.as_str());
        let app = apps.entry(key).or_insert_with(|| new(key));
        let known = app.rollout.map_or(0, |known| known.revision);
        if rollout.revision > known {
            app.rollout = Some(rollout);
        }
    }
    for app in apps.values_mut() {
        app.rollout = app.rollout.filter(|rollout| rollout.state != "Succeeded");
    }
    apps
}

fn sickness(host: &Host, status: &AppStatus) -> Option<String> {
    let phase = kinds::phase(status.phase);
    let settled = matches!(phase, "idle" | "confirmed" | "reverted" | "failed");
    match host.state.as_str() {
        state @ ("silent" | "foreign") => Some(state.into()),
        _ if phase == "quarantined" => Some("quarantined".into()),
        _ if settled && !status.attested.as_ref().is_some_and(|a| a.ok) => {
            Some("not running its release".into())
        }
        _ => None,
    }
}

impl App<'_> {
    /// The version most hosts run, and the others in brackets.
    fn release(&self) -> String {
        let mut versions: Vec<(&str, usize)> = self.versions.iter().map(|(v, n)| (*v, *n)).collect();
        versions.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        match versions.as_slice() {
            [] => "-".into(),
            [(one, _)] => (*one).into(),
            [(most, _), others @ ..] => {
                let others: Vec<String> = others.iter().map(|(v, n)| format!("{v} on {n}")).collect();
                format!("{most} ({})", others.join(", "))
            }
        }
    }

    /// `3 hosts went back from 1.1.0`, by version.
    fn went_back(&self) -> String {
        let mut from: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, version) in &self.back {
            *from.entry(version).or_default() += 1;
        }
        let parts =
            from.iter().map(|(version, n)| format!("{} went back from {version}", text::count(*n, "host")));
        parts.collect::<Vec<_>>().join(", ")
    }

    fn row(&self) -> Vec<String> {
        let health = match self.sick.as_slice() {
            [] if self.hosts == 0 => "-".to_owned(),
            [] if !self.back.is_empty() => {
                style::paint(style::WARN, &format!("ok, {}", text::cut(&self.went_back(), 60)))
            }
            [] => style::word("ok"),
            sick => {
                let shown: Vec<String> =
                    sick.iter().take(3).map(|(host, word)| format!("{host} {word}")).collect();
                let more =
                    if sick.len() > 3 { format!(" and {} more", sick.len() - 3) } else { String::new() };
                style::paint(style::BAD, &format!("{} sick: {}{more}", sick.len(), shown.join(", ")))
            }
        };
        let rollout = self.rollout.map_or("-".to_owned(), |r| {
            let batch = r.batches.iter().find(|b| b.state == "running").map_or(0, |b| b.index);
            let batch =
                if batch == 0 { String::new() } else { format!(", batch {batch} of {}", r.batches.len()) };
            let paused = if r.conditions.is_empty() {
                String::new()
            } else {
                format!(", {}", r.conditions.join(", "))
            };
            format!("{}  {} {}{batch}{paused}", r.id, summary::title(r), style::word(&r.state))
        });
        let well = self.hosts - self.sick.len();
        vec![self.name.to_owned(), self.release(), format!("{well}/{}", self.hosts), health, rollout]
    }

    fn json(&self) -> Value {
        let sick: Value =
            self.sick.iter().map(|(host, word)| json!({ "host": host, "state": word })).collect();
        let back: Value =
            self.back.iter().map(|(host, from)| json!({ "host": host, "from": from })).collect();
        json!({
            "app": self.name,
            "environment": (!self.environment.is_empty()).then_some(self.environment),
            "versions": self.versions.iter().map(|(v, n)| ((*v).to_owned(), json!(n))).collect::<serde_json::Map<_, _>>(),
            "hosts": self.hosts,
            "sick": sick,
            "went_back": back,
            "rollout": self.rollout.filter(|rollout| rollout.ended_at_ms == 0).map(kinds::rollout),
            "failed_rollout": self.rollout.filter(|rollout| rollout.ended_at_ms != 0).map(kinds::rollout),
        })
    }
}
