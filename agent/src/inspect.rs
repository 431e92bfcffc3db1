//! What a person sees of a host's releases: the answers to `windlass-agent releases` and `inspect`, as data and as text.
//!
//! Links and directories are read from the disk; what only the store knows (history, evidence) comes from there.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::fence::{Fence, Obeyed};
use windlass_proto::id::AppName;
use windlass_proto::shown;

use crate::held;
use crate::journal::Latest;
use crate::layout::Layout;
use crate::link;
use crate::pin;
use crate::store::{EvidenceRow, HistoryRow, ReleaseRow, ReleaseStore, StoreError};

/// An app and the releases of it that this host holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReleases {
    /// The app.
    pub app: AppName,
    /// What `current` names.
    pub current: Option<Digest>,
    /// What `confirmed` names.
    pub confirmed: Option<Digest>,
    /// Something wrong with a link or the store; empty if nothing is.
    pub problem: String,
    /// Its releases, newest counter first.
    pub releases: Vec<ReleaseRow>,
    /// Those that somebody wants to stay.
    pub pinned: Vec<Digest>,
}

/// All that this host keeps of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppInspection {
    /// Its releases.
    #[serde(flatten)]
    pub releases: AppReleases,
    /// Highest counter seen, by the journal.
    pub floor: Option<u64>,
    /// The machine's last durable state, by the journal.
    pub state: Option<serde_json::Value>,
    /// Deployments, newest first.
    pub history: Vec<HistoryRow>,
    /// Evidence, newest first.
    pub evidence: Vec<EvidenceRow>,
}

/// The releases of all apps, or of one. A store that cannot be read, as on a broken disk, is a problem and no reason to show
/// nothing: directories and links say the rest.
pub fn releases(layout: &Layout, store: &dyn ReleaseStore, only: Option<&AppName>) -> Vec<AppReleases> {
    let apps = held::apps(layout).into_iter().filter(|app| only.is_none_or(|only| only == app));
    apps.map(|app| {
        let mut problem = String::new();
        let mut named = |link: Result<Option<Digest>, link::LinkError>| {
            link.unwrap_or_else(|error| {
                problem = error.to_string();
                None
            })
        };
        let (current, confirmed) = (named(link::current(layout, &app)), named(link::confirmed(layout, &app)));
        let mut releases = read(store.releases(&app), &mut problem);
        for digest in held::digests(layout, &app) {
            if releases.iter().all(|row| row.release.digest != digest)
                && let Ok(row) = held::row(layout, &app, &digest)
            {
                releases.push(row);
            }
        }
        releases.sort_by(|one, other| {
            other.release.counter.cmp(&one.release.counter).then(other.staged_at.cmp(&one.staged_at))
        });
        let digests = releases.iter().map(|row| row.release.digest);
        let pinned = digests.filter(|digest| pin::is_pinned(&layout.release(&app, digest))).collect();
        AppReleases { app, current, confirmed, problem, releases, pinned }
    })
    .collect()
}

fn read<T>(rows: Result<Vec<T>, StoreError>, problem: &mut String) -> Vec<T> {
    rows.unwrap_or_else(|error| {
        *problem = error.to_string();
        Vec::new()
    })
}

/// Everything about all apps, or one. `latest` is what the journal says.
pub fn inspect(
    layout: &Layout,
    store: &dyn ReleaseStore,
    latest: &Latest,
    only: Option<&AppName>,
) -> Vec<AppInspection> {
    let apps = releases(layout, store, only).into_iter();
    apps.map(|mut releases| {
        let app = releases.app.clone();
        AppInspection {
            floor: latest.floors.get(&app).copied(),
            state: latest.states.get(&app).and_then(|state| serde_json::from_slice(state).ok()),
            history: read(store.history(&app), &mut releases.problem),
            evidence: read(store.evidence(&app), &mut releases.problem),
            releases,
        }
    })
    .collect()
}

/// Releases as lines: `*` marks the current one.
pub fn releases_text(apps: &[AppReleases]) -> String {
    let mut text = String::new();
    for app in apps {
        if !app.problem.is_empty() {
            line(&mut text, format_args!("{}: {}", app.app, app.problem));
        }
        for row in &app.releases {
            let digest = Some(row.release.digest);
            let mark = if app.current == digest { '*' } else { ' ' };
            let confirmed = match row.confirmed_at {
                _ if app.confirmed == digest => "confirmed",
                Some(_) => "was confirmed",
                None => "never confirmed",
            };
            let pinned = if app.pinned.contains(&row.release.digest) { ", pinned" } else { "" };
            let ReleaseRow { release, bytes, .. } = row;
            line(
                &mut text,
                format_args!(
                    "{mark} {:<16} {:<16} {}  counter {:<6} {:>12} bytes  {confirmed}{pinned}",
                    release.app,
                    release.version,
                    release.digest.short(),
                    release.counter,
                    bytes
                ),
            );
        }
    }
    if text.is_empty() {
        text.push_str("no releases on this host\n");
    }
    text
}

/// Everything as lines.
pub fn inspect_text(apps: &[AppInspection]) -> String {
    let mut text = String::new();
    for app in apps {
        text.push_str(&releases_text(std::slice::from_ref(&app.releases)));
        if let Some(floor) = app.floor {
            line(&mut text, format_args!("  highest counter seen: {floor}"));
        }
        if let Some(obeyed) = obeyed(app) {
            line(&mut text, format_args!("  this host obeys {obeyed}"));
        }
        for row in &app.history {
            let reason = if row.reason.is_empty() { String::new() } else { format!(": {}", row.reason) };
            line(
                &mut text,
                format_args!(
                    "  {} {} to {} {}{reason}",
                    row.rollout,
                    row.op,
                    row.release.version,
                    row.outcome.word()
                ),
            );
        }
        for row in &app.evidence {
            line(&mut text, format_args!("  evidence of {}: {} ({} bytes)", row.op, row.file, row.bytes));
        }
    }
    if text.is_empty() { "no apps on this host\n".into() } else { text }
}

/// Whom the host had obeyed when the app's last record was made.
fn obeyed(app: &AppInspection) -> Option<Fence> {
    let obeyed = app.state.as_ref()?.get("obeyed")?.clone();
    serde_json::from_value::<Obeyed>(obeyed).ok().map(|obeyed| obeyed.signed.fence)
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Reasons quote applications, and root reads them. Writing to a string cannot fail.
    let _ = writeln!(text, "{}", shown::line(&content.to_string()));
}
