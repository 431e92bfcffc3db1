//! The packages under test, as `packaging/build` makes them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::needs;
use crate::programs::root;
use crate::run::{run, run_within};

/// Longest that a release build may take.
const BUILD: Duration = Duration::from_secs(1800);

/// Whether they are there or can be made; says why not.
///
/// # Panics
/// Under `CI`, instead of answering no.
pub fn can_be_made() -> bool {
    std::env::var_os("WINDLASS_PACKAGES").is_some() || needs::tool("nfpm").is_some()
}

/// The .deb of `windlass`, `windlass-agent` or `windlass-coordinator`: from `WINDLASS_PACKAGES`, a directory, where that is
/// set; else made anew when programs or packaging have changed.
pub fn deb(name: &str) -> PathBuf {
    find(directory(), name, '_', ".deb").unwrap_or_else(|| panic!("no {name} in {}", directory().display()))
}

/// The .rpm, where the packages are made here.
pub fn rpm(name: &str) -> Option<PathBuf> {
    find(directory(), name, '-', ".rpm")
}

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| std::env::var_os("WINDLASS_PACKAGES").map_or_else(made, PathBuf::from))
}

/// The CLI of its package, unpacked into `dir`.
pub fn cli(dir: &Path) -> PathBuf {
    run(Command::new("dpkg-deb").arg("--extract").arg(deb("windlass")).arg(dir)).expect(0);
    dir.join("usr/bin/windlass")
}

fn made() -> PathBuf {
    let target = root().join("target");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    run_within(build.current_dir(root()).args(["build", "--release", "--locked"]), BUILD).expect(0);
    let packages = target.join("packages");
    let debs =
        ["windlass", "windlass-agent", "windlass-coordinator"].map(|name| find(&packages, name, '_', ".deb"));
    let oldest = debs.iter().map(|deb| deb.as_deref().and_then(modified)).min().flatten();
    if oldest.is_none_or(|oldest| oldest < newest_part(&target)) {
        run_within(&mut Command::new(root().join("packaging/build")), BUILD).expect(0);
    }
    packages
}

/// Of names as `windlass_0.1.0-1_amd64.deb`, `windlass-0.1.0-1.x86_64.rpm`.
fn find(packages: &Path, name: &str, separator: char, extension: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(packages).ok()?.flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let version = file.strip_prefix(name).and_then(|rest| rest.strip_prefix(separator));
        version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
            && file.ends_with(extension)
    };
    entries.into_iter().find(is_it)
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

/// When the newest of what goes into packages was written.
fn newest_part(target: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut open = vec![root().join("packaging"), root().join("CHANGELOG.md")];
    open.extend(
        ["windlass", "windlass-agent", "windlass-coordinator"].map(|name| target.join("release").join(name)),
    );
    open.extend(["agent", "coordinator", "cli"].map(|crate_| root().join(crate_).join("Cargo.toml")));
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Some(at) = modified(&path) {
            newest = newest.max(at);
        }
    }
    newest
}
