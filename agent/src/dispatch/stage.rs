//! A release comes to this host, over as many connections as it takes.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Yard;
use crate::backoff::Backoff;
use crate::features;
use crate::held;
use crate::perform::chain;
use crate::staging::fetch::FetchError;
use crate::staging::{Order, StageError};
use crate::store::Change;

/// For so long a release that does not arrive is tried again.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Between two attempts to reach a coordinator for fetching.
const CONNECT: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(10) };

/// Stages a release; what this host could not run is no release for it, whatever the order said.
pub(crate) async fn stage(yard: Yard, order: Order, cancel: CancellationToken) -> Result<(), StageError> {
    if let Some(reason) = yard.safe_mode {
        return Err(StageError::SafeMode(reason.to_string()));
    }
    let begun = Instant::now();
    let mut attempt = 0;
    loop {
        let Some(connected) = cancel.run_until_cancelled(yard.uplink.channel()).await else {
            return Err(StageError::Fetch(FetchError::Cancelled));
        };
        let problem = match connected {
            Err(error) => chain(&error),
            Ok(channel) => match yard.stager.stage(channel, &order, cancel.clone()).await {
                Ok(staged) => {
                    let needs = [staged.manifest.release.needs().word().to_owned()];
                    if let Some((fault, reason)) = features::lacking(&needs, &features::here()) {
                        return Err(StageError::Lacks { fault, reason });
                    }
                    break;
                }
                Err(error @ StageError::Fetch(FetchError::Interrupted { .. })) => {
                    if begun.elapsed() > PATIENCE {
                        return Err(error);
                    }
                    attempt = 0;
                    error.reason()
                }
                Err(error) => return Err(error),
            },
        };
        tracing::info!(op = %order.op, reason = problem, "fetching is tried again");
        attempt += 1;
        let pause = sleep(CONNECT.wait(attempt, rand::random()));
        if cancel.run_until_cancelled(pause).await.is_none() {
            return Err(StageError::Fetch(FetchError::Cancelled));
        }
    }
    let (host, release) = (yard.host.clone(), order.release.clone());
    let remembered =
        tokio::task::spawn_blocking(move || match held::row(&host.layout, &release.app, &release.digest) {
            Ok(row) => host.remember(vec![Change::Put(row)]),
            Err(error) => {
                tracing::warn!(app = %release.app, error = chain(&error), "staged release not remembered")
            }
        });
    remembered.await?;
    Ok(())
}
