//! The host's clocks, read here and nowhere else; decisions get times passed in.

use std::fs;
use std::io;

use nix::time::{ClockId, clock_gettime};
use windlass_proto::time::Timestamp;

/// Milliseconds of `CLOCK_BOOTTIME`: goes on during suspend, never jumps, starts again at each boot.
pub fn boot_ms() -> u64 {
    read(ClockId::CLOCK_BOOTTIME).max(0).unsigned_abs()
}

/// The wall clock; for display, never for decisions.
pub fn wall() -> Timestamp {
    Timestamp(read(ClockId::CLOCK_REALTIME))
}

fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every kernel the agent runs on; a time of 0 is the honest answer elsewhere.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000)
}

/// The kernel's id of this boot.
pub fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_forward_and_the_boot_has_an_id() {
        let before = boot_ms();
        assert!(boot_ms() >= before);
        assert!(wall() > Timestamp(1_600_000_000_000));
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
