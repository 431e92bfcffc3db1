//! Progress, as the watchdog sees it: each loop says that it came round. Where one does not for too long, systemd is no longer
//! told that all is well, and starts the agent anew; what was under way is on record, and applications go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::clock;

/// A loop that has nothing to do need not come round.
const AT_REST: u64 = u64::MAX;

/// How long a thread for blocking work may be waited for.
const THREAD_WITHIN: Duration = Duration::from_secs(10);

/// When a loop came round last, in milliseconds after boot.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<AtomicU64>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(AT_REST)))
    }
}

impl Pulse {
    /// The loop came round.
    pub fn beat(&self) {
        self.0.store(clock::boot_ms(), Ordering::Relaxed);
    }

    /// Until the next beat there is nothing to wait for.
    pub fn rest(&self) {
        self.0.store(AT_REST, Ordering::Relaxed);
    }

    fn is_stuck(&self, now: u64, patience: Duration) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        last != AT_REST && u128::from(now.saturating_sub(last)) > patience.as_millis()
    }
}

/// A loop that is watched.
#[derive(Debug)]
pub struct Watched {
    /// What it is called in the log.
    pub name: &'static str,
    /// Its pulse.
    pub pulse: Pulse,
    /// Longest that it may take to come round.
    pub patience: Duration,
}

/// The first that does not come round any more.
fn stuck(all: &[Watched], now: u64) -> Option<&'static str> {
    all.iter().find(|watched| watched.pulse.is_stuck(now, watched.patience)).map(|watched| watched.name)
}

/// Feeds systemd's watchdog, where the unit has one, for as long as all come round and threads can be had.
pub async fn watch(all: Vec<Watched>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut told = None;
    loop {
        let threads = timeout(THREAD_WITHIN, spawn_blocking(|| ())).await.is_ok_and(|thread| thread.is_ok());
        let at_fault = if threads { stuck(&all, clock::boot_ms()) } else { Some("threads") };
        match at_fault {
            None => super::app::notify(&[NotifyState::Watchdog]),
            Some(name) if told != at_fault => {
                tracing::error!(name, "does not come round any more; systemd will start the agent anew");
            }
            Some(_) => {}
        }
        told = at_fault;
        sleep(limit / 4).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_round_is_named() {
        let pulse = Pulse::default();
        let patience = Duration::from_secs(20);
        let all = [Watched { name: "driver", pulse: pulse.clone(), patience }];
        assert_eq!(stuck(&all, u64::MAX - 1), None, "it has not begun");
        pulse.beat();
        let now = clock::boot_ms();
        assert_eq!(stuck(&all, now), None);
        assert_eq!(stuck(&all, now + 30_000), Some("driver"));
        pulse.rest();
        assert_eq!(stuck(&all, now + 30_000), None);
    }
}
