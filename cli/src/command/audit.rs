//! `windlass audit`: who asked for what, and whether the log is whole.

use std::error::Error as _;

use windlass_proto::digest::Digest;
use windlass_proto::rpc::audit::Head;
use windlass_proto::rpc::{AuditRecord, AuditRequest};
use windlass_proto::time::Timestamp;

use crate::args::Audit;
use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::heads::{HeadsError, Seen};
use crate::invocation::Invocation;
use crate::output::{Format, json, table, text};

const SUBJECT: &str = "cannot read the audit log";

/// Lists the newest records, or checks all of them. Either way what this machine has seen before must still be there.
pub async fn run(invocation: &Invocation, args: Audit) -> Result {
    let client = invocation.connect().await?;
    let seen = client.heads().seen().map_err(unreadable)?;
    match args.check {
        Some(asked) => check(invocation, &client, &Wanted { seen, asked }, args.accept_restored).await,
        None => {
            let newest = list(invocation, &client, args.last).await?;
            let lost = missing(&client, &seen).await?;
            if !lost.is_empty() {
                return Err(not_the_one(&lost, newest.as_ref()));
            }
            keep(invocation, client.heads().add(seen_now(newest.unwrap_or_default())).await);
            Ok(Exit::Done)
        }
    }
}

/// Gives the newest record, as it says it is.
async fn list(invocation: &Invocation, client: &Client, last: u32) -> Result<Option<Head>> {
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
    Ok(records.last().and_then(head_of))
}

fn row(record: &AuditRecord, wide: bool) -> Vec<String> {
    let at = text::rfc3339(record.at_ms).unwrap_or_default();
    let from = wide.then(|| [record.certificate.clone(), record.address.clone()]);
    let first = [record.seq.to_string(), at, record.who.clone()];
    let last = [record.method.clone(), record.about.clone(), record.outcome.clone()];
    first.into_iter().chain(from.into_iter().flatten()).chain(last).collect()
}

fn head_of(record: &AuditRecord) -> Option<Head> {
    let digest = Digest::try_from(record.digest.as_slice()).ok()?;
    Some(Head { seq: record.seq, digest })
}

fn seen_now(head: Head) -> Seen {
    Seen { head, at: Timestamp(text::now_ms()) }
}

fn unreadable(error: HeadsError) -> ExpectedError {
    ExpectedError::failed("what this machine has seen of the audit log cannot be used")
        .because(error)
        .hint("mend it, or move it away and start again without it")
}

/// Says that something cannot be kept; what was found stays found.
fn keep(invocation: &Invocation, kept: Result<(), HeadsError>) {
    if let Err(error) = kept {
        let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        invocation.out.warn(&format!("{error}{why}"));
    }
}

/// Which of these the log does not have, each asked for by its number.
async fn missing(client: &Client, seen: &[Seen]) -> Result<Vec<Seen>> {
    let mut lost = Vec::new();
    for one in seen {
        let request = AuditRequest { after: one.head.seq - 1, limit: 1, ..AuditRequest::default() };
        let mut found = None;
        read(client, request, |record| found = head_of(&record)).await?;
        if found != Some(one.head) {
            lost.push(*one);
        }
    }
    Ok(lost)
}

/// What was the last record once, and is no longer in the log.
fn gone(lost: &Seen, newest: Option<&Head>) -> String {
    let at = text::rfc3339(lost.at.0).unwrap_or_default();
    let Head { seq, digest } = lost.head;
    let now = match newest.filter(|newest| newest.seq >= seq) {
        Some(_) => format!("now record {seq} is another one"),
        None => format!("now the log ends with record {}", newest.map_or(0, |newest| newest.seq)),
    };
    format!("on {at} its last record was {seq} ({}), and {now}", digest.short())
}

fn not_the_one(lost: &[Seen], newest: Option<&Head>) -> ExpectedError {
    let error = ExpectedError::failed("the audit log is not the one that this machine has seen");
    let error = lost.iter().rev().take(3).fold(error, |error, lost| error.cause(gone(lost, newest)));
    error.hint("was the coordinator's state restored from an older copy? Ask who did it, and why").hint(
        "windlass audit --check --accept-restored    (where that was meant: this log counts from now on)",
    )
}

/// What a check has to find.
struct Wanted {
    /// What this machine has seen.
    seen: Vec<Seen>,
    /// What the caller has.
    asked: Option<Head>,
}

/// Follows the whole chain; whatever is wanted must be in it.
async fn check(invocation: &Invocation, client: &Client, wanted: &Wanted, accept_restored: bool) -> Result {
    let damaged = |what: String| {
        Err(ExpectedError::failed(format!("the audit log is damaged: {what}"))
            .hint("windlass audit --last 0 -o jsonl shows what is left of it; compare it with a backup"))
    };
    let mut head = Head::default();
    let mut lost = wanted.seen.clone();
    let mut is_known = wanted.asked.is_none_or(|asked| asked == head);
    let mut broken = None;
    // The chain is of what was written, to the byte.
    read(&client.clone().for_programs(), AuditRequest::default(), |record| {
        if broken.is_none() {
            broken = head.follow(&record).err();
        }
        is_known |= wanted.asked == Some(head);
        lost.retain(|seen| seen.head != head);
    })
    .await?;
    if let Some(broken) = broken {
        return damaged(broken.to_string());
    }
    if let Some(asked) = wanted.asked.filter(|_| !is_known) {
        return damaged(match asked.seq > head.seq {
            true => format!("it ends with record {}, and record {} was there", head.seq, asked.seq),
            false => format!("record {} is another one than the one you know", asked.seq),
        });
    }
    if !lost.is_empty() && !accept_restored {
        return Err(not_the_one(&lost, Some(&head)));
    }
    keep(invocation, client.heads().replace(seen_now(head)).await);
    let out = &invocation.out;
    for lost in &lost {
        out.warn(&format!("accepted as restored: {}", gone(lost, Some(&head))));
    }
    match out.format {
        Format::Table | Format::Wide => {
            out.line(&format!("{} records, none missing, none changed; the last is {head}", head.seq))?;
            out.talk(&format!(
                "this machine remembers it; to check it from another: windlass audit --check {head}"
            ));
        }
        Format::Name => out.line(&head.to_string())?,
        _ => {
            let forgotten: Vec<String> = lost.iter().map(|lost| lost.head.to_string()).collect();
            let whole = serde_json::json!({ "records": head.seq, "head": head.to_string(), "accepted_as_restored": forgotten });
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
