//! `windlass deploy`: validate, build, sign, push, plan, start, watch.

use uuid::Uuid;
use windlass_proto::rpc::{Check, OrderRequest, Plan, Rollout};
use windlass_proto::shown::Texts as _;

use super::bundle::author;
use super::bundle::grant::{self, Own};
use super::order::{self, Target};
use super::plan;
use super::supersede::{Way, make_way};
use crate::args::{Deploy, Follow};
use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::grant::Draft;
use crate::invocation::Invocation;
use crate::output::{Format, json, text};
use crate::traced;
use crate::watch::{self, Aim, retry::Retry, summary};

/// Deploys.
pub async fn run(invocation: &Invocation, args: Deploy) -> Result {
    let (client, order) = order::prepare(invocation, &args.order).await?;
    start(invocation, &client, order, args.yes, args.supersede, &args.follow).await
}

/// Plans, asks where it is due, starts and follows: what `deploy` and `rollback` share.
pub async fn start(
    invocation: &Invocation,
    client: &Client,
    target: Target,
    mut yes: bool,
    supersede: bool,
    follow: &Follow,
) -> Result {
    let out = &invocation.out;
    let mut follow = follow.clone();
    let mut request = OrderRequest { idempotency_key: Uuid::new_v4().to_string(), ..target.request };
    let doing = if request.rollback { "roll back" } else { "deploy" };
    let subject = format!("cannot {doing} {}", request.app);
    let mut planned = client.ask(&subject, client.rollouts.clone().plan(request.clone())).await?;
    if supersede {
        match make_way(invocation, client, &planned, &request, yes, follow.timeout).await? {
            Way::Free => {}
            Way::Cleared(left) => {
                (yes, follow.timeout) = (true, left);
                planned = client.ask(&subject, client.rollouts.clone().plan(request.clone())).await?;
            }
            Way::Left(exit) => return Ok(exit),
        }
    }
    let named = !request.target.is_empty();
    if let Some(chosen) = choose(invocation, &planned, yes) {
        request.target = chosen;
        planned = client.ask(&subject, client.rollouts.clone().plan(request.clone())).await?;
    }
    let own = if request.rollback { grant::own(invocation, &planned)? } else { None };
    let granting = match own {
        Some(Own::Enough(draft, keys)) => {
            sign_first(&mut planned, &draft);
            plan::say_checks(out, &planned.clone().for_eyes(), doing)?;
            Some((draft, keys))
        }
        Some(Own::Lacking(lacks)) => {
            plan::say_checks(out, &planned.clone().for_eyes(), doing)
                .map_err(|error| with_lacking(error, &planned, lacks))?;
            None
        }
        None => {
            plan::say_checks(out, &planned.clone().for_eyes(), doing)?;
            None
        }
    };
    let hosts: usize = planned.batches.iter().map(|batch| batch.hosts.len()).sum();
    let version = planned.to.as_ref().map_or("?", |to| to.version.as_str());
    if hosts == 0 && request.rollback && !named {
        // Asked to leave the current release, it must not say done where nothing moves.
        let message = format!("{subject}: {version} is on every host that can take part already");
        return Err(ExpectedError::new(Exit::Conflict, message).hint("windlass host list"));
    }
    if hosts == 0 {
        match out.format {
            format if format.is_structured() => out.object(&json::wrap("Plan", json::plan(&planned)))?,
            _ => out.step(
                "Unchanged",
                &format!("{} {version} is on all {} hosts already", planned.app, planned.unchanged.len()),
            ),
        }
        return Ok(Exit::Done);
    }
    agree(invocation, &planned, request.rollback, yes)?;
    if let Some((mut draft, keys)) = granting {
        draft.sign(keys.iter().map(|named| &named.key));
        grant::push(client, &draft.signed).await?;
        out.step("Granted", &format!("{}, signed by {}", draft.describe(), author::names(&keys)));
    }
    let rollout = order_start(invocation, client, &request, doing).await?;
    started(invocation, client, rollout, &follow).await
}

/// The plan as it is with the grant that will be signed.
fn sign_first(planned: &mut Plan, draft: &Draft) {
    planned.checks.retain(|check| check.id != "grant");
    let hosts = planned.grant.as_ref().map(|terms| terms.hosts.join(", ")).unwrap_or_default();
    let message = format!("{hosts}: will be granted {}", draft.describe());
    planned.checks.push(Check { id: "grant".into(), level: "ok".into(), message });
}

/// What the operator's own keys are short of, beside the refusal that they could have spared.
fn with_lacking(error: ExpectedError, planned: &Plan, lacks: Vec<String>) -> ExpectedError {
    if !planned.checks.iter().any(|check| check.id == "grant" && check.level == "error") {
        return error;
    }
    let lines = lacks.into_iter().map(|line| format!("signed with your author keys, {line}"));
    lines.fold(error, ExpectedError::line)
}

/// Says that a rollout began, and follows it or not.
pub async fn started(invocation: &Invocation, client: &Client, rollout: Rollout, follow: &Follow) -> Result {
    let out = &invocation.out;
    let id = rollout.id.clone();
    let way = if out.is_live() && !follow.detach { "   (Ctrl-C detaches; the rollout goes on)" } else { "" };
    out.step(
        "Started",
        &format!("{}, revision {}, rollout {id}{way}", summary::title(&rollout), rollout.revision),
    );
    if follow.detach {
        match out.format {
            format if format.is_structured() => {
                out.object(&json::wrap("Rollout", json::rollout(&rollout)))?
            }
            _ => out.line(&id)?,
        }
        if out.format == Format::Table {
            out.talk(&format!("windlass rollout watch {id}"));
        }
        return Ok(Exit::Done);
    }
    watch::follow(invocation, client, &id, Some(rollout), Aim::Success, follow.timeout).await
}

/// Asks which release a rollback is to lead to, where that is not certain and a person can answer. `--yes` answers no such
/// question: the plan's own error is what is left then.
fn choose(invocation: &Invocation, planned: &Plan, yes: bool) -> Option<String> {
    let out = &invocation.out;
    if planned.candidates.is_empty() || yes || !out.can_ask() {
        return None;
    }
    for check in planned.checks.iter().filter(|check| check.level == "error") {
        out.warn(&check.message);
    }
    for (n, candidate) in (1..).zip(&planned.candidates) {
        out.talk(&format!("  {n}) {}", candidate.about));
    }
    let question = format!("Roll {} back to which? (a number; anything else: none)", planned.app);
    let chosen = out.ask_number(&question)?.checked_sub(1)?;
    planned.candidates.get(chosen)?.release.as_ref().map(|release| release.digest.clone())
}

/// Where a person can answer, the plan is shown and asked about; elsewhere nobody is asked.
fn agree(invocation: &Invocation, planned: &Plan, rollback: bool, yes: bool) -> Result<()> {
    let out = &invocation.out;
    let hosts: usize = planned.batches.iter().map(|batch| batch.hosts.len()).sum();
    let largest = planned.batches.iter().map(|batch| batch.hosts.len()).max().unwrap_or(0);
    let all = hosts + planned.unchanged.len();
    let wide = all > 1 && largest * 2 > all && planned.checks.iter().any(|check| check.id == "wide");
    if yes || !out.can_ask() {
        return Ok(());
    }
    let planned = &planned.clone().for_eyes();
    plan::say(out, planned);
    let version = planned.to.as_ref().map_or("?", |to| to.version.as_str());
    let app = text::app(&planned.app, &planned.environment);
    let question = if rollback {
        format!("Roll {app} back to {version} on {hosts} hosts now?")
    } else if wide {
        format!(
            "This puts up to {largest} of {all} hosts out of service at once. Deploy {app} {version} now?"
        )
    } else {
        format!("Deploy {app} {version} on {} now?", text::count(hosts, "host"))
    };
    if out.ask(&question) {
        Ok(())
    } else {
        Err(ExpectedError::failed("nothing was changed: not agreed to").hint("--yes answers beforehand"))
    }
}

/// Starts; a call that broke is repeated with the same key, so that it is one rollout.
async fn order_start(
    invocation: &Invocation,
    client: &Client,
    request: &OrderRequest,
    doing: &str,
) -> Result<Rollout> {
    let verb = if request.rollback { "rollback" } else { "deploy" };
    let order = traced::Order::begin(&invocation.out, &invocation.spans, verb);
    let subject = format!("cannot {doing} {}", request.app);
    let mut retry = Retry::brief();
    loop {
        let mut rollouts = client.rollouts.clone();
        let call = rollouts.start(order.call(request.clone()));
        let answer = tokio::time::timeout(std::time::Duration::from_secs(30), call).await;
        let status = match answer {
            Ok(Ok(rollout)) => {
                let rollout = client.received(rollout);
                order.answered(&rollout);
                return Ok(rollout);
            }
            Ok(Err(status)) => status,
            Err(_) => tonic::Status::deadline_exceeded("no answer within 30 s"),
        };
        if !retry.wait(&status).await {
            let error = client.failure(&subject, &status);
            return Err(match windlass_proto::rpc::ErrorKind::of(&status) {
                windlass_proto::rpc::ErrorKind::Busy => error
                    .hint("windlass rollout list --open")
                    .hint("windlass rollout watch ID    (or: windlass rollout abort ID)"),
                windlass_proto::rpc::ErrorKind::Poisoned => error.hint("deploy a new version that mends it"),
                _ => error,
            });
        }
    }
}
