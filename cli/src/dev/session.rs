//! How a fleet's processes outlive the shell and the CLI: a session of their own, without unsafe code.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::ExpectedError;

/// Leaves the caller's session, then becomes `program`. Comes back only when that fails.
pub fn become_program(program: &Path, args: &[OsString]) -> ExpectedError {
    // Fails only for a leader of a process group, which already is out of its parent's reach.
    let _ = nix::unistd::setsid();
    let error = Command::new(program).args(args).exec();
    ExpectedError::failed(format!("cannot start {}", program.display())).because(error)
}
