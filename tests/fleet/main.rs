//! Hosts as users have them: systemd as PID 1, the packages installed, a network that can be cut. Needs root and Docker.
#![allow(clippy::unwrap_used, reason = "tests")]

mod author;
mod network;
mod packages;
mod power;
mod six;
mod story;
mod strain;
mod units;
