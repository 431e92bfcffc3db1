//! The agent: one per host; installs releases, runs them, probes them, and goes back by itself.
//!
//! It dials out and listens nowhere but on a local socket, and for metrics where its configuration says so. All decisions are made by the pure machine in
//! `windlass-release`; this crate makes its events and performs its effects.
//!
//! Tasks and what flows between them:
//!
//! ```text
//!  coordinator ◄─ mTLS stream ─► session ── Order (bounded mpsc) ─── ──► driver ── effects ──► runtime, probe, drain,
//!                                   ▲                                    │  ▲                 storage, evidence
//!                                   └──── latest AppStatus (watch) ──────┘  └── what they found (bounded mpsc)
//!                                   ▲
//!                                renewal: a new certificate at half life
//! ```
//!
//! * [`args`], [`config`], [`log`]: flags, the configuration file, what is written to stderr.
//! * [`app`]: build, run and end of all tasks, in that order.
//! * [`identity`], [`enrol`]: the host's key and certificate; [`setup`]: a fresh host joins by one command. [`session`]: the stream to a coordinator.
//! * [`driver`]: the one loop: event, step, journal, effects, status. [`dispatch`]: effects become tasks, one lane per app;
//!   [`perform`]: what each effect does. [`recover`]: what was under way. [`exchange`]: words of session and driver.
//! * [`runtime`]: starts and stops applications, which are never children of the agent; [`shim`] is their parent.
//! * [`hook`]: runs the commands of a release on the way from one to the next.
//! * [`probe`], [`drain`], [`attest`], [`evidence`], [`facts`], [`features`]: what the host sees of an application and of itself.
//! * [`traffic`]: how an application gets traffic on this host, and how it loses it.
//! * [`network`]: the host's own interfaces and routes, for the question whose fault a silence is.
//! * [`layout`]: names of all paths. [`journal`]: the truth about what is under way. [`link`]: `confirmed` and `current`.
//! * [`restore_links`]: `current` at boot, without an agent. [`reset_fence`]: obeying any coordinator again.
//! * [`ballast`]: room for links on a full disk. [`held`]: releases as their directories say. [`storage`]: all of it brought up.
//! * [`staging`]: from an order to a complete release; [`mend`] does it again for a damaged way back. [`store`]: what is remembered of releases; [`retain`]: which stay; [`pin`]: which somebody wants.
//! * [`failpoint`]: where tests kill the agent; nothing but in a build for them.
//! * [`metrics`]: what a monitoring system sees of the host. [`traced`]: what a collector of traces sees of its deployments.
//! * [`tail`]: what an app wrote last. [`control`]: the local socket for `releases`, `inspect` and `stop-apps`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod app;
pub mod args;
pub mod attest;
pub mod audit_seen;
pub mod backoff;
pub mod ballast;
pub mod clock;
pub mod command;
pub mod config;
pub mod control;
pub mod dispatch;
pub mod drain;
pub mod driver;
pub mod durable;
pub mod enrol;
pub mod evidence;
pub mod exchange;
pub mod facts;
pub mod failpoint;
pub mod features;
pub mod file;
pub mod held;
pub mod hook;
pub mod identity;
pub mod inspect;
pub mod journal;
pub mod layout;
pub mod link;
pub mod log;
mod mend;
pub mod metrics;
pub mod network;
pub mod perform;
pub mod pidfd;
pub mod pin;
pub mod probe;
pub mod processes;
pub mod pulse;
pub mod recover;
pub mod reset_fence;
pub mod restore_links;
pub mod retain;
pub mod runtime;
pub mod session;
pub mod setup;
pub mod shim;
pub mod sockets;
pub mod staging;
pub mod stop_apps;
pub mod storage;
pub mod store;
pub mod tail;
pub mod traced;
pub mod traffic;
pub mod variables;

use std::process::ExitCode;

use clap::Parser as _;

/// Reads the command line, does what it says and returns the exit code: 0 done, 1 failed, 2 bad usage or configuration.
pub fn main() -> ExitCode {
    // Modes of files and directories are the agent's own decision, and the umask of applications is the same on every host:
    // whoever started the agent has no say in either.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    args::Args::parse().run()
}
