//! What the tests said: nextest's lines, and the report that tests write to.

use std::collections::BTreeSet;
use std::path::Path;

use crate::step::Failed;

/// How many of the slowest are shown.
const SLOWEST: usize = 15;

/// What became of the tests.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    /// What the tests themselves say that they skipped, and why.
    skipped: Vec<String>,
    /// Cells of long matrices that this run had no time for.
    not_run: Vec<String>,
    /// Seconds and name, slowest first.
    slowest: Vec<(f64, String)>,
}

/// Begins an empty report; tests find it by `WINDLASS_REPORT`.
pub(crate) fn begin(report: &Path) -> Result<(), Failed> {
    let failed = |error| Failed(format!("{}: {error}", report.display()));
    std::fs::create_dir_all(report.parent().unwrap_or(report)).map_err(failed)?;
    std::fs::write(report, "").map_err(failed)
}

impl Tally {
    /// Reads what nextest said, and the report.
    pub(crate) fn read(said: &str, report: &Path) -> Self {
        Self::of(said, &std::fs::read_to_string(report).unwrap_or_default())
    }

    fn of(said: &str, report: &str) -> Self {
        let mut tally = Self::default();
        let mut seen = BTreeSet::new();
        for (word, time, name) in said.lines().filter_map(result) {
            // What failed is said again at the end.
            if !seen.insert(name) {
                continue;
            }
            match word {
                "PASS" | "LEAK" => tally.passed += 1,
                _ => tally.failed += 1,
            }
            tally.slowest.push((time, name.to_owned()));
        }
        tally.slowest.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        tally.slowest.truncate(SLOWEST);
        for line in report.lines() {
            match line.split_once('\t') {
                Some(("SKIPPED", why)) => tally.skipped.push(why.to_owned()),
                Some(("NOT RUN", cells)) => tally.not_run.push(cells.to_owned()),
                _ => {}
            }
        }
        tally
    }

    /// For whoever reads the output.
    pub(crate) fn show(&self) {
        println!("\n=== the {SLOWEST} slowest tests, seconds");
        for (time, name) in &self.slowest {
            println!("{time:>8.1} {name}");
        }
        println!("\n=== {} skipped", self.skipped.len());
        for why in &self.skipped {
            println!("{why}");
        }
        println!("\n=== not run of the long matrices, by this seed and time (the whole: cargo ordeal)");
        for cells in &self.not_run {
            println!("{cells}");
        }
    }

    /// The plain line that CI reads.
    pub(crate) fn closing_line(&self) -> String {
        // A test that skips its work passes in the runner's eyes.
        let passed = self.passed.saturating_sub(self.skipped.len());
        format!("{passed} passed, {} failed, {} skipped", self.failed, self.skipped.len())
    }
}

/// Of `        PASS [   1.234s] (  3/505) windlass-agent journal::tests::name`: the word, the seconds, the name. Whatever word it is, as
/// `TIMEOUT` or `SIGSEGV`: only a result has a place in the order. A slow test has none yet.
fn result(line: &str) -> Option<(&str, f64, &str)> {
    let (word, rest) = line.trim_start().split_once(" [")?;
    let (time, name) = rest.split_once(']')?;
    let time = time.trim().trim_start_matches('>').trim().trim_end_matches('s').parse().ok()?;
    let (place, name) = name.trim_start().strip_prefix('(')?.split_once(')')?;
    place.contains('/').then_some((word, time, name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runner_and_the_tests_say_is_counted() {
        let said = "    Starting 4 tests across 2 binaries\n\
            \x20       PASS [   0.012s] (1/4) windlass-agent journal::a\n\
            \x20       SLOW [> 60.000s] (───) windlass-tests::kills killed\n\
            \x20       FAIL [   2.500s] (2/4) windlass-cli::init b\n\
            \x20       PASS [   7.100s] (3/4) windlass-tests::e2e c\n\
            \x20    SIGSEGV [ 300.001s] (4/4) windlass-tests::e2e d\n\
            \x20    Summary [   7.200s] 4 tests run: 2 passed, 2 failed, 0 skipped\n\
            \x20       FAIL [   2.500s] (2/4) windlass-cli::init b\n";
        let report =
            "SKIPPED\te: needs root\nNOT RUN\tkills: 3 of 9 cells, seed 7: x y z\nMEASURED\tsomething\n";
        let tally = Tally::of(said, report);
        assert_eq!((tally.passed, tally.failed), (2, 2));
        assert_eq!(tally.skipped, ["e: needs root"]);
        assert_eq!(tally.not_run, ["kills: 3 of 9 cells, seed 7: x y z"]);
        let slowest: Vec<&str> = tally.slowest.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(
            slowest,
            [
                "windlass-tests::e2e d",
                "windlass-tests::e2e c",
                "windlass-cli::init b",
                "windlass-agent journal::a"
            ]
        );
        assert_eq!(tally.closing_line(), "1 passed, 2 failed, 1 skipped");
    }
}
