//! The way back when it is damaged: fetched again where a coordinator is there. Without one the host stays without a release,
//! and says so, as before.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use windlass_proto::grant::Leave;
use windlass_release::{Effect, Event, Operation};

use crate::dispatch::Yard;
use crate::dispatch::stage::stage;
use crate::held;
use crate::perform::{Brief, Host, Outcome, chain};
use crate::staging::Order;

/// Longest that fetching may hold one attempt at a way back up: the app serves nothing meanwhile. There are a few attempts.
const LONGEST: Duration = Duration::from_secs(120);

/// Performs an effect; where it fails for a way back that can be mended, once more.
pub(crate) async fn perform(
    host: &Arc<Host>,
    brief: &Brief,
    effect: Effect,
    mend: Option<&Mend>,
) -> Option<Outcome> {
    let again = effect.clone();
    let outcome = host.perform(brief, effect).await;
    let has_failed = matches!(&outcome, Some(Outcome { event: Event::Failed { .. }, .. }));
    match mend {
        Some(mend) if has_failed && mend.mends(&again).await => host.perform(brief, again).await,
        _ => outcome,
    }
}

/// What mends a release that is to be gone back to.
#[derive(Debug)]
pub(crate) struct Mend {
    /// Stager and way to the coordinator.
    pub(crate) yard: Yard,
    /// The operation that goes back.
    pub(crate) operation: Option<Operation>,
    /// Highest counter of the app that this host has seen.
    pub(crate) seen: u64,
}

impl Mend {
    /// Whether an effect has failed for a release that was damaged, and is whole now.
    pub(crate) async fn mends(&self, failed: &Effect) -> bool {
        let (Effect::Switch { to: Some(to) }, Some(operation)) = (failed, &self.operation) else {
            return false;
        };
        let (host, release) = (self.yard.host.clone(), to.clone());
        let damage = tokio::task::spawn_blocking(move || {
            held::verify(&host.layout, &release.app, &release.digest).err().map(|error| chain(&error))
        });
        let Ok(Some(reason)) = damage.await else { return false };
        tracing::warn!(app = %to.app, release = %to, reason, "the release to go back to is damaged, it is fetched again");
        let order =
            Order { op: operation.op.clone(), release: to.clone(), leave: Leave::Confirmed, seen: self.seen };
        let fetched = timeout(LONGEST, stage(self.yard.clone(), order, CancellationToken::new())).await;
        let problem = match fetched {
            Ok(Ok(())) => {
                tracing::info!(app = %to.app, release = %to, "the release to go back to is whole again");
                return true;
            }
            Ok(Err(error)) => error.reason(),
            Err(_) => format!("it did not arrive within {} s", LONGEST.as_secs()),
        };
        tracing::error!(app = %to.app, release = %to, reason = problem, "the release to go back to is not fetched");
        false
    }
}
