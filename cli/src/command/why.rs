//! `windlass why`: the first cause of a failure, and the evidence that was frozen before the revert.

use windlass_proto::rpc::WhyRequest;

use crate::args::Why;
use crate::error::Result;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{json, style, text};

/// Most lines of one piece of evidence that a table shows; `-o json` has all.
const LINES: usize = 20;

/// Names the cause.
pub async fn run(invocation: &Invocation, args: Why) -> Result {
    let out = &invocation.out;
    let client = invocation.connect().await?;
    let why = client
        .ask(
            &format!("cannot explain {}", args.subject),
            client.fleet.clone().why(WhyRequest { subject: args.subject.clone() }),
        )
        .await?;
    if out.format.is_structured() {
        out.object(&json::why(&why))?;
        return Ok(Exit::Done);
    }
    let Some(fault) = json::fault(why.fault) else {
        out.line(&if why.cause.is_empty() { format!("{} has not failed", args.subject) } else { why.cause })?;
        return Ok(Exit::Done);
    };
    let about: Vec<&str> =
        [&why.host, &why.rollout].into_iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
    out.line(&format!("{}  {}", about.join("  "), style::paint(style::BAD, &format!("fault: {fault}"))))?;
    out.line(&format!("  {}", why.cause))?;
    for item in &why.evidence {
        out.line(&format!(
            "\n{}",
            style::paint(style::DIM, &format!("{}  {}", item.kind, text::clock(item.at_ms)))
        ))?;
        let lines: Vec<&str> = item.text.trim_end().lines().collect();
        // A log's end says more than its beginning.
        let skipped = if item.kind == "log" { lines.len().saturating_sub(LINES) } else { 0 };
        if skipped > 0 {
            out.line(&format!("  ... {skipped} lines before these: -o json shows all"))?;
        }
        for line in lines.iter().skip(skipped).take(LINES) {
            out.line(&format!("  {line}"))?;
        }
        if skipped == 0 && lines.len() > LINES {
            out.line(&format!("  ... {} more lines: -o json shows all", lines.len() - LINES))?;
        }
    }
    Ok(Exit::Done)
}
