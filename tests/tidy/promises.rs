//! README: every promise of DESIGN 1 names the tests that would fail without it, and those tests exist.

use super::{report, root, sources};

/// The rows of README's table of promises: number, state, names of tests.
fn rows() -> Vec<(String, String, Vec<String>)> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section =
        readme.split("\n## ").find(|s| s.starts_with("The promises")).expect("README has `## The promises`");
    section
        .lines()
        .filter(|line| line.starts_with("| ") && line[2..].starts_with(|c: char| c.is_ascii_digit()))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let tests = cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (cells[0].to_owned(), cells[1].to_owned(), tests)
        })
        .collect()
}

#[test]
fn every_promise_names_its_test_or_says_not_yet() {
    let rows = rows();
    assert_eq!(rows.len(), 7, "DESIGN 1 makes seven promises");
    let mut findings = Vec::new();
    for (number, text, tests) in &rows {
        if tests.is_empty() && !text.contains("not yet") {
            findings.push(format!("promise {number} names no test"));
        }
    }
    report("README's promises", &findings);
}

#[test]
fn the_tests_that_promises_name_exist() {
    let all = sources(&["proto", "coordinator", "agent", "cli", "tests"]);
    let mut findings = Vec::new();
    for (number, _, tests) in rows() {
        for test in tests {
            let name = test.rsplit("::").next().unwrap().to_owned();
            if !all.iter().any(|source| source.text.contains(&format!("fn {name}("))) {
                findings.push(format!("promise {number}: no test {test}"));
            }
        }
    }
    report("README names tests that do not exist", &findings);
}

#[test]
fn the_two_commands_stand_at_the_top() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let top: String = readme.lines().take(30).collect::<Vec<_>>().join("\n");
    assert!(top.contains("windlass demo"), "the command that runs the demo");
    assert!(top.contains("\ncargo guard\n"), "the command that runs all tests");
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.ends_with("\nexec cargo guard\n"), "CI runs the same");
}
