//! A new certificate at half life, in a task of its own: it uses a connection beside the session, which goes on with
//! the certificate it was opened with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Bulk, in_words};
use crate::backoff::Backoff;
use crate::config::Settings;
use crate::enrol;
use crate::identity::{Identity, Vault};

/// The time is looked at this often: it may be set, and timers stand still in suspend.
const LOOK: Duration = Duration::from_secs(30);

/// Between two attempts.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(30), most: Duration::from_secs(600) };

/// Renews until stopped.
pub async fn run(
    bulk: Bulk,
    settings: Arc<Settings>,
    vault: Vault,
    identity: watch::Sender<Option<Arc<Identity>>>,
    stop: CancellationToken,
) {
    let jitter: f64 = rand::random();
    let mut attempt = 0;
    let mut pause = LOOK;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = LOOK;
        let due = identity
            .borrow()
            .as_ref()
            .is_some_and(|identity| vault.time().now() >= identity.renew_at(jitter));
        if !due {
            continue;
        }
        match once(&bulk, &settings, &vault).await {
            Ok(renewed) => {
                attempt = 0;
                identity.send_replace(Some(Arc::new(renewed)));
            }
            Err(problem) => {
                tracing::warn!(problem, "certificate not renewed");
                pause = BACKOFF.wait(attempt, rand::random()).max(Duration::from_secs(5));
                attempt += 1;
            }
        }
    }
}

async fn once(bulk: &Bulk, settings: &Settings, vault: &Vault) -> Result<Identity, String> {
    let channel = bulk.channel().await.map_err(|error| in_words(&error))?;
    enrol::renew("of the session", channel, settings, vault).await.map_err(|error| in_words(&error))
}
