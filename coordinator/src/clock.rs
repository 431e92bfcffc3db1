//! The coordinator's time: the wall clock's, without its jumps.
//!
//! Silence and deadlines are judged by it. Were it to jump an hour ahead, every host would be silent at once; so it runs
//! with the monotonic clock and follows the wall clock's corrections slowly.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use windlass_proto::time::Timestamp;

/// A correction of one second takes ten.
const SLEW: i64 = 10;

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
        self.read = slew(self.read, wall(), elapsed);
        self.read_at += elapsed;
        self.read
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The time `elapsed` after `last`, drawn towards `wall` by at most a tenth of what has elapsed.
fn slew(last: Timestamp, wall: Timestamp, elapsed: Duration) -> Timestamp {
    let elapsed = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX / 2);
    let straight = last.0.saturating_add(elapsed);
    let most = elapsed / SLEW;
    Timestamp(straight + (wall.0 - straight).clamp(-most, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_of_the_wall_clock_are_followed_slowly() {
        let after =
            |wall, elapsed| slew(Timestamp(10_000), Timestamp(wall), Duration::from_millis(elapsed)).0;
        assert_eq!(after(11_000, 1000), 11_000);
        assert_eq!(after(3_600_000, 1000), 11_100, "an hour ahead");
        assert_eq!(after(0, 1000), 10_900, "back to 1970");
        assert_eq!(after(11_050, 1000), 11_050, "a small correction is taken whole");
        assert_eq!(after(0, 0), 10_000);
    }
}
