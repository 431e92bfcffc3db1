//! `windlass versions`: which release provably runs where.

use windlass_proto::rpc::{VersionRow, VersionsRequest};

use super::environment;
use crate::args::Versions;
use crate::error::Result;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json, style, table, text};

/// Shows what each host attests.
pub async fn run(invocation: &Invocation, args: Versions) -> Result {
    let out = &invocation.out;
    let client = invocation.connect().await?;
    let app = args.app.unwrap_or_default();
    let environment = environment::showing(&client, &app, args.env.as_deref()).await?;
    let request = VersionsRequest { app, environment };
    let rows = client.ask("cannot read versions", client.fleet.clone().versions(request)).await?.rows;
    match out.format {
        Format::Name => {
            for row in &rows {
                out.line(&row.host)?;
            }
        }
        format if format.is_structured() => out.list(&json::versions(&rows), "rows", "Version")?,
        _ if rows.is_empty() => out.talk("nothing runs yet; windlass deploy"),
        format => {
            let wide = format == Format::Wide;
            let mut header = vec!["HOST", "APP", "VERSION", "DIGEST", "PHASE", "ATTESTED", "PID", "SINCE"];
            if wide {
                header.extend(["EXE", "LINK"]);
            }
            let mut lines: Vec<Vec<String>> = rows.iter().map(|row| line(row, wide)).collect();
            if environment::several(rows.iter().map(|row| row.environment.as_str())) {
                header.insert(2, "ENV");
                lines.iter_mut().zip(&rows).for_each(|(line, row)| line.insert(2, or_dash(&row.environment)));
            }
            out.data(&table::render(&header, &lines))?;
            if rows.iter().any(|row| row.stale) {
                out.warn("hosts marked stale are silent: theirs is what they said last");
            }
        }
    }
    Ok(Exit::Done)
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn line(row: &VersionRow, wide: bool) -> Vec<String> {
    let status = row.status.clone().unwrap_or_default();
    let attested = status.attested.clone().unwrap_or_default();
    let release = json::running(&status);
    let digest = release.map_or(attested.digest.as_str(), |r| r.digest.as_str());
    let word = match (row.stale, attested.ok) {
        (true, _) => style::paint(style::WARN, "stale"),
        (false, true) => style::word("ok"),
        (false, false) => style::paint(style::BAD, "no"),
    };
    let mut line = vec![
        row.host.clone(),
        status.app.clone(),
        or_dash(release.map_or("", |r| r.version.as_str())),
        or_dash(text::short_digest(digest)),
        style::word(json::standing(&status)),
        word,
        if attested.pid == 0 { "-".into() } else { attested.pid.to_string() },
        text::ago(status.since_ms),
    ];
    if wide {
        line.extend([or_dash(&attested.exe), or_dash(&attested.link)]);
    }
    line
}
