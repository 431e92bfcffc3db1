//! A small disk of a host: an ext4 file system in a file.

use std::path::Path;
use std::process::Command;

use crate::run::run;

/// Mounted while it is in scope.
#[derive(Debug)]
pub struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// Of so many MiB, empty.
    pub fn new(mib: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("windlass-disk").tempdir().unwrap();
        let image = dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(u64::from(mib) << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image)).expect(0);
        std::fs::create_dir(dir.path().join("mnt")).unwrap();
        let disk = Self { dir };
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path())).expect(0);
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("mnt")
    }

    /// Bytes that are free, as `df` says.
    pub fn free(&self) -> u64 {
        nix::sys::statvfs::statvfs(&self.path() as &Path)
            .map_or(0, |stat| stat.blocks_available() * stat.fragment_size())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.path()));
    }
}
