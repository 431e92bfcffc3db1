//! Hosts as users have them: systemd as PID 1, the packages installed, a network that can be cut.
#![allow(clippy::unwrap_used, reason = "tests")]

mod story;
