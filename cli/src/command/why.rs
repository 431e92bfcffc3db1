//! `windlass why`: the first cause of a failure, and the evidence that was frozen before the revert.

use windlass_proto::rpc::{Evidence, WhyRequest};

use super::environment;
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
    let subject = format!("cannot explain {}", args.subject);
    let environment = environment::showing(&client, "", args.env.as_deref()).await?;
    let request = WhyRequest { subject: args.subject.clone(), environment };
    let why = client.ask(&subject, client.fleet.clone().why(request)).await?;
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
    for group in grouped(&why.evidence) {
        out.line(&format!("\n{}", style::paint(style::DIM, &group.title)))?;
        for line in group.lines {
            out.line(&format!("  {line}"))?;
        }
    }
    Ok(Exit::Done)
}

struct Group {
    title: String,
    lines: Vec<String>,
}

/// Evidence as people read it: items of one kind in a row together, repetitions counted, the end of a long log.
fn grouped(evidence: &[Evidence]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for items in evidence.chunk_by(|a, b| a.kind == b.kind) {
        let (Some(first), Some(last)) = (items.first(), items.last()) else { continue };
        let (from, to) = (text::clock(first.at_ms), text::clock(last.at_ms));
        let title = if from == to {
            format!("{}  {from}", first.kind)
        } else {
            format!("{}  {from} to {to}", first.kind)
        };
        let lines: Vec<&str> = items.iter().flat_map(|item| item.text.trim_end().lines()).collect();
        let mut told: Vec<String> = lines
            .chunk_by(|a, b| same(a, b))
            .filter_map(|run| {
                let last = run.last()?;
                Some(if run.len() > 1 {
                    format!("{last}   ({} times)", run.len())
                } else {
                    (*last).to_owned()
                })
            })
            .collect();
        // A log's end says more than its beginning.
        let skipped = told.len().saturating_sub(LINES);
        if skipped > 0 {
            told.drain(..skipped);
            told.insert(0, format!("... {skipped} lines before these: -o json shows all"));
        }
        groups.push(Group { title, lines: told });
    }
    groups
}

/// Equal but for numbers: durations, ports and times differ in what is said again and again.
fn same(a: &str, b: &str) -> bool {
    let plain = |text: &str| {
        text.split(|c: char| c.is_ascii_digit())
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_told_once() {
        let item = |kind: &str, at_ms, text: &str| Evidence { kind: kind.into(), at_ms, text: text.into() };
        let groups = grouped(&[
            item("log", 1000, "start\nready\n"),
            item("probe", 2000, "failed in 1ms: 503"),
            item("probe", 3000, "failed in 12ms: 503"),
            item("probe", 4000, "connection refused"),
        ]);
        assert_eq!(groups[0].lines, ["start", "ready"]);
        assert_eq!(groups[1].title, "probe  00:00:02Z to 00:00:04Z");
        assert_eq!(groups[1].lines, ["failed in 12ms: 503   (2 times)", "connection refused"]);
        let long: String = (0..50).map(|n| format!("{}\n", "x".repeat(n + 1))).collect();
        let groups = grouped(&[item("log", 0, &long)]);
        assert_eq!(
            (groups[0].lines.len(), groups[0].lines[0].as_str()),
            (21, "... 30 lines before these: -o json shows all")
        );
    }
}
