//! What one release changes over another, for people: the spec member by member, and the files.
//!
//! Nothing that looks secret leaves here. Such a value is `(hidden)`, on both sides, and that it changed is said in words.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value;

use super::secret::{HIDDEN, is_secret, names_a_secret};
use super::{Entry, EntryKind, Manifest};
use crate::spec::ReleaseSpec;

/// Members of the spec that are told; of more it is said how many.
pub const MEMBERS: usize = 40;

/// Files that are told; of more it is said how many.
pub const FILES: usize = 20;

/// Longest value that is told, in characters.
const VALUE: usize = 200;

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// A member of the spec, as `release.runtime.env.LOG_LEVEL`, or a file, as `files/bin/shop`.
    pub path: String,
    /// What it was; none where it is new.
    pub from: Option<String>,
    /// What it becomes; none where it goes.
    pub to: Option<String>,
}

/// Files (and links) of one sort, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub files: u64,
    /// Bytes of the new ones; of what is removed, of the old ones.
    pub bytes: u64,
}

/// All that differs between two releases but version and counter. Directories are not told: they come and go with their files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// At most [`MEMBERS`] members of the spec by path, then at most [`FILES`] files by path.
    pub changes: Vec<Change>,
    /// What differs and is not among them.
    pub left_out: u64,
    /// Files that only the new release has.
    pub added: Count,
    /// Files that only the old release has.
    pub removed: Count,
    /// Files that both have, with other content or another mode.
    pub changed: Count,
}

impl Difference {
    /// What `new` changes over `old`.
    pub fn between(old: &Manifest, new: &Manifest) -> Self {
        let mut difference = Self::default();
        for change in members(&old.release, &new.release) {
            difference.keep(change, MEMBERS);
        }
        difference.files(&old.entries, &new.entries);
        difference
    }

    fn keep(&mut self, change: Change, at_most: usize) {
        if self.changes.len() < at_most {
            self.changes.push(change);
        } else {
            self.left_out += 1;
        }
    }

    /// Both lists are sorted by path.
    fn files(&mut self, old: &[Entry], new: &[Entry]) {
        let at_most = self.changes.len() + FILES;
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let (was, is) = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => (old.next(), None),
                (None, Some(_)) => (None, new.next()),
                (Some(a), Some(b)) => match a.path.cmp(&b.path) {
                    Ordering::Less => (old.next(), None),
                    Ordering::Greater => (None, new.next()),
                    Ordering::Equal => (old.next(), new.next()),
                },
            };
            self.file(was, is, at_most);
        }
    }

    fn file(&mut self, was: Option<&Entry>, is: Option<&Entry>, at_most: usize) {
        let told = |entry: Option<&Entry>| entry.and_then(|entry| about(&entry.kind));
        if was.map(|entry| &entry.kind) == is.map(|entry| &entry.kind) {
            return;
        }
        let ((from, old_bytes), (to, new_bytes)) = match (told(was), told(is)) {
            (None, None) => return,
            (was, is) => (was.unzip(), is.unzip()),
        };
        let (count, bytes) = match (&from, &to) {
            (None, _) => (&mut self.added, new_bytes),
            (_, None) => (&mut self.removed, old_bytes),
            _ => (&mut self.changed, new_bytes),
        };
        count.files += 1;
        count.bytes += bytes.unwrap_or_default();
        let path = was.or(is).map(|entry| format!("files/{}", entry.path)).unwrap_or_default();
        self.keep(Change { path, from, to }, at_most);
    }
}

/// A file or a link in words, and its bytes; none for a directory.
fn about(kind: &EntryKind) -> Option<(String, u64)> {
    match kind {
        EntryKind::Directory {} => None,
        EntryKind::Link { target } => Some((format!("link to {}", printable(target)), 0)),
        EntryKind::File { executable, size, digest, .. } => {
            let mode = if *executable { ", executable" } else { "" };
            let digest: String = digest.to_string().chars().take("b3:".len() + 8).collect();
            Some((format!("{size} bytes, {digest}{mode}"), *size))
        }
    }
}

fn members(old: &ReleaseSpec, new: &ReleaseSpec) -> Vec<Change> {
    let (mut old, new) = (leaves(old), leaves(new));
    let mut changes: BTreeMap<String, Change> = BTreeMap::new();
    for (path, is) in new {
        let was = old.remove(&path);
        if was.as_ref() == Some(&is) {
            continue;
        }
        let (from, mut to) = (was.map(|was| shown(&path, &was)), shown(&path, &is));
        if from.as_ref() == Some(&to) {
            to.push_str(" (changed where it is not shown)");
        }
        changes.insert(path.clone(), Change { path, from, to: Some(to) });
    }
    for (path, was) in old {
        let from = Some(shown(&path, &was));
        changes.insert(path.clone(), Change { path, from, to: None });
    }
    changes.into_values().collect()
}

/// Every member of the spec that has a value of its own: a command is one, the map of the environment is not.
fn leaves(spec: &ReleaseSpec) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    // The spec came from JSON.
    collect("release", serde_json::to_value(spec).unwrap_or_default(), &mut found);
    found
}

fn collect(path: &str, value: Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, value) in members {
                collect(&format!("{path}.{name}"), value, found);
            }
        }
        Value::Array(items) if !items.iter().all(Value::is_string) => {
            for (n, value) in items.into_iter().enumerate() {
                collect(&format!("{path}.{n}"), value, found);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        leaf => {
            found.insert(path.to_owned(), leaf);
        }
    }
}

fn shown(path: &str, value: &Value) -> String {
    // The name of a variable may have dots in it.
    let name = path.split_once(".env.").map(|(_, name)| name).or(path.rsplit('.').next()).unwrap_or_default();
    let text = match value {
        Value::String(text) if names_a_secret(name) || is_secret(text) => return HIDDEN.to_owned(),
        Value::String(text) => printable(text),
        Value::Array(words) => command(words.iter().filter_map(Value::as_str)),
        other => other.to_string(),
    };
    match text.char_indices().nth(VALUE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// The words of a command, each quoted where it must be; what follows a flag that names a secret is hidden.
fn command<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut hide_next = false;
    let words = words.map(|word| {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let secret = names_a_secret(name);
        if std::mem::take(&mut hide_next) && !word.starts_with('-') || is_secret(word) {
            return HIDDEN.to_owned();
        }
        match value {
            Some(_) if secret => format!("{}={HIDDEN}", printable(name)),
            _ => {
                hide_next = secret && word.starts_with('-');
                if word.contains(char::is_whitespace) { format!("{word:?}") } else { printable(word) }
            }
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// As it is, or quoted where a terminal or a reader would make something else of it.
fn printable(text: &str) -> String {
    let odd = text.is_empty() || text.trim() != text || text.chars().any(char::is_control);
    if odd { format!("{text:?}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::EntryPath;
    use crate::digest::Digest;

    fn manifest(release: &str, entries: Vec<Entry>) -> Manifest {
        Manifest {
            format: 1,
            app: "web".parse().unwrap(),
            version: "1".parse().unwrap(),
            counter: 1,
            release: serde_json::from_str(release).unwrap(),
            entries,
        }
    }

    fn told(old: &str, new: &str) -> Vec<String> {
        let difference = Difference::between(&manifest(old, vec![]), &manifest(new, vec![]));
        let side = |side: Option<String>| side.unwrap_or_else(|| "-".into());
        let told = difference.changes.into_iter();
        told.map(|it| format!("{}: {} -> {}", it.path, side(it.from), side(it.to))).collect()
    }

    fn with(more: &str) -> String {
        format!(r#"{{"runtime":{{"kind":"process","command":["bin/shop"]{more}}}}}"#)
    }

    #[test]
    fn members_are_told_one_by_one() {
        let plain = with("");
        let cases: &[(&str, &str, &[&str])] = &[
            (&plain, &plain, &[]),
            (
                &plain,
                r#"{"runtime":{"kind":"process","command":["bin/shop","--port","{port.http}"]}}"#,
                &["release.runtime.command: bin/shop -> bin/shop --port {port.http}"],
            ),
            (
                &with(r#","user":"shop","env":{"A":"1","LOG_LEVEL":"info"}"#),
                &with(r#","user":"web","env":{"LOG_LEVEL":"debug","NEW":""}"#),
                &[
                    "release.runtime.env.A: 1 -> -",
                    "release.runtime.env.LOG_LEVEL: info -> debug",
                    "release.runtime.env.NEW: - -> \"\"",
                    "release.runtime.user: shop -> web",
                ],
            ),
            (
                r#"{"runtime":{"kind":"static"},"ports":{"http":80},"drain":{"timeout":"5s"}}"#,
                r#"{"runtime":{"kind":"static"},"ports":{"http":81,"admin":9},"drain":{"timeout":"6s"},"stop":{"grace":"7s"},
                    "hooks":{"after_install":[{"run":["x","a b"],"timeout":"9s"}]}}"#,
                &[
                    "release.drain.timeout: 5s -> 6s",
                    "release.hooks.after_install.0.idempotent: - -> false",
                    "release.hooks.after_install.0.run: - -> x \"a b\"",
                    "release.hooks.after_install.0.timeout: - -> 9s",
                    "release.ports.admin: - -> 9",
                    "release.ports.http: 80 -> 81",
                    "release.stop.grace: 30s -> 7s",
                ],
            ),
            // What would drive a terminal is quoted.
            (&plain, &with(r#","env":{"A":"\u001b[2J"}"#), &["release.runtime.env.A: - -> \"\\u{1b}[2J\""]),
        ];
        for (old, new, expected) in cases {
            assert_eq!(told(old, new), *expected);
        }
    }

    #[test]
    fn what_looks_secret_is_told_without_its_value() {
        let env = |value: &str| {
            with(&format!(r#","env":{{"TOKEN.of.shop":"{value}","URL":"http://a:{value}@b"}}"#))
        };
        assert_eq!(
            told(&env("hunter1"), &env("hunter2")),
            ["TOKEN.of.shop", "URL"].map(|name| format!(
                "release.runtime.env.{name}: (hidden) -> (hidden) (changed where it is not shown)"
            ))
        );
        let args = r#"{"runtime":{"kind":"process","command":
            ["bin/shop","--token","t0p","--db-password=t0p","--verbose","--auth","-v","amqp://a:t0p@b"]}}"#;
        assert_eq!(
            told(&with(""), args),
            [
                "release.runtime.command: bin/shop -> bin/shop --token (hidden) --db-password=(hidden) --verbose \
              --auth -v (hidden)"
            ]
        );
        assert_eq!(
            told(args, &args.replace("t0p", "0th")),
            [
                "release.runtime.command: bin/shop --token (hidden) --db-password=(hidden) --verbose --auth -v \
              (hidden) -> bin/shop --token (hidden) --db-password=(hidden) --verbose --auth -v (hidden) (changed \
              where it is not shown)"
            ]
        );
    }

    fn file(path: &str, content: u8, size: u64) -> Entry {
        let kind = EntryKind::File {
            executable: content % 2 == 1,
            size,
            digest: Digest::from_bytes([content; 32]),
            chunks: vec![],
        };
        Entry { path: EntryPath::new(path).unwrap(), kind }
    }

    fn other(path: &str, kind: EntryKind) -> Entry {
        Entry { path: EntryPath::new(path).unwrap(), kind }
    }

    #[test]
    fn files_are_counted_and_told() {
        let link = |target: &str| EntryKind::Link { target: target.into() };
        let old = vec![
            other("bin", EntryKind::Directory {}),
            file("bin/shop", 1, 10),
            file("conf", 2, 3),
            other("latest", link("conf")),
            file("old", 4, 5),
            file("same", 6, 7),
        ];
        let new = vec![
            file("bin", 1, 10),
            file("conf", 3, 3),
            other("doc", EntryKind::Directory {}),
            file("doc/new", 8, 100),
            other("latest", link("doc/new")),
            file("same", 6, 7),
        ];
        let spec = with("");
        let found = Difference::between(&manifest(&spec, old), &manifest(&spec, new));
        let told: Vec<_> =
            found.changes.iter().map(|it| (it.path.as_str(), it.from.as_deref(), it.to.as_deref())).collect();
        assert_eq!(
            told,
            [
                ("files/bin", None, Some("10 bytes, b3:01010101, executable")),
                ("files/bin/shop", Some("10 bytes, b3:01010101, executable"), None),
                ("files/conf", Some("3 bytes, b3:02020202"), Some("3 bytes, b3:03030303, executable")),
                ("files/doc/new", None, Some("100 bytes, b3:08080808")),
                ("files/latest", Some("link to conf"), Some("link to doc/new")),
                ("files/old", Some("5 bytes, b3:04040404"), None),
            ]
        );
        assert_eq!(found.added, Count { files: 2, bytes: 110 });
        assert_eq!(found.removed, Count { files: 2, bytes: 15 });
        assert_eq!(found.changed, Count { files: 2, bytes: 3 });
        assert_eq!(found.left_out, 0);
    }

    #[test]
    fn much_is_cut_and_counted() {
        let entries = |content| (0..50).map(|n| file(&format!("f{n:02}"), content, 1)).collect();
        let env: Vec<_> = (0..60).map(|n| format!(r#""V{n:02}":"{}""#, "é".repeat(300))).collect();
        let full = with(&format!(r#","env":{{{}}}"#, env.join(",")));
        let found = Difference::between(&manifest(&with(""), entries(1)), &manifest(&full, entries(2)));
        assert_eq!(found.changes.len(), MEMBERS + FILES);
        assert_eq!(found.left_out, 20 + 30);
        assert_eq!(found.changed.files, 50);
        assert_eq!(found.changes[0].to.as_ref().unwrap().chars().count(), VALUE + 1);
        assert_eq!(found.changes[MEMBERS].path, "files/f00");
    }
}
