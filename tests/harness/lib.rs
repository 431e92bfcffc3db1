//! Drives the real programs: builds them where they are missing, starts fleets with `windlass dev`, asks from the outside.
//!
//! A test reads as a sentence: `fleet::new().hosts(5).up()`, then `fleet.deploy(&app)`, `fleet.host(2).kill()`,
//! `fleet.serves(...)`. Everything is torn down when the fleet goes out of scope.
//!
//! * [`programs`] where the binaries are; [`fleet`] a development fleet; [`app`] and [`prometheus`] what is deployed on it; [`operator`] who uses the CLI.
//! * [`agent`] an agent or a coordinator that the test runs itself; [`wire`] what lies between agents and a coordinator.
//! * [`hosts`] a fleet of containers in which systemd is PID 1, with the packages installed; [`disk`] small disks that fail.
//! * [`collector`] a real collector of traces.
//! * [`properties`] what must hold of a host whatever was done to it.
//! * [`dice`] repeatable chance; [`run`] one run of a program; [`http`] asking an app; [`wait`] conditions with deadlines.
//! * [`needs`] what a test needs of the machine; [`report`] what a test says besides its result; [`sample`] which cells of a long
//!   matrix are run when there is no time for all.

#![allow(clippy::unwrap_used, reason = "tests")]

pub mod agent;
pub mod app;
pub mod collector;
pub mod dice;
pub mod disk;
pub mod fleet;
pub mod hosts;
pub mod http;
pub mod needs;
pub mod operator;
pub mod programs;
pub mod prometheus;
pub mod properties;
pub mod report;
pub mod run;
pub mod sample;
pub mod wait;
pub mod wire;
