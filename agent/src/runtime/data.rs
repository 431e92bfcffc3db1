//! The one place where an application may write: a release's own files belong to nobody and go with it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use crate::file::{FileError, at};
use crate::shim::order::UserIds;

/// Only the application's user and group look inside.
const MODE: u32 = 0o750;

/// Makes the directory, or gives it to the user that the application has become. What lies in it is the application's
/// affair. The directory above belongs to the agent, so that the application cannot put a link in its place; an
/// administrator can, to another disk.
pub fn prepare(dir: &Path, user: Option<UserIds>) -> Result<(), FileError> {
    match DirBuilder::new().mode(MODE).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(at("create directory", dir)(error));
        }
        _ => {}
    }
    let Some(UserIds { uid, gid }) = user else { return Ok(()) };
    let owner = fs::metadata(dir).map_err(at("look at", dir))?;
    if (owner.uid(), owner.gid()) != (uid, gid) {
        std::os::unix::fs::chown(dir, Some(uid), Some(gid)).map_err(at("give away", dir))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_once_and_given_to_whoever_runs() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("data");
        prepare(&dir, None).unwrap();
        fs::write(dir.join("file"), "x").unwrap();
        prepare(&dir, None).unwrap();
        assert!(dir.join("file").exists());
        if nix::unistd::Uid::effective().is_root() {
            prepare(&dir, Some(UserIds { uid: 65534, gid: 65533 })).unwrap();
            let owner = fs::metadata(&dir).unwrap();
            assert_eq!((owner.uid(), owner.gid()), (65534, 65533));
        }
        let missing = prepare(&place.path().join("no/data"), None).unwrap_err();
        assert!(missing.to_string().contains("no/data"), "{missing}");
    }
}
