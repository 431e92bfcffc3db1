//! `windlass audit`: who asked for what, and whether the log is whole.

use windlass_proto::rpc::audit::Head;
use windlass_proto::rpc::{AuditRecord, AuditRequest};

use crate::args::Audit;
use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json, table, text};

const SUBJECT: &str = "cannot read the audit log";

/// Lists the newest records, or checks all of them.
pub async fn run(invocation: &Invocation, args: Audit) -> Result {
    let client = invocation.connect().await?;
    match args.check {
        Some(known) => check(invocation, &client, known).await,
        None => list(invocation, &client, args.last).await,
    }
}

async fn list(invocation: &Invocation, client: &Client, last: u32) -> Result {
    let mut records = Vec::new();
    read(client, AuditRequest { last, ..AuditRequest::default() }, |record| records.push(record)).await?;
    let out = &invocation.out;
    match out.format {
        Format::Name => records.iter().try_for_each(|record| out.line(&record.seq.to_string()))?,
        format if format.is_structured() => {
            let all: serde_json::Value = records.iter().map(json::audit_record).collect();
            out.list(
                &json::wrap("AuditLog", serde_json::json!({ "records": all })),
                "records",
                "AuditRecord",
            )?;
        }
        _ if records.is_empty() => out.talk("nobody has asked for anything yet"),
        format => {
            let wide = format == Format::Wide;
            let header: &[&str] = match wide {
                true => &["SEQ", "AT", "WHO", "CERTIFICATE", "FROM", "ASKED FOR", "ABOUT", "OUTCOME"],
                false => &["SEQ", "AT", "WHO", "ASKED FOR", "ABOUT", "OUTCOME"],
            };
            let rows: Vec<Vec<String>> = records.iter().map(|record| row(record, wide)).collect();
            out.data(&table::render(header, &rows))?;
        }
    }
    Ok(Exit::Done)
}

fn row(record: &AuditRecord, wide: bool) -> Vec<String> {
    let at = text::rfc3339(record.at_ms).unwrap_or_default();
    let from = wide.then(|| [record.certificate.clone(), record.address.clone()]);
    let first = [record.seq.to_string(), at, record.who.clone()];
    let last = [record.method.clone(), record.about.clone(), record.outcome.clone()];
    first.into_iter().chain(from.into_iter().flatten()).chain(last).collect()
}

/// Follows the whole chain; a head that somebody kept must be in it.
async fn check(invocation: &Invocation, client: &Client, known: Option<Head>) -> Result {
    let damaged = |what: String| {
        Err(ExpectedError::failed(format!("the audit log is damaged: {what}"))
            .hint("windlass audit --last 0 -o jsonl shows what is left of it; compare it with a backup"))
    };
    let mut head = Head::default();
    let mut is_known = known.is_none_or(|known| known == head);
    let mut broken = None;
    // The chain is of what was written, to the byte.
    read(&client.clone().for_programs(), AuditRequest::default(), |record| {
        if broken.is_none() {
            broken = head.follow(&record).err();
        }
        is_known |= known == Some(head);
    })
    .await?;
    if let Some(broken) = broken {
        return damaged(broken.to_string());
    }
    if let Some(known) = known.filter(|_| !is_known) {
        return damaged(match known.seq > head.seq {
            true => format!("it ends with record {}, and record {} was there", head.seq, known.seq),
            false => format!("record {} is another one than the one you know", known.seq),
        });
    }
    let out = &invocation.out;
    match out.format {
        Format::Table | Format::Wide => {
            out.line(&format!("{} records, none missing, none changed; the last is {head}", head.seq))?;
            out.talk(&format!("to see later that none of them is gone: windlass audit --check {head}"));
        }
        Format::Name => out.line(&head.to_string())?,
        _ => {
            let whole = serde_json::json!({ "records": head.seq, "head": head.to_string() });
            out.object(&json::wrap("AuditCheck", whole))?;
        }
    }
    Ok(Exit::Done)
}

/// Reads records one after the other.
async fn read(client: &Client, request: AuditRequest, mut each: impl FnMut(AuditRecord)) -> Result<()> {
    let mut stream = client.open(SUBJECT, client.fleet.clone().audit(request)).await?;
    while let Some(record) =
        client.next(&mut stream).await.map_err(|status| client.failure(SUBJECT, &status))?
    {
        each(record);
    }
    Ok(())
}
