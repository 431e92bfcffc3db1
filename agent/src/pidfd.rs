//! Waiting for the end of a process that is not ours to reap.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

/// A process held by a descriptor: its pid cannot be given to another one without this noticing.
#[derive(Debug)]
pub struct PidFd(AsyncFd<OwnedFd>);

impl PidFd {
    /// Takes hold of the process that has this pid now.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        #[expect(deprecated, reason = "its trap is types that change their descriptor; OwnedFd does not")]
        let fd = AsyncFd::new(fd)?;
        Ok(Self(fd))
    }

    /// Resolves when the process has ended, reaped or not.
    pub async fn ended(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
}
