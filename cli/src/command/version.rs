//! `windlass version`: this program's version and the coordinator's.

use serde_json::json;
use windlass_proto::rpc::InfoRequest;
use windlass_proto::version::PROGRAM;

use crate::args::Version;
use crate::error::Result;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json::wrap, text};

/// Shows versions. Without a configured coordinator the program's own is the whole answer.
pub async fn run(invocation: &Invocation, args: Version) -> Result {
    let out = &invocation.out;
    let configured = invocation.config().is_ok_and(|c| c.select(invocation.context.as_deref()).is_ok());
    let mut away = None;
    let mut info = None;
    if configured && !args.client {
        match invocation.connect().await {
            Ok(client) => {
                let response = client.fleet.clone().info(InfoRequest {}).await;
                match response {
                    Ok(response) => info = Some(client.received(response)),
                    Err(status) => away = Some(client.failure("cannot ask the coordinator", &status)),
                }
            }
            Err(error) => away = Some(error),
        }
    }
    if out.format == Format::Name {
        out.line(PROGRAM)?;
    } else if out.format.is_structured() {
        let coordinator = info.as_ref().map(|i| {
            json!({
                "version": i.version, "fleet": i.fleet, "epoch": i.epoch, "hosts": i.hosts,
                "sessions": i.sessions, "started_at": text::rfc3339(i.started_at_ms),
            })
        });
        out.object(&wrap("Version", json!({ "client": PROGRAM, "coordinator": coordinator })))?;
    } else {
        out.line(&format!("windlass     {PROGRAM}"))?;
        if let Some(i) = &info {
            out.line(&format!(
                "coordinator  {}  fleet {}, {}, up {}",
                i.version,
                i.fleet,
                text::count(i.hosts as usize, "host"),
                text::span(text::now_ms() - i.started_at_ms),
            ))?;
        }
    }
    // The client's version stands on stdout already; the exit code says the rest.
    away.map_or(Ok(Exit::Done), Err)
}
