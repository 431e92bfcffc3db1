//! How an application gets traffic on this host, and how it loses it.
//!
//! Whoever sends traffic can look at a file, `/run/windlass/APP/ready`, which is there while the application may have some:
//! that always holds. A host can have a [driver](exec) besides, which tells a load balancer and sees that it has obeyed.

pub mod exec;

use std::fs;
use std::io;
use std::time::Duration;

use windlass_proto::id::AppName;

use self::exec::{ExecDriver, ExecError};
use crate::file::{self, FileError};
use crate::runtime::{HostContext, Launch};
use crate::shim::order::RunDir;

/// What the host does besides the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// Nothing.
    None,
    /// Runs commands of the host's own.
    Exec(ExecDriver),
}

/// Why traffic did not go where it should.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    /// The readiness file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The driver.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl Driver {
    /// Longest that it may take to turn traffic off or on.
    pub const fn limit(&self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Exec(driver) => driver.limit(),
        }
    }

    /// Takes an application out of traffic; returns when it is.
    pub async fn take_out(
        &self,
        host: &HostContext,
        app: &AppName,
        run: &RunDir,
    ) -> Result<(), TrafficError> {
        withdraw(run)?;
        match self {
            Self::None => Ok(()),
            Self::Exec(driver) => Ok(driver.take_out(host, app).await?),
        }
    }

    /// Lets traffic in; returns when it may come.
    pub async fn put_back(&self, host: &HostContext, launch: &Launch) -> Result<(), TrafficError> {
        admit(launch)?;
        match self {
            Self::None => Ok(()),
            Self::Exec(driver) => Ok(driver.put_back(host, &launch.release.app).await?),
        }
    }
}

/// Removes the readiness file.
pub fn withdraw(run: &RunDir) -> Result<(), FileError> {
    let ready = run.ready();
    match fs::remove_file(&ready) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file::at("remove", &ready)(error)),
        _ => Ok(()),
    }
}

/// Writes the readiness file.
pub fn admit(launch: &Launch) -> Result<(), FileError> {
    file::make_dir(&launch.run.0)?;
    let release = &launch.release;
    file::replace(&launch.run.ready(), format!("{} {}\n", release.version, release.digest).as_bytes(), 0o644)
}
