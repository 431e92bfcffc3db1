//! Collects figures by name and prints medians and ratios.

use std::collections::BTreeMap;
use std::time::Duration;

/// Figures of all runs, by name.
#[derive(Default)]
pub(crate) struct Report {
    seconds: BTreeMap<String, Vec<f64>>,
    bytes: BTreeMap<String, Vec<f64>>,
}

/// One goal of PERFORMANCE.md: our figure is at most so many times the peer's.
pub(crate) struct Goal {
    pub(crate) id: &'static str,
    pub(crate) job: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) at_most: f64,
}

impl Report {
    pub(crate) fn time(&mut self, name: &str, took: Duration) {
        println!("  {name}: {:.2} s", took.as_secs_f64());
        self.seconds.entry(name.into()).or_default().push(took.as_secs_f64());
    }

    pub(crate) fn bytes(&mut self, name: &str, bytes: u64) {
        println!("  {name}: {:.2} MB", crate::mega(bytes));
        self.bytes.entry(name.into()).or_default().push(bytes as f64);
    }

    fn figure(&self, name: &str) -> Option<(f64, &'static str)> {
        let seconds = self.seconds.get(name).map(|all| (median(all), "s"));
        seconds.or_else(|| self.bytes.get(name).map(|all| (median(all) / 1e6, "MB")))
    }

    pub(crate) fn print(&self, goals: &[Goal]) {
        println!("\nmedians");
        for (name, all) in &self.seconds {
            let each: Vec<String> = all.iter().map(|one| format!("{one:.2}")).collect();
            println!("  {name:<44} {:>9.3} s    ({})", median(all), each.join(" "));
        }
        for (name, all) in &self.bytes {
            println!("  {name:<44} {:>9.3} MB", median(all) / 1e6);
        }
        println!("\ngoals: ours / peer");
        for Goal { id, job, ours, peer, at_most } in goals {
            match (self.figure(ours), self.figure(peer)) {
                (Some((ours, unit)), Some((theirs, _))) => {
                    let ratio = ours / theirs;
                    let verdict = if ratio <= *at_most { "met" } else { "MISSED" };
                    println!(
                        "  {id} {job:<28} {ours:>8.2} {unit:<2} / {peer:<18} {theirs:>8.2} {unit:<2} = {ratio:>5.2}  goal <= {at_most:<4} {verdict}"
                    );
                }
                (ours, _) => {
                    let ours =
                        ours.map_or_else(|| "no figure".into(), |(value, unit)| format!("{value:.2} {unit}"));
                    println!("  {id} {job:<28} {ours:>11} / {peer:<18} skipped: not on this machine");
                }
            }
        }
    }
}

fn median(all: &[f64]) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
