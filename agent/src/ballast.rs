//! A little room set aside: on a full disk, links still move. A way back that needs free space is none.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::layout::Layout;

/// Enough for many links and their directories.
const BYTES: usize = 1 << 20;

/// Sets the room aside, if it is not. A disk that is full already is no error.
pub fn set_aside(layout: &Layout) -> io::Result<()> {
    let path = layout.ballast();
    if std::fs::metadata(&path).is_ok_and(|meta| meta.len() == BYTES as u64) {
        return Ok(());
    }
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        // Bytes that no filesystem stores without blocks.
        file.write_all(&[0x57; BYTES])?;
        file.sync_all()
    };
    match written() {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => std::fs::remove_file(&path),
        result => result,
    }
}

/// Does `work`; if the disk is full, gives up the ballast and does it once more.
pub fn with<T>(layout: &Layout, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match work() {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            std::fs::remove_file(layout.ballast())?;
            // The freed blocks can be used when the removal is on the disk.
            File::open(layout.state())?.sync_all()?;
            tracing::warn!("disk full, ballast given up");
            work()
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ballast_is_given_up_once_and_set_aside_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"), dir.path().join("run")).unwrap();
        layout.create().unwrap();
        let mut tries = 0;
        let mut full = || {
            tries += 1;
            if layout.ballast().exists() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(tries) }
        };
        set_aside(&layout).unwrap();
        assert_eq!(with(&layout, &mut full).unwrap(), 2);
        set_aside(&layout).unwrap();
        assert!(layout.ballast().exists());
        let never = |()| Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull));
        assert!(with(&layout, || never(())).is_err());
        assert!(with(&layout, || never(())).is_err());
    }
}
