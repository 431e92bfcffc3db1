//! Rules of the tree that no compiler checks: size, layout, purity, words, and what README promises.
#![allow(clippy::unwrap_used, reason = "tests")]

mod events;
mod layout;
mod packaging;
mod promises;
mod purity;
mod words;

use std::path::{Path, PathBuf};

/// The directory of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A Rust file of ours: generated code is not.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The lines above the file's own tests.
    fn before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(i, line)| (i + 1, line));
        lines.take_while(|(_, line)| line.trim() != "#[cfg(test)]" || line.starts_with(' '))
    }

    /// The same without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.before_tests().map(|(n, line)| (n, line.split("//").next().unwrap()))
    }
}

const CRATES: [&str; 6] = ["proto", "coordinator", "coordinator/rollout", "agent", "agent/release", "cli"];

/// All Rust files beneath the given directories.
fn sources(directories: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = directories.iter().map(|d| root().join(d)).collect();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != "gen" {
                    open.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no sources beneath {directories:?}");
    found
}

/// Fails with all findings at once.
fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}
