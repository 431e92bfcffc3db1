//! The coordinator: leads rollouts across the fleet.
//!
//! ```text
//!   agents ──TLS──► listen ─► rpc::auth ─► rpc::agent ─► session ──┐ questions (bounded queue)
//!   operators ─TLS► listen ─► rpc::auth ─► rpc::{bundle, fleet, ───┤
//!                                          rollout}                ▼
//!                                             │            driver: one task, owns fleet::Fleet
//!                                             ▼                    │ change → commit (store) → send → answer
//!                                          objects                 └─► sessions' queues, watchers
//! ```
//!
//! * Start: [`args`], [`config`], [`log`], [`app`], [`watchdog`]; certificates: [`pki`].
//! * Doors: [`listen`] (accept loop, TLS, who is calling), `routes` (servers and their bounds), [`rpc`] (services; `rpc::auth` is the
//!   table of who may call).
//! * Mind: [`driver`] owns [`fleet`], the projection of the state, and asks [`clock`]; decisions on rollouts are `windlass_rollout`'s.
//! * [`issued`]: certificates of operators that it is not asked for, taken into the audit log.
//! * [`metrics`]: what a monitoring system sees. [`availability`]: asks URLs as users would.
//! * [`questions`]: what hosts were asked, and whose answer is waited for.
//! * Memory: [`store`] (state, small, transactional), [`objects`] (chunks, envelopes, evidence), in directories that are
//!   [`private`].
//!
//! Nothing is sent or answered that is not on disk first. A coordinator that was killed starts from disk with a higher
//! epoch, and rollouts go on with what the hosts report.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod app;
pub mod args;
pub mod availability;
pub mod clock;
pub mod config;
pub mod driver;
pub mod fleet;
pub mod guests;
pub mod issued;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod objects;
pub mod pki;
mod private;
pub mod questions;
pub mod rate;
mod routes;
pub mod rpc;
pub mod session;
pub mod store;
pub mod watchdog;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Args, Verb};

/// The program; exit codes: 0 done, 1 failed, 2 bad usage or settings, or deposed.
pub fn main() -> ExitCode {
    let args = Args::parse();
    log::init(args.log_format);
    let done: Result<(), Box<dyn std::error::Error>> = match args.verb {
        Verb::Run(args) => match config::Settings::load(args) {
            Ok(settings) => return run(settings),
            Err(error) => {
                report(&error);
                return ExitCode::from(2);
            }
        },
        Verb::Man => clap_mangen::Man::new(Args::command())
            .section("8")
            .render(&mut std::io::stdout())
            .map_err(Into::into),
        Verb::IssueOperator(args) => {
            pki::issue_operator(&args.state_dir, &args.name, args.days, &args.out).map_err(Into::into)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run(settings: config::Settings) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            report(&error);
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(async { app::App::build(settings).await?.run().await }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// An error for people: what failed, then why, one cause a line.
#[allow(clippy::print_stderr, reason = "the last words of the program")]
fn report(error: &(dyn std::error::Error + 'static)) {
    eprintln!("error: {error}");
    let mut next = error.source();
    while let Some(cause) = next {
        eprintln!("  {cause}");
        next = cause.source();
    }
}
