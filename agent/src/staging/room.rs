//! Is there room for a release? Asked before its first byte is fetched.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfs;

/// Too little room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Bytes are lacking.
    #[error("the filesystem of {} has {free} bytes free, the release needs {needed}", path.display())]
    Bytes {
        /// A directory in it.
        path: PathBuf,
        /// What there is.
        free: u64,
        /// What is needed, with a margin.
        needed: u64,
    },
    /// Inodes are lacking.
    #[error("the filesystem of {} has {free} inodes free, the release needs {needed}", path.display())]
    Inodes {
        /// A directory in it.
        path: PathBuf,
        /// What there is.
        free: u64,
        /// What is needed, with a margin.
        needed: u64,
    },
}

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes, in whole blocks.
    pub bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
}

impl Need {
    /// Adds a file, directory or link.
    pub fn add(&mut self, size: u64) {
        self.bytes += size.next_multiple_of(BLOCK);
        self.inodes += 1;
    }
}

const BLOCK: u64 = 4096;
/// Left over for logs, journal and store, besides one part in sixty-four.
const MARGIN_BYTES: u64 = 16 << 20;
const MARGIN_INODES: u64 = 64;

/// Asks the filesystem that holds `path`.
pub fn check(path: &Path, need: Need) -> io::Result<Result<(), NoRoom>> {
    Ok(judge(path, need, &rustix::fs::statvfs(path)?))
}

fn judge(path: &Path, need: Need, room: &StatVfs) -> Result<(), NoRoom> {
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let needed = need.bytes + need.bytes / 64 + MARGIN_BYTES;
    if free < needed {
        return Err(NoRoom::Bytes { path: path.to_owned(), free, needed });
    }
    // A filesystem that makes inodes as it needs them says it has none.
    let (free, needed) = (room.f_favail, need.inodes + MARGIN_INODES);
    if room.f_files > 0 && free < needed {
        return Err(NoRoom::Inodes { path: path.to_owned(), free, needed });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged_with_its_numbers() {
        let path = Path::new("/");
        let mut room = rustix::fs::statvfs(path).unwrap();
        (room.f_frsize, room.f_bavail, room.f_files, room.f_favail) = (4096, 10_000, 1000, 100);
        let mut need = Need::default();
        need.add(1);
        assert_eq!(need, Need { bytes: 4096, inodes: 1 });
        assert_eq!(judge(path, need, &room), Ok(()));
        assert!(matches!(
            judge(path, Need { bytes: 30 << 20, inodes: 1 }, &room),
            Err(NoRoom::Bytes { free: 40_960_000, .. })
        ));
        assert!(matches!(
            judge(path, Need { bytes: 0, inodes: 50 }, &room),
            Err(NoRoom::Inodes { needed: 114, .. })
        ));
        room.f_files = 0;
        assert_eq!(judge(path, Need { bytes: 0, inodes: 50 }, &room), Ok(()));
    }
}
