//! Asks the URLs of open rollouts, as users would: one task for each rollout, one question a period.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use windlass_proto::id::RolloutId;

use crate::driver::Driver;
use crate::fleet::Asked;

/// How often it is looked which rollouts are open: a rollout takes longer.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Shortest time that an answer has.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a client for the URLs of specs")]
struct NoClient(#[source] Box<dyn std::error::Error + Send + Sync>);

/// A client with the roots of this machine; one without any reaches no https. Blocks.
fn client() -> Result<reqwest::Client, NoClient> {
    let builder = || {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        builder.map_err(|error| NoClient(error.into()))
    };
    let tls = match builder()?.with_platform_verifier() {
        Ok(tls) => tls,
        Err(error) => {
            tracing::warn!(%error, "no https URL of a spec can be asked: install ca-certificates, and restart the coordinator");
            builder()?.with_root_certificates(RootCertStore::empty())
        }
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.with_no_client_auth())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // Each question is a user of its own: what a kept connection hides, a new user meets.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| NoClient(error.into()))
}

/// Asks for all open rollouts, until the coordinator stops. The client is made for the first of them: a coordinator that asks
/// nothing needs neither roots nor the time to read them.
pub async fn run(driver: Driver) {
    let mut tasks = tokio::task::JoinSet::new();
    let mut asking: HashMap<RolloutId, AbortHandle> = HashMap::new();
    let mut client = None;
    loop {
        let Ok(all) = driver.ask(|fleet| fleet.asked()).await else { return };
        asking.retain(|rollout, task| {
            let stays = all.iter().any(|asked| asked.rollout == *rollout);
            if !stays {
                task.abort();
            }
            stays
        });
        for asked in all {
            if asking.contains_key(&asked.rollout) {
                continue;
            }
            let client = match &client {
                Some(client) => reqwest::Client::clone(client),
                None => match tokio::task::spawn_blocking(self::client).await {
                    Ok(Ok(made)) => client.insert(made).clone(),
                    Ok(Err(error)) => {
                        tracing::error!(error = %crate::log::chain(&error), "nothing is asked of users' URLs");
                        return std::future::pending().await;
                    }
                    Err(failed) => std::panic::resume_unwind(failed.into_panic()),
                },
            };
            let rollout = asked.rollout.clone();
            asking.insert(rollout, tasks.spawn(ask(client, driver.clone(), asked)));
        }
        while tasks.try_join_next().is_some() {}
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Asks for one rollout, until aborted. A question never overtakes another: the ledger has them in their order.
async fn ask(client: reqwest::Client, driver: Driver, asked: Asked) {
    let Asked { rollout, spec } = asked;
    let (url, period) = (spec.url.to_string(), spec.period.std());
    let patience = period.max(PATIENCE);
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(at) = driver.ask(|fleet| fleet.now).await else { return };
        let answered = match client.get(&url).timeout(patience).send().await {
            Ok(answer) => answer.status().as_u16() < 400,
            Err(_) => false,
        };
        let rollout = rollout.clone();
        if driver.ask(move |fleet| fleet.count_answer(&rollout, at, answered)).await.is_err() {
            return;
        }
    }
}
