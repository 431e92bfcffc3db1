//! The command line without a fleet: help, usage errors, exit codes, README's example.
#![allow(clippy::unwrap_used, reason = "tests")]

mod contract;
mod environments;
mod readme;
