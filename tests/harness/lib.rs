//! Drives the real programs: builds them where they are missing, starts fleets with `windlass dev`, asks from the outside.
//!
//! A test reads as a sentence: `fleet::new().hosts(5).up()`, then `fleet.deploy(&app)`, `fleet.host(2).kill()`,
//! `fleet.serves(...)`. Everything is torn down when the fleet goes out of scope.
//!
//! * [`programs`] where the binaries are; [`fleet`] a development fleet; [`app`] and [`prometheus`] what is deployed on it; [`operator`] who uses the CLI.
//! * [`agent`] an agent or a coordinator that the test runs itself; [`wire`] what lies between agents and a coordinator.
//! * [`hosts`] a fleet of containers in which systemd is PID 1, with the packages installed; [`disk`] small disks that fail.
//! * [`properties`] what must hold of a host whatever was done to it.
//! * [`run`] one run of a program; [`http`] asking an app; [`wait`] conditions with deadlines.
//! * [`needs`] what a test needs of the machine; [`skip`] says that it is not there.

#![allow(clippy::unwrap_used, reason = "tests")]

pub mod agent;
pub mod app;
pub mod disk;
pub mod fleet;
pub mod hosts;
pub mod http;
pub mod needs;
pub mod operator;
pub mod programs;
pub mod prometheus;
pub mod properties;
pub mod run;
pub mod wait;
pub mod wire;

/// Says what a test has measured, for whoever reads its output.
#[allow(clippy::print_stderr, reason = "whoever runs the tests should see it")]
pub fn measured(what: &str, time: std::time::Duration) {
    eprintln!("MEASURED: {what}: {:.3} s", time.as_secs_f64());
}

/// Says that a test was skipped, and why.
#[allow(clippy::print_stderr, reason = "whoever runs the tests should see it")]
pub fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
