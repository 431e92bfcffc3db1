//! The fleet's coordinator: started on the ports it had before, awaited, and given an operator.

use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::place::Place;
use super::ports::{free_address, is_free};
use super::process::{log_tail, spawn_detached};
use super::programs::Programs;
use super::record::CoordinatorRecord;
use super::wait::until;
use crate::config::{Config, Context};
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;

/// Name of the fleet and of its context.
pub(super) const FLEET: &str = "dev";
/// Where it listens.
const LOOPBACK: &str = "127.0.0.1";
/// How long another program may keep a port of a coordinator that is started again: most connections are short.
const FREED: Duration = Duration::from_secs(5);
/// Longest start: opening the store and making the CAs takes well under a second.
const START: Duration = Duration::from_secs(20);
/// The operator's certificate lives for 30 days; a younger one is kept.
const RENEW_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the coordinator writes when it has bound its ports.
#[derive(Deserialize)]
struct Addresses {
    agent: String,
    operator: String,
    #[serde(default)]
    metrics: Option<String>,
    pid: u32,
}

fn addresses(place: &Place) -> Option<Addresses> {
    serde_json::from_slice(&std::fs::read(place.addresses()).ok()?).ok()
}

/// Starts the coordinator and waits until it listens.
pub(super) async fn start(place: &Place, programs: &Programs, record: &mut CoordinatorRecord) -> Result<()> {
    let (agent, operator, metrics) = match addresses(place) {
        Some(Addresses { agent, operator, metrics, .. }) => (Some(agent), Some(operator), metrics),
        None => (None, None, None),
    };
    let agent = listens_at(place, "agents", agent).await?;
    let operator = listens_at(place, "operators", operator).await?;
    let metrics = listens_at(place, "metrics", metrics).await?;
    let state = place.coordinator_state();
    let args = [
        "run".as_ref(),
        "--state-dir".as_ref(),
        state.as_os_str(),
        "--fleet".as_ref(),
        FLEET.as_ref(),
        "--agent-listen".as_ref(),
        agent.as_ref(),
        "--operator-listen".as_ref(),
        operator.as_ref(),
        "--metrics-listen".as_ref(),
        metrics.as_ref(),
        "--dial-allow".as_ref(),
        "loopback".as_ref(),
    ];
    let process = spawn_detached(&programs.windlass, &programs.coordinator, args, &record.log)?;
    record.set_process(Some(process));
    let bound = until(START, async || match addresses(place) {
        Some(bound) if bound.pid == process.pid => Some(Some(bound)),
        _ if !process.is_alive() => Some(None),
        _ => None,
    });
    let failed = |what: &str| ExpectedError::failed(what.to_owned()).cause(log_tail(&record.log, 12));
    let bound = match bound.await {
        Some(Some(bound)) => bound,
        Some(None) => return Err(failed("the coordinator ended while it was starting")),
        None => return Err(failed(&format!("the coordinator did not listen within {} s", START.as_secs()))),
    };
    (record.address, record.agent_address) = (bound.operator, bound.agent);
    record.metrics = bound.metrics.unwrap_or_default();
    Ok(())
}

/// The address that it had before, once nobody else has it; at first one that is free.
async fn listens_at(place: &Place, who: &str, before: Option<String>) -> Result<String> {
    let Some(address) = before else {
        return free_address(LOOPBACK)
            .ok_or_else(|| ExpectedError::failed(format!("cannot find a free port of {LOOPBACK}")));
    };
    match until(FREED, async || is_free(&address).then_some(())).await {
        Some(()) => Ok(address),
        None => Err(taken(place, who, &address)),
    }
}

/// Agents and contexts know the port that the coordinator had, so another one would be no help: says who is in the way.
fn taken(place: &Place, who: &str, address: &str) -> ExpectedError {
    let port = address.rsplit(':').next().unwrap_or_default();
    let dir = place.dir().display();
    let why = format!("its address for {who}, {address}, is taken by another program");
    let error = ExpectedError::new(Exit::Conflict, format!("cannot start the coordinator: {why}"))
        .hint(format!("ss -ltnp 'sport = :{port}'    (shows which)"))
        .hint(format!(
            "windlass dev down --dir {dir} && rm {} && windlass dev up --dir {dir}    (moves to new ports)",
            place.addresses().display()
        ));
    match TcpListener::bind(address) {
        Ok(_) => error,
        Err(cause) => error.because(cause),
    }
}

/// Issues the operator's certificate where it is missing or getting old, and writes the context.
pub(super) async fn introduce_operator(
    place: &Place,
    programs: &Programs,
    record: &CoordinatorRecord,
) -> Result<()> {
    let age = place.operator_certificate().metadata().and_then(|meta| meta.modified());
    let fresh = age.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < RENEW_AFTER));
    if !fresh {
        let mut issue = tokio::process::Command::new(&programs.coordinator);
        issue.args(["issue-operator", "--name", "admin", "--days", "30", "--state-dir"]);
        issue.arg(place.coordinator_state()).arg("--out").arg(place.dir()).kill_on_drop(true);
        let failed =
            |cause: String| ExpectedError::failed("cannot issue the operator's certificate").cause(cause);
        let output = tokio::time::timeout(START, issue.output())
            .await
            .map_err(|_| failed(format!("no end within {} s", START.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
    }
    let mut config = Config { path: place.config(), current: Some(FLEET.into()), ..Config::default() };
    let context = Context {
        coordinator: record.address.clone(),
        ca: "ca.pem".into(),
        certificate: "admin.pem".into(),
        key: "admin.key".into(),
        author_keys: vec!["keys/author.key".into()],
    };
    config.contexts.insert(FLEET.into(), context);
    config.save()
}
