//! Texts made from the program itself: schema, completions, man pages.

use clap::CommandFactory;

use crate::args::{Args, Completions, Man};
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;

/// `windlass schema`.
pub fn schema(invocation: &Invocation) -> Result {
    invocation.out.line(&format!("{:#}", crate::spec::schema()))?;
    Ok(Exit::Done)
}

/// `windlass completions SHELL`.
pub fn completions(invocation: &Invocation, args: &Completions) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "windlass", &mut script);
    invocation.out.data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// `windlass man DIR`: one page a verb.
pub fn man(invocation: &Invocation, args: &Man) -> Result {
    let failed = |error: std::io::Error| {
        ExpectedError::failed(format!("cannot write man pages to {}", args.dir.display())).because(error)
    };
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(Args::command(), &args.dir).map_err(failed)?;
    invocation.out.step("Wrote", &format!("man pages to {}", args.dir.display()));
    Ok(Exit::Done)
}
