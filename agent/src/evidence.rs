//! What is kept of a failed release before it is gone: log, probes, exit, link. Bounded, and on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use windlass_proto::digest::Digest;
use windlass_proto::id::OpId;
use windlass_proto::limits::EVIDENCE_BYTES;
use windlass_proto::phase::Evidence;
use windlass_proto::spec::ReleaseSpec;
use windlass_proto::time::Span;

use crate::clock;
use crate::file::{self, FileError, read_bounded};
use crate::probe::Transcript;
use crate::runtime::process::in_words;
use crate::shim::order::RunDir;
use crate::tail;

/// Last log lines kept.
const LOG_LINES: usize = 200;

/// Most bytes of the log; the rest of [`EVIDENCE_BYTES`] is for all else, with room for JSON's escapes.
const LOG_BYTES: usize = EVIDENCE_BYTES / 4;

/// Most bytes of any other item.
const ITEM_BYTES: usize = 4 * 1024;

/// Operations whose evidence stays on the host.
const KEPT: usize = 50;

/// Where the evidence comes from.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The application's run directory.
    pub run: &'a RunDir,
    /// The release that failed: what is known of another one would mislead.
    pub release: Digest,
    /// The last checks, of whichever release.
    pub transcripts: Vec<Transcript>,
    /// Target of `current`.
    pub current: Option<PathBuf>,
    /// The way to the coordinator, in words.
    pub link: String,
    /// How the release's spec differs from that of the one before, line by line.
    pub config: String,
    /// Anything else worth knowing.
    pub notes: Vec<String>,
    /// What its hooks did.
    pub hooks: Vec<Evidence>,
}

/// Collects what there is to know.
pub fn collect(scene: &Scene<'_>) -> Vec<Evidence> {
    let now = clock::wall();
    let item =
        |kind: &str, at, text: String| Evidence { kind: kind.to_owned(), at, text: cut(text, ITEM_BYTES) };
    let mut items = scene.hooks.clone();
    // A release that failed before it was started has left the former one's traces there.
    if let Some(started) = scene.run.read_started().filter(|it| it.release.digest == scene.release) {
        let exited = scene.run.read_exited(&started.mark);
        let state = match &exited {
            None if started.app.lives() => format!("running as pid {}", started.app.pid),
            exited => in_words(exited.as_ref()),
        };
        let command = std::iter::once(started.program.display().to_string())
            .chain(started.args.iter().cloned())
            .collect::<Vec<_>>()
            .join(" ");
        let at = exited.map_or(now, |exited| exited.at);
        items.push(item(
            "exit",
            at,
            format!("{} {}: {state}: {command}", started.release.app, started.release.version),
        ));
        let lines = tail::output(&started, LOG_LINES, LOG_BYTES);
        if !lines.is_empty() {
            items.push(Evidence { kind: "log".to_owned(), at: now, text: cut(lines.join("\n"), LOG_BYTES) });
        }
    }
    let checks = scene.transcripts.iter().filter(|seen| seen.release == scene.release);
    items.extend(checks.map(|seen| item("probe", seen.at, seen.to_string())));
    let current = scene.current.as_ref().map_or("none".to_owned(), |path| path.display().to_string());
    items.push(item("link", now, format!("current: {current}")));
    if !scene.config.is_empty() {
        items.push(item("config", now, scene.config.clone()));
    }
    let up = Span(clock::boot_ms() / 1000 * 1000);
    items.push(item("clock", now, format!("the wall clock says {} ms since 1970, {up} after boot", now.0)));
    if !scene.link.is_empty() {
        items.push(item("link", now, format!("coordinator: {}", scene.link)));
    }
    items.extend(scene.notes.iter().map(|note| item("note", now, note.clone())));
    items
}

/// The lines of two specs that are in one only: `- ` the old one's, `+ ` the new one's.
pub fn differences(old: &ReleaseSpec, new: &ReleaseSpec) -> String {
    let lines = |spec| serde_json::to_string_pretty(spec).unwrap_or_else(|error| format!("no JSON: {error}"));
    let (old, new) = (lines(old), lines(new));
    let only = |of: &str, than: &str, mark: &str| {
        let others: std::collections::BTreeSet<&str> = than.lines().collect();
        let own = of.lines().filter(|line| !others.contains(line));
        own.map(|line| format!("{mark} {}\n", line.trim())).collect::<String>()
    };
    only(&old, &new, "-") + &only(&new, &old, "+")
}

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let mut end = most;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

fn path_of(dir: &Path, op: &OpId) -> PathBuf {
    dir.join(format!("{op}.json"))
}

/// Keeps the evidence of an operation, and forgets that of the oldest.
pub fn keep(dir: &Path, op: &OpId, items: &[Evidence]) -> Result<(), FileError> {
    file::make_dir(dir)?;
    file::replace_json(&path_of(dir, op), items, 0o600)?;
    let mut all: Vec<(SystemTime, PathBuf)> = fs::read_dir(dir)
        .map_err(file::at("list", dir))?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    all.sort();
    for (_, path) in &all[..all.len().saturating_sub(KEPT)] {
        // What cannot be removed now is tried again with the next one.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// What was kept of an operation; nothing when nothing was. What cannot be read is said in its place.
pub fn load(dir: &Path, op: &OpId) -> Vec<Evidence> {
    let path = path_of(dir, op);
    let lost = |why: String| {
        let text = format!("the evidence in {} is lost: {why}", path.display());
        vec![Evidence { kind: "note".to_owned(), at: clock::wall(), text }]
    };
    match read_bounded(&path, 4 * EVIDENCE_BYTES as u64) {
        Ok(content) => serde_json::from_slice(&content).unwrap_or_else(|error| lost(error.to_string())),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => lost(error.source.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use windlass_proto::time::Timestamp;

    use super::*;

    #[test]
    fn evidence_is_kept_bounded_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let item = Evidence { kind: "note".into(), at: Timestamp(1), text: "x".into() };
        for n in 0..60 {
            keep(dir.path(), &OpId::new(format!("op{n}")).unwrap(), std::slice::from_ref(&item)).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), KEPT);
        assert_eq!(load(dir.path(), &"op59".parse().unwrap()), [item]);
        assert_eq!(load(dir.path(), &"never".parse().unwrap()), []);
    }

    #[test]
    fn a_scene_without_anything_still_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir(dir.path().into());
        let scene = Scene {
            run: &run,
            release: Digest::of(b"release"),
            transcripts: vec![],
            current: None,
            link: String::new(),
            config: "+ x".into(),
            notes: vec!["é".repeat(9000)],
            hooks: vec![],
        };
        let items = collect(&scene);
        assert_eq!(items[0].text, "current: none");
        assert_eq!(items[1].kind, "config");
        assert!(items[3].text.len() <= ITEM_BYTES);
    }

    #[test]
    fn what_another_release_left_is_no_evidence() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir(dir.path().into());
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let id = crate::processes::ProcessId::of(std::process::id()).unwrap();
        let started = crate::shim::order::Started {
            keeper: crate::shim::order::Keeper::Shim(id),
            app: id,
            boot_id: String::new(),
            release: windlass_proto::release::ReleaseRef {
                app: "shop".parse().unwrap(),
                version: "1.0".parse().unwrap(),
                digest: old,
                counter: 1,
            },
            mark: String::new(),
            program: "/bin/true".into(),
            args: vec![],
            dir: "/".into(),
            log: Some(crate::shim::log::of(dir.path(), &old)),
            at: Timestamp(0),
        };
        fs::write(run.started(), serde_json::to_vec(&started).unwrap()).unwrap();
        fs::write(crate::shim::log::of(dir.path(), &old), "hello\n").unwrap();
        let seen = |release| Transcript {
            release,
            probe: crate::probe::ProbeName::Readiness,
            at: Timestamp(0),
            took: windlass_proto::time::Span(1),
            passed: release == old,
            text: "x".into(),
        };
        let transcripts = vec![seen(old), seen(new)];
        let kinds = |release| {
            let transcripts = transcripts.clone();
            let scene = Scene {
                run: &run,
                release,
                transcripts,
                current: None,
                link: String::new(),
                config: String::new(),
                notes: vec![],
                hooks: vec![],
            };
            let items = collect(&scene).into_iter();
            items.map(|item| (item.kind, item.text.contains("passed"))).collect::<Vec<_>>()
        };
        let item = |kind: &str, passed| (kind.to_owned(), passed);
        assert_eq!(kinds(new), [item("probe", false), item("link", false), item("clock", false)]);
        assert_eq!(
            kinds(old),
            [
                item("exit", false),
                item("log", false),
                item("probe", true),
                item("link", false),
                item("clock", false)
            ]
        );
    }
}
