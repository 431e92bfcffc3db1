//! Waiting for a condition with a deadline: the only place in the tests that sleeps.

use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_millis(25);

/// Asks until `check` gives something; panics with `what` after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", limit.as_secs());
        std::thread::park_timeout(PERIOD);
    }
}

/// Lets time pass where the passing itself is the point: a moment to kill at, an absence to observe.
pub fn pass(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
