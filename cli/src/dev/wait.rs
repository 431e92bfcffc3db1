//! Waiting for a condition with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Time from one look to the next: short beside anything that is waited for here, long beside the cost of a look.
const PERIOD: Duration = Duration::from_millis(40);

/// Asks `check` until it gives something or `limit` has passed. Asks at least once.
pub(crate) async fn until<T>(limit: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check().await {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(PERIOD).await;
    }
}
