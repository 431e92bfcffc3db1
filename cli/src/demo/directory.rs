//! The demo's temporary directory.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{ExpectedError, Result};

/// Makes a directory that nobody else had, readable by nobody else.
pub fn make() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    let id = std::process::id();
    let failed = |error| {
        ExpectedError::failed(format!("cannot make a temporary directory in {}", base.display()))
            .because(error)
            .hint("TMPDIR=/path/with/space windlass demo")
    };
    for attempt in 0..100 {
        let path = base.join(format!("windlass-demo-{id}-{attempt}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(std::io::ErrorKind::AlreadyExists.into()))
}

/// Removes a directory with all beneath it, read-only release directories too.
pub fn remove(path: &Path) -> Result<()> {
    unlock(path);
    std::fs::remove_dir_all(path)
        .map_err(|error| ExpectedError::failed(format!("cannot remove {}", path.display())).because(error))
}

/// Makes directories writable, so that their entries can be removed. What cannot be changed shows when removing.
fn unlock(path: &Path) {
    let _ = std::fs::set_permissions(path, Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_trees_are_removed_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "x").unwrap();
        let dir = make().unwrap();
        let inner = dir.join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), inner.join("link")).unwrap();
        std::fs::set_permissions(&inner, Permissions::from_mode(0o555)).unwrap();
        remove(&dir).unwrap();
        assert!(!dir.exists());
        assert!(outside.path().join("kept").exists());
    }
}
