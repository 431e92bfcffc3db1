//! How long to wait before trying again: full jitter, so that a fleet does not come back in step.

use std::time::Duration;

/// Bounds of a backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Most for the first wait.
    pub first: Duration,
    /// Most for any wait.
    pub most: Duration,
}

impl Backoff {
    /// The wait before attempt `attempt` (0 is the first repetition); `jitter` is from 0 to 1.
    pub fn wait(self, attempt: u32, jitter: f64) -> Duration {
        let limit = self.first.saturating_mul(1 << attempt.min(16)).min(self.most);
        limit.mul_f64(jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit() {
        let backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(10) };
        assert_eq!(backoff.wait(0, 1.0), Duration::from_millis(200));
        assert_eq!(backoff.wait(3, 1.0), Duration::from_millis(1600));
        assert_eq!(backoff.wait(u32::MAX, 1.0), Duration::from_secs(10));
        assert_eq!(backoff.wait(9, 0.0), Duration::ZERO);
    }
}
