//! Bugs that are planted one by one into a copy of the workspace, to see that the tests find each. A test that cannot fail
//! proves nothing.
//!
//! The ordinary run only sees that every bug still has its place; the long one (about an hour, and root for some) plants them:
//!
//! ```text
//! WINDLASS_LONG=1 cargo test --locked -p windlass-tests --test planted -- --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "tests")]

mod bugs;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use bugs::{BUGS, Bug};
use windlass_tests::programs::root;

/// What the workspace is made of.
const PARTS: [&str; 8] =
    ["Cargo.toml", "Cargo.lock", "proto", "coordinator", "agent", "cli", "tests", "packaging"];

impl Bug {
    fn plant(&self, text: &str) -> String {
        let places = text.matches(self.right).count();
        assert_eq!(places, 1, "{}: {} has the place {places} times:\n{}", self.what, self.file, self.right);
        text.replacen(self.right, self.wrong, 1)
    }
}

#[test]
fn every_planted_bug_is_found() {
    for bug in BUGS {
        bug.plant(&std::fs::read_to_string(root().join(bug.file)).unwrap());
    }
    if std::env::var_os("WINDLASS_LONG").is_some() {
        let copy = tempfile::tempdir().unwrap();
        for part in PARTS {
            let copied =
                Command::new("cp").arg("--recursive").arg(root().join(part)).arg(copy.path()).status();
            assert!(copied.unwrap().success(), "{part} not copied");
        }
        let missed: Vec<&str> =
            BUGS.iter().filter(|bug| !is_found(bug, copy.path())).map(|bug| bug.what).collect();
        assert!(missed.is_empty(), "not found: {missed:?}");
    }
}

/// Plants the bug, runs the tests that are to find it, and takes it out again.
#[allow(clippy::print_stderr, reason = "whoever runs the tests should see it")]
fn is_found(bug: &Bug, copy: &Path) -> bool {
    let file = copy.join(bug.file);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, bug.plant(&text)).unwrap();
    let begun = Instant::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut test = Command::new(cargo);
    test.args(["test", "--locked", "--target-dir"]).arg(root().join("target/planted")).args(bug.tests);
    // The tests in there are the ordinary ones.
    let output = test.current_dir(copy).env_remove("WINDLASS_LONG").output().unwrap();
    std::fs::write(&file, text).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // One that does not compile is not found by a test.
    let failed: Vec<&str> = said.lines().filter(|line| line.ends_with("... FAILED")).collect();
    let is_found = !output.status.success() && !failed.is_empty();
    let by = failed
        .first()
        .map_or("NOT FOUND", |line| line.trim_start_matches("test ").trim_end_matches(" ... FAILED"));
    eprintln!("{:<62} {by} ({} s)", bug.what, begun.elapsed().as_secs());
    if !is_found {
        let errors = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = errors.lines().collect();
        eprintln!("{}", lines[lines.len().saturating_sub(12)..].join("\n"));
    }
    is_found
}
