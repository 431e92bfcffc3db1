//! The binaries under test: beside the test's own, built when they are missing or older than the sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

const BINARIES: [&str; 3] = ["windlass", "windlass-coordinator", "windlass-agent"];

/// The directory that holds the programs, which are up to date when this returns.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        // target/PROFILE/deps/TEST-HASH
        let test = std::env::current_exe().unwrap();
        let directory = test.parent().and_then(Path::parent).unwrap().to_path_buf();
        let app = directory.join("examples/fixture-app");
        let oldest = BINARIES
            .iter()
            .map(|name| modified(&directory.join(name)))
            .chain([modified(&app)])
            .min()
            .flatten();
        if oldest.is_none_or(|oldest| oldest < newest_source()) {
            build(&directory, &["--bins", "--examples"]);
        }
        directory
    })
}

/// A program.
pub fn program(name: &str) -> PathBuf {
    directory().join(name)
}

/// The small application that tests deploy.
pub fn fixture_app() -> PathBuf {
    directory().join("examples/fixture-app")
}

/// The agent in a build with failpoints, up to date. It has the dependencies of the other programs, so that building it
/// takes little more than the agent itself.
pub fn agent_with_failpoints() -> PathBuf {
    let agent = directory().join("examples/agent-with-failpoints");
    if modified(&agent).is_none_or(|built| built < newest_source()) {
        build(
            directory(),
            &["--example", "agent-with-failpoints", "--features", "windlass-tests/failpoints"],
        );
    }
    agent
}

/// The workspace's directory.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn build(directory: &Path, what: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(root()).args(["build", "--locked", "--workspace"]).args(what);
    build.arg("--target-dir").arg(directory.parent().unwrap());
    if directory.ends_with("release") {
        build.arg("--release");
    }
    let output = build.output().unwrap();
    assert!(
        output.status.success(),
        "cannot build the programs:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

fn newest_source() -> SystemTime {
    let mut newest = modified(&root().join("Cargo.lock")).unwrap();
    let mut open: Vec<PathBuf> =
        ["proto", "coordinator", "agent", "cli"].iter().map(|d| root().join(d)).collect();
    open.push(root().join("tests/fixtures"));
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Integration tests are not part of the programs.
                if path.file_name().is_none_or(|name| name != "tests") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs" || e == "toml") {
                newest = newest.max(modified(&path).unwrap());
            }
        }
    }
    newest
}
