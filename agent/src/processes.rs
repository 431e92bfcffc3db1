//! What /proc says of processes. A process is meant by pid and start time together, never by a bare pid.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one with the same pid (in one boot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The kernel's number for it.
    pub pid: u32,
    /// Clock ticks from boot to its start: field 22 of /proc/PID/stat.
    pub start: u64,
}

/// The few fields of /proc/PID/stat that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Which process.
    pub id: ProcessId,
    /// State letter; `Z` and `X` are dead.
    pub state: char,
    /// Parent.
    pub parent: u32,
    /// Process group.
    pub group: u32,
    /// Session.
    pub session: u32,
}

impl Stat {
    /// Neither a zombie nor dead.
    pub const fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Looks at one process; `None` when there is none of this pid.
pub fn stat(pid: u32) -> Option<Stat> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(pid: u32, text: &str) -> Option<Stat> {
    // The command's name stands in parentheses and may hold anything, so the fields are counted from the last one.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let start = fields.nth(15)?.parse().ok()?;
    Some(Stat { id: ProcessId { pid, start }, state, parent, group, session })
}

impl ProcessId {
    /// The process that has this pid now.
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| stat.id)
    }

    /// Its fields, if it is still there, be it as a zombie.
    pub fn stat(self) -> Option<Stat> {
        stat(self.pid).filter(|stat| stat.id == self)
    }

    /// Whether it still runs.
    pub fn lives(self) -> bool {
        self.stat().is_some_and(|stat| stat.lives())
    }

    /// The executable, as the kernel shows it; `None` when it is gone or not ours to see.
    pub fn exe(self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.pid)).ok().filter(|_| self.lives())
    }

    /// The working directory.
    pub fn cwd(self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/cwd", self.pid)).ok().filter(|_| self.lives())
    }

    /// Its control group in systemd's hierarchy: of the unified one, or of `name=systemd` where version 1 is in use.
    pub fn cgroup(self) -> Option<String> {
        let lines = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?;
        parse_cgroup(&lines).map(str::to_owned)
    }

    /// Whether it is a shim, or the start of one, with this order.
    pub fn is_shim_of(self, order: &std::path::Path) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let mut words = line.split(|b| *b == 0).skip(1);
        words.next() == Some(b"shim") && words.any(|word| word == order.as_os_str().as_bytes())
    }

    /// Whether it was started with this line in its environment.
    pub fn has_environment(self, line: &str) -> bool {
        fs::read(format!("/proc/{}/environ", self.pid))
            .is_ok_and(|environ| environ.split(|b| *b == 0).any(|l| l == line.as_bytes()))
    }
}

fn parse_cgroup(lines: &str) -> Option<&str> {
    let of = |kind: &str| {
        lines.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(kind)?.strip_prefix(':'))
    };
    of("name=systemd").or_else(|| of(""))
}

/// All processes that can be seen.
pub fn all() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(stat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let line = "42 (a) R (b c) S 1 42 40 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 777 1000 10";
        let stat = parse_stat(42, line).unwrap();
        assert_eq!((stat.parent, stat.group, stat.session, stat.id.start), (1, 42, 40, 777));
        assert!(stat.lives());
        assert_eq!(parse_stat(42, "42 (x) S 1"), None);
    }

    #[test]
    fn the_control_group_is_systemds() {
        let unified = "0::/system.slice/ssh.service\n";
        let old = "9:memory:/m\n1:name=systemd:/system.slice/ssh.service\n0::/\n";
        assert_eq!(parse_cgroup(unified), Some("/system.slice/ssh.service"));
        assert_eq!(parse_cgroup(old), Some("/system.slice/ssh.service"));
        assert_eq!(parse_cgroup("9:memory:/m\n"), None);
    }

    #[test]
    fn this_process_is_there() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.lives());
        assert!(own.exe().is_some() && own.cwd().is_some());
        assert!(all().iter().any(|stat| stat.id == own));
        assert!(!ProcessId { start: own.start + 1, ..own }.lives());
    }
}
