//! One file per verb; [`order`] is what `plan` and `deploy` share.

pub mod app;
pub mod audit;
pub mod bundle;
pub mod context;
mod counter;
pub mod demo;
pub mod deploy;
pub mod dev;
mod difference;
pub mod environment;
pub mod events;
pub mod host;
pub mod init;
pub mod key;
pub mod logs;
pub mod order;
pub mod plan;
pub mod rollback;
pub mod rollout;
pub mod status;
pub mod supersede;
pub mod text;
pub mod token;
pub mod validate;
pub mod version;
pub mod versions;
pub mod why;

use crate::args::Command;
use crate::error::Result;
use crate::invocation::Invocation;

/// Runs a verb. Each is boxed: their futures are large and only one of them ever runs.
pub async fn run(invocation: &Invocation, command: Command) -> Result {
    match command {
        Command::Init(args) => init::run(invocation, args),
        Command::Validate(args) => validate::run(invocation, &args),
        Command::Plan(args) => Box::pin(plan::run(invocation, args)).await,
        Command::Deploy(args) => Box::pin(deploy::run(invocation, args)).await,
        Command::Status(args) => Box::pin(status::run(invocation, args)).await,
        Command::Rollback(args) => Box::pin(rollback::run(invocation, args)).await,
        Command::Versions(args) => Box::pin(versions::run(invocation, args)).await,
        Command::Why(args) => Box::pin(why::run(invocation, args)).await,
        Command::Logs(args) => Box::pin(logs::run(invocation, args)).await,
        Command::Audit(args) => Box::pin(audit::run(invocation, args)).await,
        Command::Events(args) => Box::pin(events::run(invocation, args)).await,
        Command::Bundle(verb) => Box::pin(bundle::run(invocation, verb)).await,
        Command::Rollout(verb) => Box::pin(rollout::run(invocation, verb)).await,
        Command::Host(verb) => Box::pin(host::run(invocation, verb)).await,
        Command::App(verb) => Box::pin(app::run(invocation, verb)).await,
        Command::Key(verb) => key::run(invocation, verb),
        Command::Token(verb) => Box::pin(token::run(invocation, verb)).await,
        Command::Context(verb) => Box::pin(context::run(invocation, verb)).await,
        Command::Schema => text::schema(invocation),
        Command::Completions(args) => text::completions(invocation, &args),
        Command::Man(args) => text::man(invocation, &args),
        Command::Version(args) => Box::pin(version::run(invocation, args)).await,
        Command::Dev(args) => Box::pin(dev::run(invocation, args)).await,
        Command::Demo(args) => Box::pin(demo::run(invocation, args)).await,
        Command::DemoApp(args) => crate::demo::app::serve(args).await,
        Command::DevSession(args) => Err(crate::dev::session::become_program(&args.program, &args.args)),
    }
}
