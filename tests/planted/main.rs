//! Bugs that are planted one by one into a copy of the workspace, to see that the tests find each. A test that cannot fail
//! proves nothing.
//!
//! Every run sees that every bug still has its place. The ordinary one plants some of those that tests without real processes
//! find (`windlass_tests::sample`), the long one (about an hour, and root for some) all of them:
//!
//! ```text
//! WINDLASS_LONG=1 cargo test --locked -p windlass-tests --test planted -- --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "tests")]

mod bugs;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use bugs::{BUGS, Bug, MACHINE};
use windlass_tests::programs::root;
use windlass_tests::sample::{Sample, is_long};

/// What the workspace is made of.
const PARTS: [&str; 8] =
    ["Cargo.toml", "Cargo.lock", "proto", "coordinator", "agent", "cli", "tests", "packaging"];

/// Time of an ordinary run.
const TIME: Duration = Duration::from_secs(60);

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
    let copy = copy_of_workspace();
    let mut sample = Sample::of("planted bugs", TIME);
    let wanted: Vec<&Bug> = BUGS.iter().filter(|bug| is_long() || bug.tests == MACHINE).collect();
    let drawn = sample.draw(wanted, 1, |bug| bug.what.to_owned());
    let missed: Vec<&str> = drawn.filter(|bug| !is_found(bug, &copy)).map(|bug| bug.what).collect();
    sample.finish();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Always in the same place, so that what it is built from is built once.
fn copy_of_workspace() -> PathBuf {
    let copy = root().join("target/planted/copy");
    // There is none before the first run.
    let _ = std::fs::remove_dir_all(&copy);
    std::fs::create_dir_all(&copy).unwrap();
    for part in PARTS {
        // The files' times stay, or all would be built anew.
        let copied = Command::new("cp").arg("--archive").arg(root().join(part)).arg(&copy).status();
        assert!(copied.unwrap().success(), "{part} not copied");
    }
    // But what was built last time may have had a bug.
    for bug in BUGS {
        let file = std::fs::File::options().write(true).open(copy.join(bug.file)).unwrap();
        file.set_modified(SystemTime::now()).unwrap();
    }
    copy
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
    // The pure machine shares what is built already. Programs with bugs get a place of their own.
    let target = root().join(if bug.tests == MACHINE { "target" } else { "target/planted/target" });
    test.args(["test", "--locked", "--target-dir"]).arg(target).args(bug.tests);
    // The tests in there are the ordinary ones, and what they say is not for our own report.
    let test = test.current_dir(copy).env_remove("WINDLASS_LONG").env_remove("WINDLASS_REPORT");
    let output = test.output().unwrap();
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
