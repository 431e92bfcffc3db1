//! Where files are and how long they may be.

use super::{CRATES, report, root, sources};

const TOP: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "proto",
    "coordinator",
    "agent",
    "cli",
    "tests",
    "packaging",
    "README.md",
    "CHANGELOG.md",
];

#[test]
fn top_level_holds_only_what_the_design_lists() {
    let mut extra = Vec::new();
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let known = TOP.contains(&name.as_str())
            || name.starts_with('.')
            || name.starts_with("LICENSE")
            || name == "target";
        if !known {
            extra.push(name);
        }
    }
    report("not in the list of DESIGN 4", &extra);
    let missing: Vec<String> =
        TOP.iter().filter(|name| !root().join(name).exists()).map(|name| (*name).to_owned()).collect();
    report("missing at the top level", &missing);
}

#[test]
fn files_hold_one_idea_of_at_most_400_lines() {
    let long: Vec<String> = sources(&["proto", "coordinator", "agent", "cli", "tests"])
        .iter()
        // Tests of a crate's own: tables grow with what they cover.
        .filter(|source| !source.path.contains("/tests/"))
        .map(|source| (source.before_tests().count(), &source.path))
        .filter(|(lines, _)| *lines > 400)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    report("longer than 400 lines before their tests", &long);
}

#[test]
fn every_crate_root_says_what_it_is() {
    let mut silent = Vec::new();
    for source in sources(&["proto", "coordinator", "agent", "cli", "tests"]) {
        let is_root = CRATES
            .iter()
            .any(|c| source.path == format!("{c}/src/lib.rs") || source.path == format!("{c}/src/main.rs"))
            || source.path.starts_with("tests/") && source.path.ends_with("/main.rs")
            || source.path == "tests/harness/lib.rs";
        let first = source.text.lines().next().unwrap_or_default();
        if is_root && (!first.starts_with("//! ") || first.contains("Placeholder")) {
            silent.push(source.path.clone());
        }
    }
    report("crate roots without a //! header", &silent);
}

#[test]
fn main_files_only_call_the_library() {
    let long: Vec<String> = sources(&["coordinator/src", "agent/src", "cli/src"])
        .iter()
        .filter(|source| source.path.ends_with("src/main.rs") && source.text.lines().count() > 30)
        .map(|source| source.path.clone())
        .collect();
    report("a main.rs parses, builds, runs, exits", &long);
}
