//! Coming back after the coordinator went away.

use std::time::Duration;

use tonic::Status;
use windlass_proto::rpc::ErrorKind;

/// Longest time without a single answer before watching gives up: a restart of a coordinator takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);

/// Backoff with jitter, and a bound.
#[derive(Debug)]
pub struct Retry {
    attempts: u32,
    waited: Duration,
    patience: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 0, waited: Duration::ZERO, patience: PATIENCE }
    }
}

impl Retry {
    /// An answer came.
    pub fn reset(&mut self) {
        *self = Self { patience: self.patience, ..Self::default() };
    }

    /// For a call that somebody waits for: gives up after some seconds.
    pub fn brief() -> Self {
        Self { patience: Duration::from_secs(5), ..Self::default() }
    }

    /// Waits before the next attempt; false at once when the error is not worth one, or patience is at its end.
    pub async fn wait(&mut self, status: &Status) -> bool {
        let transient = ErrorKind::of(status).is_transient();
        if !transient || self.waited >= self.patience {
            return false;
        }
        let delay = self.next_delay(jitter());
        tokio::time::sleep(delay).await;
        true
    }

    /// Doubles up to a bound; `jitter` in [0, 1) takes away up to half.
    fn next_delay(&mut self, jitter: f64) -> Duration {
        let full = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts += 1;
        let delay = full.mul_f64(1.0 - jitter / 2.0);
        self.waited += delay;
        delay
    }
}

/// A number in [0, 1) that differs between programs started together.
fn jitter() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_are_bounded() {
        let mut retry = Retry::default();
        let delays: Vec<_> = (0..6).map(|_| retry.next_delay(0.0).as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 5000]);
        assert_eq!(retry.next_delay(0.5).as_millis(), 3750);
        assert!((0.0..1.0).contains(&jitter()));
    }
}
