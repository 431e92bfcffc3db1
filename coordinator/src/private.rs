//! Directories that nobody else looks into: values of apps' environments are in what a coordinator keeps.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

const MODE: u32 = 0o700;

/// Makes a directory and those above it; takes one that an earlier version made from others.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(MODE).create(path)?;
    if std::fs::metadata(path)?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(MODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_open_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (new, old) = (dir.path().join("a/new"), dir.path().join("old"));
        std::fs::create_dir(&old).unwrap();
        std::fs::set_permissions(&old, Permissions::from_mode(0o755)).unwrap();
        for path in [&new, &old, &new] {
            create(path).unwrap();
            assert_eq!(mode(path), MODE, "{}", path.display());
        }
    }
}
