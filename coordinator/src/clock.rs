//! The coordinator's time: the wall clock's, without its jumps.
//!
//! Silence and deadlines are judged by it. Were it to jump an hour ahead, every host would be silent at once; so it runs
//! with the monotonic clock and follows the wall clock's corrections slowly.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use windlass_proto::time::{Span, Timestamp, slew};
use windlass_proto::tls::SteadyTime;

/// A clock that never jumps and never goes back.
#[derive(Debug)]
pub struct Clock {
    read_at: Instant,
    read: Timestamp,
}

impl Default for Clock {
    fn default() -> Self {
        Self { read_at: Instant::now(), read: wall() }
    }
}

impl Clock {
    /// The time.
    pub fn now(&mut self) -> Timestamp {
        // Whole milliseconds only: what is less stays for the next reading.
        let elapsed = u64::try_from(self.read_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let elapsed = Duration::from_millis(elapsed);
        self.read = slew(self.read, wall(), Span(elapsed.as_millis() as u64));
        self.read_at += elapsed;
        self.read
    }
}

/// The time that certificates are judged by.
pub fn steady() -> Arc<SteadyTime> {
    Arc::new(SteadyTime::new(boot_ms, wall))
}

/// Milliseconds of `CLOCK_BOOTTIME`, which goes on in suspend and never jumps.
fn boot_ms() -> u64 {
    // It exists on every kernel that this runs on.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |time| (time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000).unsigned_abs())
}

/// The wall clock's time, as it is.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
