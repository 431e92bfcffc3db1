//! What a test needs of the machine beyond the programs under test: root, and programs of Debian's packages.
//!
//! Root on Debian gets what is missing installed. Elsewhere the test says that it is skipped and why; in CI nothing is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::root;
use crate::report::skip;

/// A program, and the Debian package that has it.
pub type Needed<'a> = (&'a str, &'a str);

/// Whether the test may go on: it is root and every program is there, installed just now where they were missing.
///
/// # Panics
/// Under `CI`, instead of answering no.
pub fn root_and(programs: &[Needed<'_>]) -> bool {
    if nix::unistd::geteuid().is_root() { self::programs(programs) } else { refuse("this test needs root") }
}

/// The same for tests that need no root themselves.
///
/// # Panics
/// Under `CI`, instead of answering no.
pub fn programs(programs: &[Needed<'_>]) -> bool {
    let missing = || programs.iter().filter(|(program, _)| !is_there(program)).collect::<Vec<_>>();
    if missing().is_empty() {
        return true;
    }
    // Tests are processes of their own, and apt takes one caller at a time.
    let turn = File::create(std::env::temp_dir().join("windlass-tests.apt.lock"));
    let _turn = turn.and_then(|file| file.lock().map(|()| file));
    let packages: Vec<&str> = missing().iter().map(|(_, package)| *package).collect();
    if !packages.is_empty() && is_debian_root() {
        let _updated = apt(&["update", "-qq"]);
        let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
        install.extend(&packages);
        let _installed = apt(&install);
    }
    let missing: Vec<&str> = missing().iter().map(|(program, _)| *program).collect();
    missing.is_empty()
        || refuse(&format!("{} missing; apt-get install {}", missing.join(", "), packages.join(" ")))
}

/// A tool that `cargo guard setup` puts into `target/tools`, or that is on the path; its path.
///
/// # Panics
/// Under `CI`, instead of answering none.
pub fn tool(name: &str) -> Option<PathBuf> {
    let own = root().join("target/tools/bin").join(name);
    if own.is_file() {
        return Some(own);
    }
    let found = directories().map(|dir| dir.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{name} is missing; run cargo guard setup"));
    }
    found
}

fn refuse(why: &str) -> bool {
    skip(why);
    false
}

fn is_there(program: &str) -> bool {
    directories().any(|dir| dir.join(program).is_file())
}

fn directories() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path).collect::<Vec<_>>();
    // A user's PATH has no sbin.
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    own.into_iter().chain(system)
}

fn is_debian_root() -> bool {
    nix::unistd::geteuid().is_root() && Path::new("/etc/debian_version").exists() && is_there("apt-get")
}

fn apt(args: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command.output().is_ok_and(|output| output.status.success())
}
