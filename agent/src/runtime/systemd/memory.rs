//! Whether the kernel has ended a process of a unit for want of memory, where systemd cannot tell: with control groups of
//! version 1 it does not know, and the control group, which does, is gone with the unit.
//!
//! So a unit there has a last command, the hidden verb [`VERB`], which looks before that. It runs as the application's user and
//! in its environment, and so may say what the application likes: which is no more than the application can bring about.
//! Its answer is its exit status, which systemd keeps.

use std::path::Path;

/// The hidden verb.
pub const VERB: &str = "unit-memory";

/// Its exit status where memory was short; none that a program that cannot be run ends with.
pub const SHORT: u8 = 83;

/// Whether this host has control groups of version 1.
pub fn must_be_looked_at() -> bool {
    Path::new("/sys/fs/cgroup/memory").is_dir()
}

/// Whether the kernel has ended a process of this process' control group for want of memory.
pub fn was_short() -> bool {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.split_once(":memory:"));
    let Some((_, own)) = own else { return false };
    let control = format!("/sys/fs/cgroup/memory{own}/memory.oom_control");
    let text = std::fs::read_to_string(control).unwrap_or_default();
    text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
}
