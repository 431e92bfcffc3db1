//! What is where in a development fleet's directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::wait::until;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;

/// Longest path of a Unix socket, with its final NUL.
const SOCKET_PATH: usize = 108;

/// A development fleet's directory.
#[derive(Debug, Clone)]
pub struct Place {
    dir: PathBuf,
}

impl Place {
    /// The fleet in `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).map_err(|error| {
            ExpectedError::usage(format!("{} is not a usable directory", dir.display())).because(error)
        })?;
        let place = Self { dir };
        let socket = place.host_state("host-999").join("control.sock");
        if socket.as_os_str().len() >= SOCKET_PATH {
            return Err(ExpectedError::usage(format!(
                "{} is too long a path for a fleet: its agents' sockets must stay below {SOCKET_PATH} characters",
                place.dir.display()
            ))
            .hint("windlass dev up --dir /tmp/fleet --hosts 3"));
        }
        Ok(place)
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory and its fixed parts; refuses one that holds something else.
    pub fn prepare(&self) -> Result<()> {
        let failed = |error| {
            ExpectedError::failed(format!("cannot make the fleet's directory {}", self.dir.display()))
                .because(error)
        };
        let mut entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries.take(1).filter_map(|e| e.ok()).count(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(failed(error)),
        };
        if self.record().exists() || self.lock_file().exists() {
            entries = 0;
        }
        if entries > 0 {
            return Err(ExpectedError::usage(format!(
                "{} is neither empty nor a development fleet: it has no fleet.json",
                self.dir.display()
            ))
            .hint("give a new directory: windlass dev up --dir ./fleet --hosts 3"));
        }
        for part in ["keys", "logs", "hosts"] {
            std::fs::create_dir_all(self.dir.join(part)).map_err(failed)?;
        }
        Ok(())
    }

    /// Holds the directory against a second `dev up` or `dev down`; waits a while for one that is under way.
    pub async fn lock(&self) -> Result<Flock<File>> {
        let failed = |cause: String| {
            ExpectedError::new(Exit::Conflict, format!("cannot lock the fleet in {}", self.dir.display()))
                .cause(cause)
        };
        let path = self.lock_file();
        let take = async || {
            let file = match File::create(&path) {
                Ok(file) => file,
                Err(error) => return Some(Err(failed(error.to_string()))),
            };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => Some(Ok(lock)),
                Err((_, Errno::EWOULDBLOCK)) => None,
                Err((_, error)) => Some(Err(failed(error.to_string()))),
            }
        };
        until(Duration::from_secs(60), take)
            .await
            .unwrap_or_else(|| Err(failed("another windlass dev works on it".into())))
    }

    fn lock_file(&self) -> PathBuf {
        self.dir.join(".lock")
    }

    /// `fleet.json`.
    pub fn record(&self) -> PathBuf {
        self.dir.join("fleet.json")
    }

    /// The operator's configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// The development author's private key.
    pub fn author_key(&self) -> PathBuf {
        self.dir.join("keys/author.key")
    }

    /// The operator's certificate.
    pub fn operator_certificate(&self) -> PathBuf {
        self.dir.join("admin.pem")
    }

    /// State of the coordinator.
    pub fn coordinator_state(&self) -> PathBuf {
        self.dir.join("coordinator")
    }

    /// Where the coordinator writes what it bound.
    pub fn addresses(&self) -> PathBuf {
        self.coordinator_state().join("addresses.json")
    }

    /// A host's directory.
    pub fn host(&self, name: &str) -> PathBuf {
        self.dir.join("hosts").join(name)
    }

    /// A host's state.
    pub fn host_state(&self, name: &str) -> PathBuf {
        self.host(name).join("state")
    }

    /// A host's agent.toml.
    pub fn agent_config(&self, name: &str) -> PathBuf {
        self.host(name).join("agent.toml")
    }

    /// The log of `coordinator` or of a host's agent.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_other_things_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path()).unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "x").unwrap();
        let error = place.prepare().unwrap_err();
        assert!(error.message().contains("fleet.json"), "{error}");
        assert!(!dir.path().join("keys").exists());
    }

    #[test]
    fn a_path_too_long_for_sockets_is_refused_at_once() {
        let error = Place::new(&Path::new("/tmp").join("x".repeat(90))).unwrap_err();
        assert!(error.message().contains("sockets"), "{error}");
    }
}
