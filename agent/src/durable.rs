//! Changes to directories that survive a power cut: the recipes of reference/RELIABILITY.md 3.1, each with its syncs. Small files
//! are written by [`crate::file`].
//!
//! A failed sync is final: the kernel has marked the pages clean, so it is never tried again.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD};

use crate::failpoint::{self, Barrier};

/// Points a symlink somewhere else in one step: temporary link, rename, fsync of the directory.
pub fn replace_link(link: &Path, target: &Path) -> io::Result<()> {
    let temp = temporary(link);
    let _ = std::fs::remove_file(&temp);
    std::os::unix::fs::symlink(target, &temp)?;
    failpoint::at(Barrier::LinkMade);
    rename(&temp, link).inspect_err(|_| {
        let _ = std::fs::remove_file(&temp);
    })
}

/// Renames within or between directories and syncs the directory that got the entry.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    rustix::fs::renameat(CWD, from, CWD, to)?;
    failpoint::at(Barrier::Renamed);
    sync_parent(to)
}

/// Removes a file or link, if it is there, and syncs its directory.
pub fn remove(path: &Path) -> io::Result<()> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) => sync_parent(path),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Syncs the directory that holds `path`.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Writes everything of the filesystem that holds `path`: one call for a whole tree.
pub fn sync_filesystem(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// Moves a file or directory below `trash` under a name not yet taken there, to be deleted when nothing else is to do:
/// ext4 is slow to write just after it deleted (reference/PERFORMANCE.md).
pub fn discard(path: &Path, trash: &Path) -> io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for number in 0..10_000 {
        let to = trash.join(format!("{name}.{number}"));
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(CWD, path, CWD, &to, flags) {
            Ok(()) => return sync_parent(path),
            Err(rustix::io::Errno::EXIST) => {}
            Err(rustix::io::Errno::NOENT) if !path.exists() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("no free name in the trash"))
}

/// Removes a tree; one that is not there is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn temporary(path: &Path) -> std::path::PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("l");
        for target in ["f", "g"] {
            replace_link(&link, Path::new(target)).unwrap();
            assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(target));
        }
        remove(&link).unwrap();
        remove(&link).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn discarded_things_never_collide() {
        let dir = tempfile::tempdir().unwrap();
        let trash = dir.path().join("trash");
        std::fs::create_dir(&trash).unwrap();
        let tree = dir.path().join("tree");
        for _ in 0..3 {
            std::fs::create_dir(&tree).unwrap();
            discard(&tree, &trash).unwrap();
        }
        discard(&tree, &trash).unwrap();
        assert_eq!(std::fs::read_dir(&trash).unwrap().count(), 3);
    }
}
