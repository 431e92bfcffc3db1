//! Real programs, real applications, real kills. Each test has a fleet of its own; they run one at a time.
#![allow(clippy::unwrap_used, reason = "tests")]

mod afterwards;
mod audit;
mod availability;
mod bundles;
mod clocks;
mod contact;
mod counters;
mod damage;
mod demo;
mod development_fleet;
mod drain;
mod environments;
mod events;
mod fork;
mod grants;
mod grpc;
mod health;
mod hooks;
mod host_faults;
mod integrity;
mod kills;
mod local;
mod logs;
mod metrics;
mod prometheus;
mod refusals;
mod rollouts;
mod shared_files;
mod terminals;
mod traces;
mod traffic;
mod trust;
