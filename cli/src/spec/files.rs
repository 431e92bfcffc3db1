//! What the spec says of the bundle's files, checked against the directory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use windlass_proto::phase::HookName;
use windlass_proto::spec::check::{Finding, Level};
use windlass_proto::spec::{ReleaseSpec, Runtime};

/// Checks that `files` exists and holds the programs that the spec starts.
pub fn check(release: &ReleaseSpec, dir: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut error = |path: &str, message: String| {
        found.push(Finding { path: path.to_owned(), level: Level::Error, message });
    };
    if release.files.trim().is_empty() {
        error(
            "release.files",
            "is missing: name the directory that goes into the bundle, as in ./dist".into(),
        );
        return found;
    }
    let root = place(dir, &release.files);
    let metadata = match std::fs::metadata(&root) {
        Ok(metadata) => metadata,
        Err(cause) => {
            error("release.files", format!("cannot read {}: {cause}", root.display()));
            return found;
        }
    };
    for (path, program, static_reload) in programs(release) {
        // A bare word of a static release (nginx) is looked up on the host's PATH.
        if static_reload && !program.contains('/') {
            continue;
        }
        let there = if metadata.is_dir() {
            std::fs::metadata(root.join(program))
        } else if root.file_name().is_some_and(|name| name == program) {
            Ok(metadata.clone())
        } else {
            Err(std::io::Error::from(std::io::ErrorKind::NotFound))
        };
        match there {
            Err(_) => error(&path, format!("{program} is not in {}", root.display())),
            Ok(file) if !file.is_file() => {
                error(&path, format!("{program} in {} is not a file", root.display()))
            }
            // A unit is read and not run.
            Ok(file) if file.permissions().mode() & 0o111 == 0 && path != "release.runtime.unit" => {
                error(
                    &path,
                    format!("{program} is not executable: chmod +x {}", root.join(program).display()),
                );
            }
            Ok(_) => {}
        }
    }
    found
}

/// Where the files are, as short as it can be said.
pub fn place(dir: &Path, files: &str) -> PathBuf {
    let dir = if dir == Path::new(".") { Path::new("") } else { dir };
    let place: PathBuf = dir.join(files).components().filter(|part| *part != Component::CurDir).collect();
    if place.as_os_str().is_empty() { PathBuf::from(".") } else { place }
}

/// Programs that lie in the bundle, with the fields that name them.
fn programs(release: &ReleaseSpec) -> Vec<(String, &str, bool)> {
    let mut programs = Vec::new();
    match &release.runtime {
        Runtime::Process { command, .. } | Runtime::Systemd { command, unit: None, .. } => {
            programs.push(("release.runtime.command.0".into(), command.first(), false))
        }
        Runtime::Systemd { unit, .. } => programs.push(("release.runtime.unit".into(), unit.as_ref(), false)),
        Runtime::Static { reload } => {
            programs.push(("release.runtime.reload.0".into(), reload.first(), true))
        }
    }
    let probes = &release.probes;
    for (name, probe) in
        [("startup", &probes.startup), ("readiness", &probes.readiness), ("liveness", &probes.liveness)]
    {
        let exec = probe.as_ref().and_then(|p| p.exec.as_ref());
        programs.push((
            format!("release.probes.{name}.exec.command.0"),
            exec.and_then(|e| e.command.first()),
            false,
        ));
    }
    for (i, probe) in release.smoke.iter().enumerate() {
        let exec = probe.exec.as_ref();
        programs.push((
            format!("release.smoke.{i}.exec.command.0"),
            exec.and_then(|e| e.command.first()),
            false,
        ));
    }
    for name in HookName::ALL {
        let commands = release.hooks.of(*name).iter().enumerate();
        programs.extend(
            commands.map(|(i, hook)| (format!("release.hooks.{name}.{i}.run.0"), hook.run.first(), false)),
        );
    }
    programs
        .into_iter()
        .filter_map(|(path, program, reload)| Some((path, program?.as_str(), reload)))
        .filter(|(_, program, _)| !program.is_empty() && !program.starts_with('/') && !program.contains('{'))
        .filter(|(_, program, _)| !program.split('/').any(|part| part == ".." || part == "."))
        .collect()
}
