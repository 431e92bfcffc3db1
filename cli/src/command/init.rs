//! `windlass init`: a commented windlass.yaml to begin with.

use windlass_proto::id::AppName;

use crate::args::Init;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;

const TEMPLATE: &str = include_str!("init.yaml");

/// Writes the file.
pub fn run(invocation: &Invocation, args: Init) -> Result {
    let path = &args.file;
    let shown = path.display();
    if path.exists() && !args.force {
        return Err(ExpectedError::usage(format!("{shown} exists already"))
            .hint("windlass validate    (checks it)")
            .hint("windlass init --force    (overwrites it)"));
    }
    let app = match args.app {
        Some(name) => AppName::new(name)
            .map_err(|error| ExpectedError::usage("--app is not a good name").because(error))?,
        None => AppName::new(directory_name(path)).unwrap_or_else(|_| default_name()),
    };
    let text = TEMPLATE.replace("APP_NAME", app.as_str());
    crate::files::write_atomic(path, text.as_bytes(), 0o644)
        .map_err(|error| ExpectedError::failed(format!("cannot write {shown}")).because(error))?;
    let out = &invocation.out;
    out.step("Wrote", &format!("{shown}  for app {app}"));
    out.talk("Set files, command, ports and the selector, then:");
    out.talk(&format!("  windlass validate{0}\n  windlass deploy{0} --version 1.0.0", flag(path)));
    Ok(Exit::Done)
}

fn flag(path: &std::path::Path) -> String {
    if path.as_os_str() == "windlass.yaml" { String::new() } else { format!(" -f {}", path.display()) }
}

/// The directory's name with everything that a name may not hold taken out.
fn directory_name(path: &std::path::Path) -> String {
    let dir =
        path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| std::path::Path::new("."));
    let name =
        std::fs::canonicalize(dir).ok().and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned()));
    let name = name.unwrap_or_default().to_lowercase();
    let kept: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    kept.trim_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(63).collect()
}

fn default_name() -> AppName {
    AppName::new("my-app").unwrap_or_else(|_| unreachable!("a constant name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::SpecFile;
    use crate::spec::{Scope, read};

    #[test]
    fn what_init_writes_is_valid_once_the_program_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("windlass.yaml");
        let template = TEMPLATE.replace("APP_NAME", "shop");
        let (base, environments) = template.split_once("# environments:").unwrap();
        let environments = format!("environments:{}", environments.replace("\n# ", "\n"));
        std::fs::create_dir_all(dir.path().join("dist/bin")).unwrap();
        crate::files::write_new(&dir.path().join("dist/bin/shop"), b"#!/bin/sh\n", 0o755).unwrap();
        for (text, env) in [
            (template.clone(), None),
            (format!("{base}{environments}"), Some("production")),
            (format!("{base}{environments}"), Some("staging")),
        ] {
            std::fs::write(&file, text).unwrap();
            let args = SpecFile { file: file.clone(), env: env.map(str::to_owned), set: Vec::new() };
            let spec = read(&args, Scope::Everything).map_err(|error| error.render()).unwrap();
            assert_eq!(spec.warnings, Vec::<String>::new());
            assert_eq!(spec.environment.as_str(), env.unwrap_or("default"));
        }
    }

    #[test]
    fn names_come_from_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("My Shop_API!");
        std::fs::create_dir(&path).unwrap();
        assert_eq!(directory_name(&path.join("windlass.yaml")), "my-shop_api");
    }
}
