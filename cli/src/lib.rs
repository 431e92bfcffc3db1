//! The command line: parse, do, say what happened, end with a documented code.
//!
//! * [`args`] the verbs; [`command`] one file per verb; [`invocation`] what every verb is given.
//! * [`spec`] reads windlass.yaml with line numbers; [`build`] makes a bundle of it, signed with [`keys`]; [`push`] sends it.
//! * [`config`] contexts; [`client`] the coordinator; [`heads`] what was seen of its audit log; [`files`] durable small files.
//! * [`output`] data on stdout, talk on stderr; [`watch`] following a rollout, live or in lines.
//! * [`traced`] an order in a trace. [`error`] and [`exit`] what is said and returned when something fails.
//! * [`dev`] a fleet on this machine; [`demo`] the whole story told on one.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod args;
pub mod build;
pub mod client;
pub mod command;
pub mod config;
pub mod demo;
pub mod dev;
pub mod error;
pub mod exit;
pub mod files;
pub mod grant;
pub mod heads;
pub mod invocation;
pub mod keys;
pub mod output;
pub mod push;
pub mod spec;
pub mod traced;
pub mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::exit::Exit;
use crate::invocation::Invocation;

/// Parses the arguments, runs the verb and gives back the exit code.
pub fn main() -> ExitCode {
    let args = Args::parse();
    invocation::set_color(args.global.color);
    let mut invocation = Invocation::new(&args.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&invocation, &error::ExpectedError::failed("cannot start").because(error)),
    };
    let result = runtime.block_on(Box::pin(async {
        invocation.spans = traced::spans(&invocation.out);
        let result = command::run(&invocation, args.command).await;
        traced::flush(&invocation.spans).await;
        result
    }));
    // Blocking work that nobody waits for any more (a read of stdin) must not hold the program.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit.into(),
        Err(error) => fail(&invocation, &error),
    }
}

fn fail(invocation: &Invocation, error: &error::ExpectedError) -> ExitCode {
    if error.exit() != Exit::Done {
        invocation.out.talk(error.render().trim_end());
        if let Some(detail) = error.detail() {
            invocation.out.detail(detail);
        }
    }
    error.exit().into()
}
