//! `windlass deploy --supersede`: out of the way with the open rollout, for a hotfix that cannot wait for its end.

use tokio::time::Instant;
use windlass_proto::rpc::{ListRolloutsRequest, OrderRequest, Plan, RolloutRequest};
use windlass_proto::shown::Texts as _;
use windlass_proto::time::Span;

use super::plan;
use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::watch::{self, Aim, summary};

/// What became of the rollouts in the way.
pub enum Way {
    /// There was none; the plan holds.
    Free,
    /// They have ended: the plan is to be made again, with what is left of `--timeout`. A person has agreed already, where
    /// one could.
    Cleared(Option<Span>),
    /// The user stopped waiting; nothing was deployed.
    Left(Exit),
}

/// Aborts the open rollouts of the app that is planned, and waits until they have ended, however they end: the next plan
/// says what that left. Nothing is aborted where the plan could not work without them either.
///
/// # Errors
/// What else stands against the plan; a person who does not agree; the coordinator's refusal; exit 6 after `timeout`.
pub async fn make_way(
    invocation: &Invocation,
    client: &Client,
    planned: &Plan,
    request: &OrderRequest,
    yes: bool,
    timeout: Option<Span>,
) -> Result<Way> {
    let out = &invocation.out;
    if !planned.checks.iter().any(is_busy) {
        return Ok(Way::Free);
    }
    let without = without_busy(planned);
    plan::say_checks(out, &without.clone().for_eyes(), "deploy")?;
    let subject = format!("cannot deploy {}", request.app);
    let (app, environment) = (request.app.clone(), planned.environment.clone());
    let list = ListRolloutsRequest { app, environment, open_only: true, limit: 0 };
    let open = client.ask(&subject, client.rollouts.clone().list(list)).await?.rollouts;
    let version = planned.to.as_ref().map_or("?", |to| to.version.as_str());
    if !yes && out.can_ask() {
        plan::say(out, &without.for_eyes());
        let ids: Vec<&str> = open.iter().map(|rollout| rollout.id.as_str()).collect();
        let question = format!(
            "Stop rollout {}, take its hosts back, then deploy {} {version}?",
            ids.join(", "),
            request.app
        );
        if !out.ask(&question) {
            return Err(
                ExpectedError::failed("nothing was changed: not agreed to").hint("--yes answers beforehand")
            );
        }
    }
    let began = Instant::now();
    let left = || {
        timeout.map(|all| {
            Span(all.0.saturating_sub(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)))
        })
    };
    for rollout in open {
        let id = rollout.id;
        let request =
            RolloutRequest { id: id.clone(), reason: reason(&request.app, version, &request.reason) };
        let subject = format!("cannot abort rollout {id}");
        let aborting = client.ask(&subject, client.rollouts.clone().abort(request)).await?;
        out.step("Aborting", &format!("{}, rollout {id}", summary::title(&aborting.clone().for_eyes())));
        match watch::follow(invocation, client, &id, Some(aborting), Aim::MakeWay, left()).await? {
            Exit::Done => {}
            exit => {
                out.talk(&format!("{} {version} was not deployed", planned.app));
                return Ok(Way::Left(exit));
            }
        }
    }
    Ok(Way::Cleared(left()))
}

fn is_busy(check: &windlass_proto::rpc::Check) -> bool {
    check.id == "busy"
}

fn without_busy(planned: &Plan) -> Plan {
    let mut plan = planned.clone();
    plan.checks.retain(|check| !is_busy(check));
    plan
}

/// Why the rollout is aborted, for the record: what takes its place, and why.
fn reason(app: &str, version: &str, why: &str) -> String {
    let what = format!("superseded by {app} {version}");
    if why.is_empty() { what } else { format!("{what}: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_says_what_took_its_place_and_why() {
        assert_eq!(reason("web", "2.1", ""), "superseded by web 2.1");
        assert_eq!(reason("web", "2.1", "CVE"), "superseded by web 2.1: CVE");
    }
}
