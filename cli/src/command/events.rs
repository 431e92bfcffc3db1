//! `windlass events`: who did what, and what changed.

use windlass_proto::event::{Field, KINDS, Kind};
use windlass_proto::rpc::{Event, EventsRequest};

use crate::args::Events;
use crate::error::Result;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json, style, table, text};
use crate::watch::interrupt::Interrupt;
use crate::watch::retry::Retry;

const SUBJECT: &str = "cannot read events";
/// Past events when nobody says otherwise.
const PAST: u32 = 200;

/// Lists past events; with `--follow` goes on until interrupted.
pub async fn run(invocation: &Invocation, args: Events) -> Result {
    let out = &invocation.out;
    if args.kinds {
        return kinds(invocation);
    }
    let client = invocation.connect().await?;
    let mut after = args.after;
    let mut interrupt = Interrupt::listen()?;
    let mut retry = Retry::default();
    let mut past = Vec::new();
    loop {
        let request = EventsRequest {
            after: after.unwrap_or_default(),
            resume: after.is_some(),
            follow: args.follow,
            app: args.app.clone().unwrap_or_default(),
            host: args.host.clone().unwrap_or_default(),
            rollout: args.rollout.clone().unwrap_or_default(),
            limit: args.limit.unwrap_or(if after.is_some() { u32::MAX } else { PAST }),
        };
        let mut fleet = client.fleet.clone();
        let answer = tokio::select! {
            answer = fleet.events(request) => answer.map(tonic::Response::into_inner),
            () = interrupt.first() => return Ok(Exit::Interrupted),
        };
        let status = match answer {
            Err(status) => status,
            Ok(mut stream) => loop {
                let next = tokio::select! {
                    next = client.next(&mut stream) => next,
                    () = interrupt.first() => return Ok(Exit::Interrupted),
                };
                match next {
                    Ok(Some(event)) => {
                        retry.reset();
                        after = Some(event.seq);
                        if !args.follow && matches!(out.format, Format::Json | Format::Yaml) {
                            past.push(event);
                        } else {
                            show(invocation, &event)?;
                        }
                    }
                    Ok(None) => break tonic::Status::unavailable("the coordinator ended the stream"),
                    Err(status) => break status,
                }
            },
        };
        if !args.follow {
            if status.message() != "the coordinator ended the stream" {
                return Err(client.failure(SUBJECT, &status));
            }
            if matches!(out.format, Format::Json | Format::Yaml) {
                let events: serde_json::Value = past.iter().map(json::event).collect();
                out.object(&json::wrap("EventList", serde_json::json!({ "events": events })))?;
            }
            return Ok(Exit::Done);
        }
        // Whoever follows waits for the coordinator to come back, and misses nothing.
        let failure = client.failure(SUBJECT, &status);
        tokio::select! {
            again = retry.wait(&status) => if !again { return Err(failure) },
            () = interrupt.first() => return Ok(Exit::Interrupted),
        }
    }
}

/// What there is to follow, without a coordinator.
fn kinds(invocation: &Invocation) -> Result {
    let out = &invocation.out;
    match out.format {
        Format::Name => KINDS.iter().try_for_each(|kind| out.line(kind.name))?,
        Format::Table | Format::Wide => {
            let row =
                |kind: &Kind| vec![kind.name.to_owned(), fields(kind).join(" "), kind.meaning.to_owned()];
            let rows: Vec<_> = KINDS.iter().map(row).collect();
            out.data(&table::render(&["TYPE", "ABOUT", "MEANING"], &rows))?;
        }
        Format::Json | Format::Jsonl | Format::Yaml => {
            let kind = |kind: &Kind| {
                let may = kind.fields.iter().filter_map(|field| match field {
                    Field::May(field) => Some(*field),
                    Field::Has(_) => None,
                });
                let has = kind.fields.iter().filter_map(|field| match field {
                    Field::Has(field) => Some(*field),
                    Field::May(_) => None,
                });
                serde_json::json!({ "type": kind.name, "has": has.collect::<Vec<_>>(), "may_have": may.collect::<Vec<_>>(), "meaning": kind.meaning })
            };
            let kinds: serde_json::Value = KINDS.iter().map(kind).collect();
            out.object(&json::wrap("EventKinds", serde_json::json!({ "kinds": kinds })))?;
        }
    }
    Ok(Exit::Done)
}

/// Its fields for people: what may be absent has brackets.
fn fields(kind: &Kind) -> Vec<String> {
    let word = |field: &Field| match field {
        Field::Has(field) => (*field).to_owned(),
        Field::May(field) => format!("[{field}]"),
    };
    kind.fields.iter().map(word).collect()
}

fn show(invocation: &Invocation, event: &Event) -> Result<()> {
    let out = &invocation.out;
    match out.format {
        Format::Json | Format::Jsonl => out.line(&json::wrap("Event", json::event(event)).to_string()),
        Format::Yaml => out
            .data(&format!("---\n{}", crate::output::yaml::render(&json::wrap("Event", json::event(event))))),
        Format::Name => out.line(&event.seq.to_string()),
        Format::Table | Format::Wide => {
            let at = text::rfc3339(event.at_ms).unwrap_or_default();
            let at = if out.format == Format::Wide { at } else { text::clock(event.at_ms) };
            let about = [&event.rollout, &event.app, &event.host].into_iter().filter(|s| !s.is_empty());
            let about = about.map(String::as_str).collect::<Vec<_>>().join(" ");
            let by = if event.who.is_empty() { String::new() } else { format!("  ({})", event.who) };
            out.line(&format!(
                "{}  {:18} {about}{}{}{}",
                style::paint(style::DIM, &at),
                event.kind,
                if about.is_empty() { "" } else { "  " },
                event.message,
                style::paint(style::DIM, &by),
            ))
        }
    }
}
