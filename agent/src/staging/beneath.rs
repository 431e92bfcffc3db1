//! A directory and what lies beneath it, reached so that nothing in it can lead outside: every path goes through
//! `openat2`, which refuses `..`, links, other mounts and magic links in the kernel, not in a check before use.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// An open directory.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
}

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_MAGICLINKS);

impl Beneath {
    /// Opens a directory that the agent itself named.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// The directory itself.
    pub fn fd(&self) -> &OwnedFd {
        &self.root
    }

    /// Makes a directory with mode 0755.
    pub fn make_dir(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.split(path)?;
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(&parent, name, mode)?;
        // The mode above is cut by the umask; the manifest says what it is.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let made = rustix::fs::openat2(&parent, name, flags, Mode::empty(), RESOLVE)?;
        Ok(rustix::fs::fchmod(made, mode)?)
    }

    /// Makes a file that must not exist, open for reading and writing.
    pub fn create_file(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.resolve(path, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }

    /// Opens a file that was made before, for reading and writing.
    pub fn write_file(&self, path: &str) -> io::Result<File> {
        self.resolve(path, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map(File::from)
    }

    /// Opens a file for reading. Never waits, whatever lies there.
    pub fn read_file(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.resolve(path, flags, Mode::empty()).map(File::from)
    }

    /// Makes a symlink that must not exist.
    pub fn make_link(&self, path: &str, target: &str) -> io::Result<()> {
        let (parent, name) = self.split(path)?;
        Ok(rustix::fs::symlinkat(target, parent, name)?)
    }

    /// Target of a symlink.
    pub fn read_link(&self, path: &str) -> io::Result<Vec<u8>> {
        let (parent, name) = self.split(path)?;
        Ok(rustix::fs::readlinkat(parent, name, Vec::new())?.into_bytes())
    }

    /// Gives a file of another directory a second name here.
    pub fn hardlink_from(&self, from: &Self, from_path: &str, path: &str) -> io::Result<()> {
        let (from_parent, from_name) = from.split(from_path)?;
        let (parent, name) = self.split(path)?;
        Ok(rustix::fs::linkat(from_parent, from_name, parent, name, AtFlags::empty())?)
    }

    /// Makes a file, which must not exist, of the blocks of another directory's file: shared on the disk until one of them is
    /// written. Not every filesystem can.
    pub fn clone_from(&self, from: &Self, from_path: &str, path: &str) -> io::Result<File> {
        let source = from.read_file(from_path)?;
        let file = self.create_file(path)?;
        match rustix::fs::ioctl_ficlone(&file, &source) {
            Ok(()) => Ok(file),
            Err(error) => {
                self.remove(path)?;
                Err(error.into())
            }
        }
    }

    /// Removes a file or link.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.split(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    /// What lies at a path, without following a link there.
    pub fn stat(&self, path: &str) -> io::Result<Stat> {
        let (parent, name) = self.split(path)?;
        Ok(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Names and types in a directory; the empty path is the directory itself.
    pub fn list(&self, path: &str) -> io::Result<rustix::fs::Dir> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::Dir::new(self.resolve(path, flags, Mode::empty())?)?)
    }

    /// The open directory that holds `path`, and its name therein.
    fn split<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok((self.resolve(parent, flags, Mode::empty())?, name))
    }

    fn resolve(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        // EAGAIN: something on the way was renamed meanwhile, so the kernel could not be sure.
        for _ in 0..16 {
            match rustix::fs::openat2(&self.root, path, flags, mode, RESOLVE) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
        Err(Errno::AGAIN.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_outside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("real")).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        symlink(dir.path(), root.join("out")).unwrap();
        symlink("real", root.join("in")).unwrap();
        let beneath = Beneath::open(&root).unwrap();
        for path in ["../secret", "out/secret", "/etc/passwd", "real/../../secret", "in/x", "out"] {
            assert!(beneath.read_file(path).is_err(), "{path}");
            assert!(beneath.create_file(path).is_err(), "{path}");
        }
        for path in ["out/dir", "in/dir", "../dir"] {
            assert!(beneath.make_dir(path).is_err(), "{path}");
            assert!(beneath.make_link(path, "x").is_err(), "{path}");
        }
        beneath.make_dir("real/dir").unwrap();
        beneath.create_file("real/dir/f").unwrap();
        assert!(beneath.create_file("real/dir/f").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
