//! Both pure cores together, against a world that is simulated: hosts with processes and links, an agent on each whose
//! journal survives crashes and reboots, a coordinator whose disk survives its own, and a network that delays, loses,
//! doubles and cuts. Time is simulated too, so that an hour takes milliseconds.
//!
//! Each seed is one world and one history. A failure prints the seed and what happened; `WINDLASS_SEED=N` runs that one
//! alone, `WINDLASS_SEEDS=N` runs so many. What is checked, with the names of reference/RELIABILITY.md 2.4:
//!
//! * P2: once connected, the outcome that a host reports is the one that the coordinator shows.
//! * P3: what was confirmed changes only by a confirm, or by the host itself in its watch window.
//! * P5: a revert goes to a release that was confirmed on this host before.
//! * P6: highest epoch and counter of a host never go down.
//! * P9: everything ends: rollouts, and each host's operation.
//! * What plan foresees of counters is what hosts say (`counters`).
//! * Budget and failure domains hold for what really is out of service, not only in the coordinator's books.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod coordinator;
mod counters;
mod host;
mod scenario;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

/// Runs one seed; the words of how its rollouts ended. A failure is run again with its log.
fn run(seed: u64) -> Vec<&'static str> {
    if let Ok(ends) = catch_unwind(|| World::new(seed, false).run()) {
        return ends;
    }
    let mut world = World::new(seed, true);
    let _ = catch_unwind(AssertUnwindSafe(|| world.run()));
    for line in &world.log {
        println!("{line}");
    }
    panic!("seed {seed} failed; WINDLASS_SEED={seed} repeats it ({})", world.title());
}

#[test]
fn both_machines_together_keep_the_promises() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("WINDLASS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WINDLASS_SEEDS").unwrap_or(1200),
    };
    let few = seeds.end - seeds.start < 1000;
    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in seeds {
        for end in run(seed) {
            *ends.entry(end).or_default() += 1;
        }
    }
    println!("{ends:?}");
    // Histories that never reach an end prove nothing of it.
    for end in ["Succeeded", "RolledBack", "RollbackFailed", "Failed", "Cancelled"] {
        assert!(few || ends.get(end).is_some_and(|n| *n >= 5), "hardly any {end}: {ends:?}");
    }
}
