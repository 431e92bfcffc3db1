//! What was killed where, and what became of it, as a table.

use std::collections::BTreeMap;

use windlass_proto::phase::Phase;

use crate::field::Seen;
use crate::story::{Runtime, Story};
use crate::strike::{How, Strike};

/// More violations than this would say the same.
const ENOUGH: usize = 6;

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) how: How,
    pub(crate) at: String,
    pub(crate) runtime: Runtime,
    pub(crate) story: Story,
}

impl Cell {
    /// Where the host may end: killed or not, at the same place; without power or disk, at rest on either release.
    fn expected(&self) -> Vec<Phase> {
        match self.how {
            How::Kill => vec![self.story.end()],
            _ => vec![Phase::Confirmed, Phase::Reverted, Phase::Failed, Phase::Idle],
        }
    }
}

/// All cells.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    cells: BTreeMap<Cell, Row>,
    strikes: usize,
    /// Strikes at a pass that the deployment did not make.
    beyond: usize,
}

#[derive(Debug, Default)]
struct Row {
    runs: usize,
    ends: Vec<Option<Phase>>,
    violations: Vec<String>,
}

impl Matrix {
    /// Takes a run in, in which these strikes were to happen.
    #[allow(clippy::print_stderr, reason = "whoever waits for it should see it")]
    pub(crate) fn add(&mut self, cell: Cell, strikes: &[Strike], seen: Seen) {
        let Seen { strikes: struck, end, mut violations, passed, .. } = seen;
        match strikes.get(struck) {
            None => {}
            // How often the journal is written depends on what falls together: that often it was not, this time.
            Some(next) if next.at.is_beyond(&passed) => self.beyond += 1,
            Some(_) => violations.push(format!("struck {struck} times and not {}", strikes.len())),
        }
        if !end.is_some_and(|end| cell.expected().contains(&end)) {
            violations.push(format!("ends {end:?}"));
        }
        let name = format!("{} {} {} {}", cell.how, cell.at, cell.runtime, cell.story);
        for violation in &violations {
            eprintln!("VIOLATION: {name}: {violation}");
        }
        let row = self.cells.entry(cell).or_default();
        row.runs += 1;
        row.violations.extend(violations.into_iter().map(|violation| format!("{name}: {violation}")));
        if !row.ends.contains(&end) {
            row.ends.push(end);
        }
        self.strikes += struck;
        if self.violations().len() > ENOUGH {
            self.show();
            self.must_be_clean();
        }
    }

    /// Panics unless everything was as it must be.
    #[track_caller]
    pub(crate) fn must_be_clean(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "violations:\n  {}", violations.join("\n  "));
    }

    /// What was not as it must be.
    fn violations(&self) -> Vec<&str> {
        self.cells.values().flat_map(|row| &row.violations).map(String::as_str).collect()
    }

    /// For whoever reads the output.
    #[allow(clippy::print_stderr, reason = "whoever runs the tests should see it")]
    pub(crate) fn show(&self) {
        eprintln!(
            "{:<14} {:<24} {:<8} {:<18} {:<32} {:<20} {:>4}  violations",
            "what", "at", "runtime", "story", "expected", "seen", "runs"
        );
        for (cell, row) in &self.cells {
            let Cell { how, at, runtime, story } = cell;
            let seen: Vec<&str> = row.ends.iter().map(|end| end.map_or("nothing", Phase::word)).collect();
            let expected: Vec<&str> = cell.expected().iter().map(|end| end.word()).collect();
            eprintln!(
                "{how:<14} {at:<24} {runtime:<8} {story:<18} {:<32} {:<20} {:>4}  {}",
                expected.join(" "),
                seen.join(" "),
                row.runs,
                row.violations.len()
            );
        }
        let points: std::collections::BTreeSet<&String> = self.cells.keys().map(|cell| &cell.at).collect();
        let runs: usize = self.cells.values().map(|row| row.runs).sum();
        eprintln!(
            "MEASURED: {} points, {} cells, {runs} runs, {} real strikes, {} at a pass that was not made, {} violations",
            points.len(),
            self.cells.len(),
            self.strikes,
            self.beyond,
            self.violations().len()
        );
    }
}
