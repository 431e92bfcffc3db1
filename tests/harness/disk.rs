//! A small disk that tests fill, break and cut off: a file system in a file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::run;
use crate::wait::{pass, until};

/// What is written on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// The usual one.
    Ext4,
    /// The other one.
    Xfs,
}

/// Mounted while it is in scope.
#[derive(Debug)]
pub struct Disk {
    dir: tempfile::TempDir,
    at: PathBuf,
    format: Format,
}

/// Turns a file system off at once, its log not flushed: EXT4_IOC_SHUTDOWN, which is XFS_IOC_GOINGDOWN as well.
const SHUT_DOWN: &str = "import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(fd, 0x8004587D, struct.pack('I', 2))";

const FILLER: &str = "filler";

impl Disk {
    /// An ext4 of so many MiB, empty, mounted somewhere.
    pub fn new(mib: u32) -> Self {
        let dir = directory();
        let at = dir.path().join("mnt");
        std::fs::create_dir(&at).unwrap();
        Self::format(dir, at, mib, Format::Ext4)
    }

    /// One that is mounted on a directory, whose content it takes over.
    pub fn over(path: &Path, mib: u32, format: Format) -> Self {
        let dir = directory();
        let before = dir.path().join("before");
        run(Command::new("cp").arg("--archive").arg(path).arg(&before)).expect(0);
        let disk = Self::format(dir, path.to_owned(), mib, format);
        run(Command::new("cp").arg("--archive").arg(before.join(".")).arg(path)).expect(0);
        run(Command::new("sync").arg("--file-system").arg(path)).expect(0);
        disk
    }

    fn format(dir: tempfile::TempDir, at: PathBuf, mib: u32, format: Format) -> Self {
        let disk = Self { dir, at, format };
        std::fs::File::create(disk.image()).unwrap().set_len(u64::from(mib) << 20).unwrap();
        let mut make = match format {
            Format::Ext4 => Command::new("mkfs.ext4"),
            Format::Xfs => Command::new("mkfs.xfs"),
        };
        if format == Format::Ext4 {
            make.args(["-m", "0", "-N", "4096"]);
        }
        run(make.arg("-q").arg(disk.image())).expect(0);
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn mount(&self) {
        let options = match self.format {
            Format::Ext4 => "loop,errors=remount-ro",
            Format::Xfs => "loop",
        };
        run(Command::new("mount").args(["-o", options]).arg(self.image()).arg(&self.at)).expect(0);
    }

    fn device(&self) -> String {
        let found = run(Command::new("findmnt").args(["--noheadings", "--output", "SOURCE"]).arg(&self.at));
        found.expect(0).stdout.trim().trim_start_matches("/dev/").to_owned()
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Bytes that are free, as `df` says.
    pub fn free(&self) -> u64 {
        nix::sys::statvfs::statvfs(&self.at).map_or(0, |stat| stat.blocks_available() * stat.fragment_size())
    }

    /// Leaves not a byte free.
    pub fn fill(&self) {
        let to = self.at.join(FILLER);
        // It fails for want of room, which is what is wanted.
        run(Command::new("sh").args(["-c", "cat /dev/zero > \"$0\"; sync --file-system \"$0\""]).arg(to));
    }

    /// Leaves not an inode free.
    pub fn fill_inodes(&self) {
        let dir = self.at.join(FILLER);
        std::fs::create_dir_all(&dir).unwrap();
        let mut number = 0;
        while std::fs::File::create(dir.join(number.to_string())).is_ok() {
            number += 1;
        }
    }

    /// Takes away what it was filled with.
    pub fn make_room(&self) {
        let filler = self.at.join(FILLER);
        let _file = std::fs::remove_file(&filler);
        let _directory = std::fs::remove_dir_all(&filler);
    }

    /// From now on all writing fails, as the kernel does it after an error.
    ///
    /// # Panics
    /// With XFS, which knows no such thing.
    pub fn make_read_only(&self) {
        assert_eq!(self.format, Format::Ext4);
        std::fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", self.device()), "1").unwrap();
    }

    /// From now on everything fails; what was not synced is lost, as when the power goes.
    pub fn fail(&self) {
        run(Command::new("python3").args(["-c", SHUT_DOWN]).arg(&self.at)).expect(0);
    }

    /// What the next boot finds. Ends with SIGKILL whatever works in there.
    pub fn mount_again(&self) {
        assert!(self.end_users(), "somebody works on the disk who cannot be ended");
        run(Command::new("umount").arg(&self.at)).expect(0);
        // The mount namespaces of those who were ended go a little later, as do those of others, which copied the mount
        // when they were made; and no two may write on one image.
        until("the disk is nobody's", Duration::from_secs(90), || {
            let used = run(Command::new("losetup").arg("--associated").arg(self.image()));
            used.stdout.trim().is_empty().then_some(())
        });
        self.mount();
    }

    /// Says whether nobody is left.
    fn end_users(&self) -> bool {
        for _ in 0..500 {
            let users = self.users();
            if users.is_empty() {
                return true;
            }
            for pid in users {
                // Gone is as good.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            pass(Duration::from_millis(20));
        }
        false
    }

    /// Whose program, directory or open file is on it.
    fn users(&self) -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let own = i32::try_from(std::process::id()).unwrap();
        pids.filter(|pid| *pid != own && self.is_used_by(*pid)).collect()
    }

    fn is_used_by(&self, pid: i32) -> bool {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let files =
            std::fs::read_dir(proc.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut links = [proc.join("exe"), proc.join("cwd")].into_iter().chain(files);
        links.any(|link| std::fs::read_link(link).is_ok_and(|target| target.starts_with(&self.at)))
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("windlass-disk").tempdir().unwrap()
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.end_users();
        run(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}
