//! One file per verb.

pub mod demo;
pub mod dev;

use crate::args::Command;
use crate::error::Result;
use crate::invocation::Invocation;

/// Runs a verb.
pub async fn run(invocation: &Invocation, command: Command) -> Result {
    match command {
        Command::Dev(args) => dev::run(invocation, args).await,
        Command::Demo(args) => demo::run(invocation, args).await,
        Command::DemoApp(args) => crate::demo::app::serve(args).await,
        Command::DevSession(args) => Err(crate::dev::session::become_program(&args.program, &args.args)),
        _ => Err(crate::error::ExpectedError::failed("not built")),
    }
}
