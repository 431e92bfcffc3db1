//! Goals F1 to F4, and F7, of reference/PERFORMANCE.md: windlass against rsync over ssh, in turn, in one run, as ratios.
//!
//! `cargo bench -p windlass-tests --bench transfer` (release build; about 12 GB of disk under TMPDIR, nothing is deleted while it
//! measures, because ext4 writes slowly just after deletions). rsync and sshd are installed with apt where they are absent
//! and we are root; otherwise only windlass' own figures are printed. `--runs N` repeats; medians of three by default.
//!
//! [`tree`] makes the release of PERFORMANCE.md; [`rsync`] and [`ours`] do the jobs, [`limit`] asks the machine;
//! [`report`] compares.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

mod limit;
mod ours;
mod report;
mod rsync;
mod tree;

use std::process::Command;
use std::time::{Duration, Instant};

use report::{Goal, Report};

/// Hosts, as in PERFORMANCE.md.
const HOSTS: u32 = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts benchmarks too, without this word.
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let runs = args
        .iter()
        .position(|arg| arg == "--runs")
        .and_then(|at| args.get(at + 1)?.parse().ok())
        .unwrap_or(3);
    let base = tempfile::Builder::new().prefix("wlbench").tempdir().unwrap();
    let release = tree::make(base.path());
    println!(
        "release: {} files, {:.1} MB; v2 changes {} files and the binary, {:.2} MB of new bytes; {HOSTS} hosts, {runs} runs",
        release.files,
        mega(release.bytes),
        release.changed_files,
        mega(release.changed_bytes),
    );
    let daemon = rsync::Daemon::start(base.path());
    let mut report = Report::default();
    // Kept to the end: deleting a fleet between two measurements would slow the second.
    let mut fleets = Vec::new();
    for run in 1..=runs {
        if let Some(daemon) = &daemon {
            daemon.measure(&release, run, &mut report);
        }
        limit::measure(&release, &mut report);
        fleets.push(ours::measure(&release, &base.path().join(format!("ours-{run}")), &mut report));
    }
    report.print(&[
        Goal { id: "F1", job: "first deploy", ours: "first deploy", peer: "rsync -a", at_most: 0.6 },
        Goal { id: "F2", job: "v1 to v2", ours: "v1 to v2", peer: "rsync --link-dest", at_most: 0.5 },
        Goal {
            id: "F3",
            job: "bytes a host, v1 to v2",
            ours: "bytes v1 to v2",
            peer: "rsync -az bytes",
            at_most: 1.25,
        },
        Goal { id: "F4", job: "rollback", ours: "rollback", peer: "ansible link flip", at_most: 0.1 },
        Goal {
            id: "F4",
            job: "rollback, against bare ssh",
            ours: "rollback",
            peer: "ssh link flip",
            at_most: 1.0,
        },
        Goal {
            id: "F7",
            job: "bundle build",
            ours: "bundle build v1",
            peer: "cut, hash and compress",
            at_most: 1.11,
        },
    ]);
    drop(daemon);
    drop(fleets);
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// How long `work` takes, beginning and ending with nothing left to be written.
fn timed(work: impl FnOnce()) -> Duration {
    sync();
    let began = Instant::now();
    work();
    let took = began.elapsed();
    sync();
    took
}

fn sync() {
    assert!(Command::new("sync").status().unwrap().success());
}

fn present(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).exists());
    found || std::path::Path::new("/usr/sbin").join(program).exists()
}
