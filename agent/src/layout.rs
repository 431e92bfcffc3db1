//! Where everything lies on a host: the one place that knows the names of the state directory.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, OpId};

use crate::file::{self, FileError};

/// Paths of the state directory and of the run directory, all absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    state: PathBuf,
    run: PathBuf,
}

/// A directory that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot create directory {}", path.display())]
pub struct CreateError {
    /// The directory.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Only the agent's user may look inside.
pub(crate) const PRIVATE: u32 = 0o700;
/// Apps run as other users and must reach their files.
const SHARED: u32 = 0o755;

impl Layout {
    /// The layout below these two directories; relative paths are taken from the working directory.
    pub fn new(state: impl AsRef<Path>, run: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { state: std::path::absolute(state)?, run: std::path::absolute(run)? })
    }

    /// Makes all directories that do not depend on an app.
    pub fn create(&self) -> Result<(), CreateError> {
        for shared in [self.state.clone(), self.run.clone(), self.apps()] {
            make(&shared, SHARED)?;
        }
        for private in [self.identity(), self.chunks(), self.staging(), self.trash(), self.evidence()] {
            make(&private, PRIVATE)?;
        }
        keep_private(&self.store(), PRIVATE);
        Ok(())
    }

    /// Makes the directories of an app.
    pub fn create_app(&self, app: &AppName) -> Result<(), CreateError> {
        for path in [self.app(app), self.releases(app), self.app_run(app), self.app_logs(app)] {
            make(&path, SHARED)?;
        }
        Ok(())
    }

    /// Removes the directories of an app of which nothing is here. Its own data stays, and so does a release that somebody wants
    /// to keep.
    pub fn remove_app(&self, app: &AppName) -> Result<(), FileError> {
        for path in [self.app_run(app), self.app_logs(app)] {
            gone(&path, std::fs::remove_dir_all(&path))?;
        }
        for path in [self.releases(app), self.app(app)] {
            gone(&path, std::fs::remove_dir(&path))?;
        }
        Ok(())
    }

    /// The state directory; the journal's two segments lie directly in it.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Key and certificate.
    pub fn identity(&self) -> PathBuf {
        self.state.join("identity")
    }

    /// The sled store.
    pub fn store(&self) -> PathBuf {
        self.state.join("store")
    }

    /// What interrupted stagings left, to be taken up again.
    pub fn chunks(&self) -> PathBuf {
        self.state.join("chunks")
    }

    /// Releases that are being written.
    pub fn staging(&self) -> PathBuf {
        self.state.join("staging")
    }

    /// One operation's staging directory.
    pub fn staging_of(&self, op: &OpId) -> PathBuf {
        self.staging().join(op.as_str())
    }

    /// Directories that wait to be deleted.
    pub fn trash(&self) -> PathBuf {
        self.state.join("trash")
    }

    /// Frozen evidence.
    pub fn evidence(&self) -> PathBuf {
        self.state.join("evidence")
    }

    /// Room that is given up when a link must move on a full disk.
    pub fn ballast(&self) -> PathBuf {
        self.state.join("ballast")
    }

    /// Is there while no release is taken.
    pub fn safe_mode(&self) -> PathBuf {
        self.state().join("safe-mode")
    }

    /// What was seen of the coordinator's audit log.
    pub fn audit_seen(&self) -> PathBuf {
        self.state.join("audit-seen.json")
    }

    /// The socket by which the agent's other verbs ask the running agent.
    pub fn control_socket(&self) -> PathBuf {
        self.state.join("control.sock")
    }

    /// All apps.
    pub fn apps(&self) -> PathBuf {
        self.state.join("apps")
    }

    /// One app.
    pub fn app(&self, app: &AppName) -> PathBuf {
        self.apps().join(app.as_str())
    }

    /// The complete releases of an app.
    pub fn releases(&self, app: &AppName) -> PathBuf {
        self.app(app).join("releases")
    }

    /// One release: its envelope and its tree.
    pub fn release(&self, app: &AppName, digest: &Digest) -> PathBuf {
        self.releases(app).join(digest.hex())
    }

    /// The files of a release.
    pub fn tree(&self, app: &AppName, digest: &Digest) -> PathBuf {
        self.release(app, digest).join(TREE)
    }

    /// The signed envelope of a release.
    pub fn envelope(&self, app: &AppName, digest: &Digest) -> PathBuf {
        self.release(app, digest).join(ENVELOPE)
    }

    /// The persistent link to the last confirmed release.
    pub fn confirmed(&self, app: &AppName) -> PathBuf {
        self.app(app).join("confirmed")
    }

    /// What runs of the app, and whether it may have traffic: in the run directory, so that it needs no disk, and a boot
    /// forgets it.
    pub fn app_run(&self, app: &AppName) -> PathBuf {
        self.run.join(app.as_str())
    }

    /// The app's output, by release.
    pub fn app_logs(&self, app: &AppName) -> PathBuf {
        self.app(app).join("log")
    }

    /// What the app itself writes; it belongs to the app's user and is never emptied or removed.
    pub fn app_data(&self, app: &AppName) -> PathBuf {
        self.app(app).join("data")
    }

    /// The link that the app's process uses.
    pub fn current(&self, app: &AppName) -> PathBuf {
        self.app_run(app).join("current")
    }
}

/// Name of the directory with a release's files.
pub const TREE: &str = "tree";
/// Name of the file with a release's signed envelope.
pub const ENVELOPE: &str = "envelope.json";
/// Mode of that file: values of the app's environment are in it.
pub const ENVELOPE_MODE: u32 = 0o400;

/// Takes what only the agent has to read from everybody else, where an earlier version made it; what cannot be is told.
pub(crate) fn keep_private(path: &Path, mode: u32) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if metadata.permissions().mode() & 0o077 == 0 {
        return;
    }
    if let Err(error) = std::fs::set_permissions(path, Permissions::from_mode(mode)) {
        tracing::warn!(path = %path.display(), %error, "others can read this");
    }
}

fn gone(path: &Path, removed: io::Result<()>) -> Result<(), FileError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file::at("remove", path)(error)),
        _ => Ok(()),
    }
}

fn make(path: &Path, mode: u32) -> Result<(), CreateError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| CreateError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_with_their_modes() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"), dir.path().join("run")).unwrap();
        let app = AppName::new("shop").unwrap();
        for _ in 0..2 {
            layout.create().unwrap();
            layout.create_app(&app).unwrap();
        }
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(layout.identity()), 0o700);
        assert_eq!(mode(layout.releases(&app)), 0o755);
        assert!(layout.current(&app).ends_with("run/shop/current"));
        std::fs::create_dir(layout.app_data(&app)).unwrap();
        assert!(layout.remove_app(&app).is_err());
        assert!(layout.app_data(&app).exists() && !layout.app_run(&app).exists());
        std::fs::remove_dir(layout.app_data(&app)).unwrap();
        for _ in 0..2 {
            layout.remove_app(&app).unwrap();
            assert!(!layout.app(&app).exists());
        }
        std::fs::create_dir(layout.store()).unwrap();
        std::fs::set_permissions(layout.store(), Permissions::from_mode(0o755)).unwrap();
        layout.create().unwrap();
        assert_eq!(mode(layout.store()), 0o700, "made by an earlier version");
    }
}
