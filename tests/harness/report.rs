//! What a test says besides its result, for whoever reads its output, and for `cargo guard`, which counts it.

use std::io::Write as _;
use std::time::Duration;

/// The file that `cargo guard` reads, one line for each thing said.
const REPORT: &str = "WINDLASS_REPORT";

/// Says what a test has measured.
pub fn measured(what: &str, time: Duration) {
    say("MEASURED", &format!("{what}: {:.3} s", time.as_secs_f64()));
}

/// Says that a test was skipped, and why.
///
/// # Panics
/// Under `CI`, where nothing is skipped.
#[track_caller]
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI: {why}");
    say("SKIPPED", why);
}

/// Says which cells of a matrix this run had no time for.
pub fn not_run(what: &str) {
    say("NOT RUN", what);
}

#[allow(clippy::print_stderr, reason = "whoever runs the tests should see it")]
fn say(word: &str, what: &str) {
    eprintln!("{word}: {what}");
    let Some(report) = std::env::var_os(REPORT) else { return };
    let thread = std::thread::current();
    let line = format!("{word}\t{}: {}\n", thread.name().unwrap_or("a test"), what.replace('\n', " "));
    // One write each: tests are processes, and all of them write to it.
    let mut file = std::fs::File::options().append(true).create(true).open(report).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}
