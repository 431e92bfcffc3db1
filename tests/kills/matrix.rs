//! What was killed where, and what became of it, as a table.

use std::collections::BTreeMap;

use windlass_proto::phase::Phase;

use crate::field::{Runtime, Seen, Story};

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) point: String,
    pub(crate) runtime: Runtime,
    pub(crate) story: Story,
}

/// All cells.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    cells: BTreeMap<Cell, Row>,
    kills: usize,
}

#[derive(Debug, Default)]
struct Row {
    runs: usize,
    ends: Vec<Option<Phase>>,
    violations: Vec<String>,
}

impl Matrix {
    /// Takes a run in, in which so many kills were to happen.
    #[allow(clippy::print_stderr, reason = "whoever waits for it should see it")]
    pub(crate) fn add(&mut self, cell: Cell, kills: usize, seen: Seen) {
        let Seen { kills: killed, end, mut violations, .. } = seen;
        if killed != kills {
            violations.push(format!("killed {killed} times and not {kills}"));
        }
        let name = format!("{} {} {}", cell.point, cell.runtime, cell.story);
        for violation in &violations {
            eprintln!("VIOLATION: {name}: {violation}");
        }
        let row = self.cells.entry(cell).or_default();
        row.runs += 1;
        row.violations.extend(violations.into_iter().map(|violation| format!("{name}: {violation}")));
        if !row.ends.contains(&end) {
            row.ends.push(end);
        }
        self.kills += killed;
    }

    /// What was not as it must be.
    pub(crate) fn violations(&self) -> Vec<&str> {
        self.cells.values().flat_map(|row| &row.violations).map(String::as_str).collect()
    }

    /// For whoever reads the output.
    #[allow(clippy::print_stderr, reason = "whoever runs the tests should see it")]
    pub(crate) fn show(&self) {
        eprintln!(
            "{:<24} {:<8} {:<18} {:<10} {:<10} {:>4}  violations",
            "killed at", "runtime", "story", "expected", "seen", "runs"
        );
        for (Cell { point, runtime, story }, row) in &self.cells {
            let seen: Vec<&str> = row.ends.iter().map(|end| end.map_or("nothing", Phase::word)).collect();
            eprintln!(
                "{point:<24} {runtime:<8} {story:<18} {:<10} {:<10} {:>4}  {}",
                story.end(),
                seen.join(", "),
                row.runs,
                row.violations.len()
            );
        }
        let points: std::collections::BTreeSet<&String> = self.cells.keys().map(|cell| &cell.point).collect();
        let runs: usize = self.cells.values().map(|row| row.runs).sum();
        eprintln!(
            "MEASURED: {} failpoints, {} cells, {runs} runs, {} real kills, {} violations",
            points.len(),
            self.cells.len(),
            self.kills,
            self.violations().len()
        );
    }
}
