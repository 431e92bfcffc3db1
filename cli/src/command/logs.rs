//! `windlass logs`: what an app wrote last, on each of its hosts.

use serde_json::{Value, json};
use windlass_proto::rpc::{HostLog, LogsRequest};
use windlass_proto::shown::line;

use super::environment;
use crate::args::Logs;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json, style};

/// Shows the lines as the hosts answer, in the order of their names.
pub async fn run(invocation: &Invocation, args: Logs) -> Result {
    let out = &invocation.out;
    let client = invocation.connect().await?;
    let subject = format!("cannot read the logs of {}", args.app);
    let environment = environment::showing(&client, &args.app, args.env.as_deref()).await?;
    let request = LogsRequest { app: args.app.clone(), environment, hosts: args.host, lines: args.lines };
    let mut stream = client.open(&subject, client.fleet.clone().logs(request)).await?;
    let mut heard = Vec::new();
    while let Some(log) =
        client.next(&mut stream).await.map_err(|status| client.failure(&subject, &status))?
    {
        if !log.problem.is_empty() {
            out.warn(&format!("{}: {}", log.host, line(&log.problem)));
        }
        match out.format {
            Format::Json | Format::Yaml => {}
            Format::Jsonl => out.line(&json::wrap("HostLog", host_log(&log)).to_string())?,
            Format::Name => out.line(&log.host)?,
            Format::Table | Format::Wide => show(invocation, &log)?,
        }
        heard.push(log);
    }
    if matches!(out.format, Format::Json | Format::Yaml) {
        let hosts: Value = heard.iter().map(host_log).collect();
        out.object(&json::wrap("Logs", json!({ "app": args.app, "hosts": hosts })))?;
    }
    if heard.is_empty() {
        out.talk(&format!("no host has {} yet; windlass deploy", args.app));
    } else if heard.iter().all(|log| !log.problem.is_empty()) {
        return Err(ExpectedError::failed(format!("{subject}: no host has answered with any")));
    }
    Ok(Exit::Done)
}

/// Each line says whose it is: what is read here is read by `grep` too.
fn show(invocation: &Invocation, log: &HostLog) -> Result<()> {
    let version = log.release.as_ref().map(|release| release.version.as_str()).unwrap_or_default();
    let head = match invocation.out.format {
        Format::Wide => format!("{} {version} |", log.host),
        _ => format!("{} |", log.host),
    };
    let head = style::paint(style::DIM, &head);
    let lines: String = log.lines.iter().map(|line| format!("{head} {line}\n")).collect();
    invocation.out.data(&lines)
}

fn host_log(log: &HostLog) -> Value {
    json!({
        "host": log.host,
        "version": log.release.as_ref().map(|release| release.version.as_str()),
        "digest": log.release.as_ref().map(|release| release.digest.as_str()),
        "lines": log.lines,
        "problem": (!log.problem.is_empty()).then_some(log.problem.as_str()),
    })
}
