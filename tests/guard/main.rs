//! What guards main, by one command. `cargo guard` sets up the machine and runs everything, as CI does; `cargo quick` is what
//! to run before each commit; `cargo guard setup` sets up and no more; `cargo guard tests [FILTER]` runs the tests alone.
//!
//! * [`setup`] what tests need of a machine, said before it is installed; [`step`] one step, with its time;
//!   [`tally`] what the tests said: how many, the slowest, what was skipped, what of the long matrices was not run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

mod setup;
mod step;
mod tally;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use step::{Failed, Steps, cargo};
use tally::Tally;

const USAGE: &str = "usage: cargo guard [setup | tests [NEXTEST-ARGUMENT...]], cargo quick";

/// Tests of real fleets, which `cargo quick` leaves to `cargo guard`.
const FLEETS: &str = "binary(e2e) | binary(fleet) | binary(kills) | binary(planted)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut steps = Steps::default();
    let done = match arguments.as_slice() {
        [] => everything(&mut steps),
        ["quick"] => quick(&mut steps),
        ["setup"] => steps.run("set-up", setup::set_up),
        ["tests", more @ ..] => steps.run("set-up", setup::set_up).and_then(|()| tests(&mut steps, more)),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    steps.show();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(what)) => {
            eprintln!("\nFAILED: {what}");
            ExitCode::FAILURE
        }
    }
}

fn everything(steps: &mut Steps) -> Result<(), Failed> {
    steps.run("set-up", setup::set_up)?;
    format_and_lints(steps)?;
    steps.run("licences", || {
        // Of all platforms: what is built here is a part of what is looked at.
        cargo(&["fetch", "--locked"])?;
        let deny = ["deny", "--offline", "--log-level", "error", "check", "bans", "licenses", "sources"];
        cargo(&deny)
    })?;
    // The one release build: for the packages, the hosts of the tests, which install them, and the demo.
    steps.run("packages", || step::program(root().join("packaging/build"), &[]))?;
    tests(steps, &[])?;
    steps.run("docs", || {
        let flags = "-D warnings -A rustdoc::private_intra_doc_links";
        let doc = ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked", "--quiet"];
        step::cargo_with(&doc, &[("RUSTDOCFLAGS", flags)])
    })?;
    steps.run("demo", || step::program(target().join("release/windlass"), &["demo"]))
}

fn quick(steps: &mut Steps) -> Result<(), Failed> {
    format_and_lints(steps)?;
    tests(steps, &["-E", &format!("not ({FLEETS})")])
}

fn format_and_lints(steps: &mut Steps) -> Result<(), Failed> {
    steps.run("format", || cargo(&["fmt", "--all", "--", "--check"]))?;
    steps.run("lints", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
    })
}

/// The tests by nextest, apart from building them; then what they said.
fn tests(steps: &mut Steps, more: &[&str]) -> Result<(), Failed> {
    let report = target().join("guard/report");
    tally::begin(&report)?;
    steps.run("test build", || {
        cargo(&["nextest", "run", "--workspace", "--locked", "--no-run"])?;
        // The agent that is killed at its failpoints; a test that needs it would build it first.
        let with_failpoints =
            ["--example", "agent-with-failpoints", "--features", "windlass-tests/failpoints"];
        cargo(&[&["build", "--workspace", "--locked"][..], &with_failpoints].concat())
    })?;
    let mut run = vec!["nextest", "run", "--workspace", "--locked", "--profile", "guard"];
    run.extend(more);
    let report_text = report.to_str().unwrap_or_default();
    let mut said = String::new();
    let ended = steps.run("tests", || step::read(&run, &[("WINDLASS_REPORT", report_text)], &mut said));
    let tally = Tally::read(&said, &report);
    steps.close_with(tally);
    ended
}

/// The workspace's directory.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
