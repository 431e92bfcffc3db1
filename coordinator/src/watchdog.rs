//! What systemd is told while the coordinator is well.

use std::time::Duration;

use crate::driver::Driver;

/// How long the driver may take to answer before systemd is no longer told that all is well; it gives a failing disk longer
/// than that, and a slow one less.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Feeds systemd's watchdog, where the unit has one, for as long as the driver answers, which it does when all that it
/// changed before is on disk.
pub async fn feed(driver: Driver) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        match tokio::time::timeout(ANSWER_WITHIN, driver.ask(|_| ())).await {
            Ok(_) => {
                // Fails only where no supervisor listens.
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
            Err(_) => tracing::error!("the driver does not answer; systemd will restart the coordinator"),
        }
        tokio::time::sleep(limit / 4).await;
    }
}
