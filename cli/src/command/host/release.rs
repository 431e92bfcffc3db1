//! `windlass host release`: a quarantine ends when the host says so.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use windlass_proto::rpc::{self, HostRequest, Phase, ReleaseHostRequest};

use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;

/// Between two looks at the host.
const LOOK: Duration = Duration::from_millis(500);

/// Tells the host, and waits for what comes of it.
pub(super) async fn run(invocation: &Invocation, request: ReleaseHostRequest, within: Duration) -> Result {
    let out = &invocation.out;
    let client = invocation.connect().await?;
    let host = request.host.clone();
    let mut fleet = client.fleet.clone();
    let call = fleet.release_host(request.clone());
    let told = client.ask(&format!("cannot release host {host}"), call).await?;
    let before = told.host.unwrap_or_default();
    if told.apps.is_empty() {
        let what = match request.app.as_str() {
            "" => "no quarantined app".to_owned(),
            app => format!("{app} in no quarantine"),
        };
        out.talk(&format!("{host} has {what}; nothing to release"));
        if out.format.is_structured() {
            super::print(invocation, &before)?;
        }
        return Ok(Exit::Done);
    }
    let seen: BTreeMap<String, u64> =
        before.apps.iter().map(|status| (status.app.clone(), status.seq)).collect();
    let news = |status: &&rpc::AppStatus| seen.get(&status.app).is_none_or(|seq| status.seq > *seq);
    let deadline = Instant::now() + within;
    let mut open = told.apps;
    let mut failed = Vec::new();
    loop {
        let now = look(&client, &host).await?;
        for status in now.apps.iter().filter(news) {
            let Some(at) = open.iter().position(|app| *app == status.app) else { continue };
            match status.phase() {
                Phase::Reverting => continue,
                Phase::Quarantined => {
                    failed.push(format!("{} is quarantined again: {}", status.app, status.reason))
                }
                _ => out.step("Released", &format!("{host}  {}", outcome(status))),
            }
            open.remove(at);
        }
        if open.is_empty() {
            if out.format.is_structured() {
                super::print(invocation, &now)?;
            }
            break;
        }
        if Instant::now() >= deadline {
            let apps = open.join(", ");
            let problem = format!(
                "host {host} has not said within {} s what became of {apps}; it was told",
                within.as_secs()
            );
            return Err(ExpectedError::new(Exit::TimedOut, problem)
                .hint(format!("windlass host show {host}"))
                .hint(format!("windlass events --host {host}")));
        }
        sleep(LOOK).await;
    }
    match failed.first() {
        None => Ok(Exit::Done),
        Some(_) => Err(ExpectedError::failed(format!("host {host}: {}", failed.join("; ")))
            .hint(format!("windlass why {host}"))
            .hint(format!(
                "windlass host release {host} --leave-down    (then deploy a release that works)"
            ))),
    }
}

async fn look(client: &Client, host: &str) -> Result<rpc::Host> {
    let request = HostRequest { host: host.to_owned(), ..HostRequest::default() };
    client.ask(&format!("cannot look at host {host}"), client.fleet.clone().get_host(request)).await
}

/// What became of an app.
fn outcome(status: &rpc::AppStatus) -> String {
    match &status.current {
        Some(release) => format!("{} is on {}", status.app, release.version),
        None => format!("{} is down; the next deploy starts it", status.app),
    }
}
