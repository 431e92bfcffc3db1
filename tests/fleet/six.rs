//! Six hosts: how long it takes to have them, and what they weigh when nothing happens.

use std::time::{Duration, Instant};

use windlass_tests::hosts;
use windlass_tests::report::measured;
use windlass_tests::wait::pass;

#[test]
fn six_hosts_are_soon_there_and_weigh_little() {
    // Image and packages come first, and are not what is measured.
    drop(hosts::new().hosts(1).up());
    let begun = Instant::now();
    let Some(fleet) = hosts::new().hosts(6).up() else { return };
    measured("a fleet of six from nothing to enrolled", begun.elapsed());
    let list = fleet.json(&["host", "list"]);
    assert_eq!(list["hosts"].as_array().unwrap().len(), 6, "{list}");
    pass(Duration::from_secs(10));
    for (host, program) in [(fleet.coordinator(), "windlass-coordinator"), (fleet.host(1), "windlass-agent")]
    {
        let status = host.shell(&format!("cat /proc/$(pidof {program})/status")).expect(0).stdout;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = kib.split_whitespace().next().unwrap().parse().unwrap();
        weighs(program, kib);
        assert!(kib < 100 * 1024, "{program} has {kib} KiB");
    }
}

#[allow(clippy::print_stderr, reason = "whoever runs the tests should see it")]
fn weighs(program: &str, kib: u64) {
    eprintln!("MEASURED: {program} of an idle fleet of six: {:.1} MiB resident", kib as f64 / 1024.0);
}
