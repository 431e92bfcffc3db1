//! `cargo run -p windlass-tests --example test-fleet -- [HOSTS]`: a fleet of hosts with systemd and the real packages, to try
//! things on. It is gone when this ends, by Ctrl-C.
#![allow(clippy::print_stdout, reason = "a command for people")]
#![allow(clippy::unwrap_used, reason = "tests")]

use nix::sys::signal::{SigSet, Signal};
use windlass_tests::hosts;

fn main() {
    let hosts = std::env::args().nth(1).map_or(Ok(3), |count| count.parse());
    let Ok(hosts @ 1..=50) = hosts else {
        println!("usage: test-fleet [HOSTS], from 1 to 50");
        std::process::exit(2);
    };
    // Before any thread is there: whatever ends this, the fleet is taken down.
    let ends: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    ends.thread_block().unwrap();
    let Some(fleet) = hosts::new().hosts(hosts).up() else { std::process::exit(1) };
    println!("export WINDLASS_CONFIG={}", fleet.config.display());
    println!("{} host list", fleet.cli.display());
    for host in std::iter::once(fleet.coordinator()).chain(fleet.hosts()) {
        println!("{:<12} {:<16} docker exec -it {} bash", host.name, host.address, host.container);
    }
    println!("Ctrl-C takes it down");
    ends.wait().unwrap();
}
