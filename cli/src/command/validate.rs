//! `windlass validate`: every problem of a spec at once, offline.

use serde_json::json;

use crate::args::SpecFile;
use crate::error::Result;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::json::wrap;
use crate::spec::{self, Scope};

/// Checks the file with all its environments, or with the one asked for.
pub fn run(invocation: &Invocation, args: &SpecFile) -> Result {
    let out = &invocation.out;
    let spec = spec::read(args, Scope::Everything)?;
    for warning in &spec.warnings {
        out.warn(warning);
    }
    let file = args.file.display().to_string();
    if out.format.is_structured() {
        out.object(&wrap(
            "Validation",
            json!({ "file": file, "ok": true, "app": spec.app, "environments": spec.environments, "warnings": spec.warnings }),
        ))?;
    } else {
        let environments = match spec.environments.as_slice() {
            [] => String::new(),
            names => format!(" with environments {}", names.join(", ")),
        };
        out.step("Valid", &format!("{file}  app {}{environments}", spec.app));
    }
    Ok(Exit::Done)
}
