//! `windlass events`: who did what, and what changed.

use windlass_proto::rpc::{Event, EventsRequest};

use crate::args::Events;
use crate::error::Result;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json, style, text};
use crate::watch::interrupt::Interrupt;
use crate::watch::retry::Retry;

const SUBJECT: &str = "cannot read events";

/// Lists past events; with `--follow` goes on until interrupted.
pub async fn run(invocation: &Invocation, args: Events) -> Result {
    let out = &invocation.out;
    let client = invocation.connect().await?;
    let mut after = args.after;
    let mut limit = args.limit;
    let mut interrupt = Interrupt::listen()?;
    let mut retry = Retry::default();
    let mut past = Vec::new();
    loop {
        let request = EventsRequest {
            after,
            follow: args.follow,
            app: args.app.clone().unwrap_or_default(),
            host: args.host.clone().unwrap_or_default(),
            rollout: args.rollout.clone().unwrap_or_default(),
            limit,
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
                        after = event.seq;
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
        // Whoever follows waits for the coordinator to come back, and misses nothing that it kept.
        limit = u32::MAX;
        let failure = client.failure(SUBJECT, &status);
        tokio::select! {
            again = retry.wait(&status) => if !again { return Err(failure) },
            () = interrupt.first() => return Ok(Exit::Interrupted),
        }
    }
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
