//! `windlass rollout`: watching and steering.

use std::collections::BTreeMap;

use windlass_proto::rpc::{ListRolloutsRequest, Rollout as Wire, RolloutRequest};
use windlass_proto::shown::Texts as _;

use super::{deploy, environment};
use crate::args::{Follow, Rollout, RolloutAct};
use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json, style, table, text};
use crate::traced;
use crate::watch::{self, Aim, seen, summary};

/// Runs the verb.
pub async fn run(invocation: &Invocation, verb: Rollout) -> Result {
    match verb {
        Rollout::List { app, env, open, limit } => {
            let client = invocation.connect().await?;
            let app = app.unwrap_or_default();
            let environment = environment::showing(&client, &app, env.as_deref()).await?;
            list(invocation, &client, ListRolloutsRequest { app, environment, open_only: open, limit }).await
        }
        Rollout::Show { id } => show(invocation, id).await,
        Rollout::Watch { id, timeout } => {
            let client = invocation.connect().await?;
            let id = match id {
                Some(id) => id,
                None => the_open_one(&client).await?,
            };
            let first = get(&client, &id, "watch").await?;
            watch::follow(invocation, &client, &id, Some(first), Aim::Success, timeout).await
        }
        Rollout::Pause(act) => steer(invocation, &invocation.connect().await?, act, Steer::Pause).await,
        Rollout::Resume(act) => steer(invocation, &invocation.connect().await?, act, Steer::Resume).await,
        Rollout::Abort { act, yes, wait, timeout } => {
            let out = &invocation.out;
            let question = format!("Stop rollout {} and take its hosts back to the former release?", act.id);
            if !yes && out.can_ask() && !out.ask(&question) {
                return Err(ExpectedError::failed(format!("rollout {} goes on: not agreed to", act.id)));
            }
            let client = invocation.connect().await?;
            if !wait {
                return steer(invocation, &client, act, Steer::Abort).await;
            }
            let aborting = order(&client, act, Steer::Abort).await?;
            let id = aborting.id.clone();
            out.step("Aborting", &format!("{}, rollout {id}", summary::title(&aborting.clone().for_eyes())));
            watch::follow(invocation, &client, &id, Some(aborting), Aim::Abort, timeout).await
        }
        Rollout::Retry { act, follow } => retry(invocation, act, &follow).await,
        Rollout::History { app, env, limit } => {
            let client = invocation.connect().await?;
            let environment = environment::showing(&client, &app, env.as_deref()).await?;
            history(invocation, &client, ListRolloutsRequest { app, environment, open_only: false, limit })
                .await
        }
    }
}

async fn get(client: &Client, id: &str, doing: &str) -> Result<Wire> {
    let request = RolloutRequest { id: id.to_owned(), reason: String::new() };
    client.ask(&format!("cannot {doing} rollout {id}"), client.rollouts.clone().get(request)).await
}

async fn fetch(client: &Client, request: ListRolloutsRequest) -> Result<Vec<Wire>> {
    Ok(client.ask("cannot list rollouts", client.rollouts.clone().list(request)).await?.rollouts)
}

async fn the_open_one(client: &Client) -> Result<String> {
    let request = ListRolloutsRequest { open_only: true, limit: 20, ..Default::default() };
    let open = fetch(client, request).await?;
    match open.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Err(ExpectedError::failed("no rollout is under way").hint("windlass rollout list")),
        several => {
            let mut error = ExpectedError::usage(format!("which rollout? {} are under way", several.len()));
            for rollout in several {
                error = error.hint(format!(
                    "windlass rollout watch {}    ({})",
                    rollout.id,
                    summary::title(rollout)
                ));
            }
            Err(error)
        }
    }
}

async fn list(invocation: &Invocation, client: &Client, request: ListRolloutsRequest) -> Result {
    let out = &invocation.out;
    let open = request.open_only;
    let rollouts = fetch(client, request).await?;
    match out.format {
        Format::Name => rollouts.iter().try_for_each(|r| out.line(&r.id))?,
        format if format.is_structured() => {
            out.list(&json::rollout_list(&rollouts), "rollouts", "Rollout")?
        }
        _ if rollouts.is_empty() && open => out.talk("no rollout is under way"),
        _ if rollouts.is_empty() => out.talk("no rollouts yet; windlass deploy"),
        format => {
            let wide = format == Format::Wide;
            let mut header =
                vec!["ROLLOUT", "APP", "REV", "KIND", "FROM", "TO", "STATE", "HOSTS", "STARTED", "TOOK"];
            if wide {
                header.extend(["BY", "REASON"]);
            }
            let mut rows: Vec<Vec<String>> = rollouts.iter().map(|r| row(r, wide)).collect();
            tell_apart(&rollouts, &mut header, &mut rows, 2);
            out.data(&table::render(&header, &rows))?;
        }
    }
    Ok(Exit::Done)
}

/// Puts a column in where rollouts are of more than one environment.
fn tell_apart(rollouts: &[Wire], header: &mut Vec<&str>, rows: &mut [Vec<String>], at: usize) {
    if environment::several(rollouts.iter().map(|r| r.environment.as_str())) {
        header.insert(at, "ENV");
        rows.iter_mut().zip(rollouts).for_each(|(row, r)| row.insert(at, r.environment.clone()));
    }
}

fn row(r: &Wire, wide: bool) -> Vec<String> {
    let (done, all) = summary::confirmed(r);
    let end = if r.ended_at_ms == 0 { text::now_ms() } else { r.ended_at_ms };
    let state = if r.conditions.is_empty() {
        style::word(&r.state)
    } else {
        format!("{} ({})", style::word(&r.state), style::paint(style::WARN, &r.conditions.join(", ")))
    };
    let mut row = vec![
        r.id.clone(),
        r.app.clone(),
        r.revision.to_string(),
        r.kind.clone(),
        r.from.as_ref().map_or("-", |f| f.version.as_str()).to_owned(),
        r.to.as_ref().map_or("-", |t| t.version.as_str()).to_owned(),
        state,
        format!("{done}/{all}"),
        text::ago(r.started_at_ms),
        text::span(end - r.started_at_ms),
    ];
    if wide {
        row.extend([r.started_by.clone(), r.reason.clone()]);
    }
    row
}

async fn show(invocation: &Invocation, id: String) -> Result {
    let client = invocation.connect().await?;
    let rollout = get(&client, &id, "show").await?;
    print(invocation, &rollout)?;
    Ok(Exit::Done)
}

fn print(invocation: &Invocation, r: &Wire) -> Result<()> {
    let out = &invocation.out;
    match out.format {
        Format::Name => return out.line(&r.id),
        format if format.is_structured() => return out.object(&json::wrap("Rollout", json::rollout(r))),
        _ => {}
    }
    let end = if r.ended_at_ms == 0 { text::now_ms() } else { r.ended_at_ms };
    let mut page = format!(
        "{}  {}  {}  {}, revision {}\n",
        style::paint(style::BOLD, &r.id),
        summary::title(r),
        style::word(&r.state),
        r.kind,
        r.revision
    );
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            page.push_str(&format!("  {name:9} {value}\n"));
        }
    };
    fact("started", &format!("{} by {}", text::rfc3339(r.started_at_ms).unwrap_or_default(), r.started_by));
    fact("took", &text::span(end - r.started_at_ms));
    fact("reason", &r.reason);
    fact("paused", &r.conditions.join(", "));
    fact("waits for", &r.waiting_for);
    fact("failure", &r.failure);
    fact("users saw", &seen::line(r).unwrap_or_default());
    for step in r.availability.iter().flat_map(|seen| &seen.steps).filter(|step| step.failed > 0) {
        fact("", &seen::of_step(step));
    }
    page.push('\n');
    let batch_of: BTreeMap<&str, u32> =
        r.batches.iter().flat_map(|b| b.hosts.iter().map(|h| (h.as_str(), b.index))).collect();
    let rows: Vec<Vec<String>> = r
        .hosts
        .iter()
        .map(|h| {
            let total: u64 = h.phase_times.iter().map(|t| t.milliseconds).sum();
            let drained = h.drained.map_or("-".into(), |d| format!("{} ({} cut)", d.in_flight, d.cut));
            let why = if h.reason.is_empty() { &h.detail } else { &h.reason };
            vec![
                batch_of.get(h.host.as_str()).map_or("-".into(), ToString::to_string),
                h.host.clone(),
                style::word(json::phase(h.phase)),
                style::word(json::outcome(h.outcome).unwrap_or("-")),
                json::fault(h.fault).unwrap_or("-").to_owned(),
                drained,
                text::span(i64::try_from(total).unwrap_or(0)),
                why.lines().next().unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    page.push_str(&table::render(
        &["BATCH", "HOST", "PHASE", "OUTCOME", "FAULT", "DRAINED", "TIME", "DETAIL"],
        &rows,
    ));
    out.data(&page)
}

#[derive(Debug, Clone, Copy)]
enum Steer {
    Pause,
    Resume,
    Abort,
}

impl Steer {
    /// What is to be done, and what is said then.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Pause => ("pause", "Paused"),
            Self::Resume => ("resume", "Resumed"),
            Self::Abort => ("abort", "Aborting"),
        }
    }
}

/// Gives the order; the rollout as it is then.
async fn order(client: &Client, act: RolloutAct, steer: Steer) -> Result<Wire> {
    let subject = format!("cannot {} rollout {}", steer.words().0, act.id);
    let request = RolloutRequest { id: act.id, reason: act.reason };
    let mut rollouts = client.rollouts.clone();
    let call = async {
        match steer {
            Steer::Pause => rollouts.pause(request).await,
            Steer::Resume => rollouts.resume(request).await,
            Steer::Abort => rollouts.abort(request).await,
        }
    };
    client.ask(&subject, call).await
}

async fn steer(invocation: &Invocation, client: &Client, act: RolloutAct, steer: Steer) -> Result {
    let rollout = order(client, act, steer).await?;
    let out = &invocation.out;
    if out.format.is_structured() {
        print(invocation, &rollout)?;
        return Ok(Exit::Done);
    }
    let id = &rollout.id;
    out.step(steer.words().1, &format!("{}, rollout {id}", summary::title(&rollout)));
    match steer {
        Steer::Pause => out.talk(&format!("no further host starts; windlass rollout resume {id}")),
        Steer::Resume | Steer::Abort => out.talk(&format!("windlass rollout watch {id}")),
    }
    Ok(Exit::Done)
}

async fn retry(invocation: &Invocation, act: RolloutAct, follow: &Follow) -> Result {
    let client = invocation.connect().await?;
    let request = RolloutRequest { id: act.id.clone(), reason: act.reason };
    let subject = format!("cannot retry rollout {}", act.id);
    let order = traced::Order::begin(&invocation.out, &invocation.spans, "rollout retry");
    let rollout = client.ask(&subject, client.rollouts.clone().retry(order.call(request))).await?;
    order.answered(&rollout);
    deploy::started(invocation, &client, rollout, follow).await
}

async fn history(invocation: &Invocation, client: &Client, request: ListRolloutsRequest) -> Result {
    let out = &invocation.out;
    let app = request.app.clone();
    let rollouts = fetch(client, request).await?;
    match out.format {
        Format::Name => rollouts.iter().try_for_each(|r| out.line(&r.id))?,
        format if format.is_structured() => {
            out.list(&json::rollout_list(&rollouts), "rollouts", "Rollout")?
        }
        _ if rollouts.is_empty() => out.talk(&format!("{app} has no rollouts")),
        _ => {
            let mut rows: Vec<Vec<String>> = rollouts
                .iter()
                .map(|r| {
                    let to = r.to.clone().unwrap_or_default();
                    let (done, all) = summary::confirmed(r);
                    let why = if r.failure.is_empty() { &r.reason } else { &r.failure };
                    let why = why.lines().next().unwrap_or_default();
                    vec![
                        r.revision.to_string(),
                        to.version,
                        text::short_digest(&to.digest).to_owned(),
                        r.started_by.clone(),
                        text::ago(r.started_at_ms),
                        style::word(&r.state),
                        format!("{done}/{all}"),
                        r.id.clone(),
                        if out.format == Format::Wide { why.to_owned() } else { text::cut(why, 60) },
                    ]
                })
                .collect();
            let mut header =
                vec!["REV", "VERSION", "BUNDLE", "BY", "WHEN", "STATE", "HOSTS", "ROLLOUT", "WHY"];
            tell_apart(&rollouts, &mut header, &mut rows, 0);
            out.data(&table::render(&header, &rows))?;
        }
    }
    Ok(Exit::Done)
}
