//! `windlass app`: what is done to an app outside of a rollout.

use serde_json::json;
use windlass_proto::rpc::{ParoleRequest, ReleaseRef};

use crate::args::App;
use crate::error::Result;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::json as shown;

/// Runs the verb.
pub async fn run(invocation: &Invocation, verb: App) -> Result {
    match verb {
        App::Parole { app, release, reason } => {
            parole(invocation, ParoleRequest { app, release, reason }).await
        }
    }
}

async fn parole(invocation: &Invocation, request: ParoleRequest) -> Result {
    let out = &invocation.out;
    let client = invocation.connect().await?;
    let subject = format!("cannot parole {} {}", request.app, request.release);
    let answer = client.ask(&subject, client.fleet.clone().parole(request)).await?;
    let ReleaseRef { app, version, digest, .. } = answer.release.unwrap_or_default();
    if out.format.is_structured() {
        let fields = json!({
            "app": app, "version": version, "digest": digest,
            "failed_on": answer.failed_on, "rollout": answer.rollout,
        });
        out.object(&shown::wrap("Parole", fields))?;
        return Ok(Exit::Done);
    }
    let hosts = answer.failed_on.join(", ");
    out.step("Paroled", &format!("{app} {version}, which failed on {hosts} in rollout {}", answer.rollout));
    out.talk(
        "the next rollout of it is its one try; if it fails again by its own fault, it is poisoned again",
    );
    Ok(Exit::Done)
}
