//! What the coordinator is told of the host itself.

use std::path::Path;

use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use windlass_proto::rpc::Facts;

/// Reads the host's facts. `state_dir` says which disk is meant; `problems` are what else is to be known.
pub fn read(state_dir: &Path, problems: &[String]) -> Facts {
    let kinds = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kinds);
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    Facts {
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_bytes: system.map_or(0, |system| system.total_memory()),
        disk_free_bytes: free_bytes(state_dir),
        kernel: System::kernel_version().unwrap_or_default(),
        os: System::long_os_version().unwrap_or_default(),
        problems: problems.to_vec(),
    }
}

/// What an unprivileged program can still write; 0 when it cannot be told.
pub fn free_bytes(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_processor_memory_and_a_disk() {
        let facts = read(Path::new("/"), &[]);
        assert!(facts.cpus > 0 && facts.memory_bytes > 0 && facts.disk_free_bytes > 0);
        assert!(!facts.kernel.is_empty());
    }
}
