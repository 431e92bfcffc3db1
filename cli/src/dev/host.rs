//! One host of the fleet: its agent's configuration, join token and process.

use std::collections::BTreeMap;

use serde::Serialize;
use windlass_proto::rpc::CreateTokenRequest;

use super::place::Place;
use super::ports::{free_address, is_free};
use super::process::spawn_detached;
use super::programs::Programs;
use super::record::HostRecord;
use crate::client::Client;
use crate::error::{ExpectedError, Result};

/// agent.toml as a fleet's hosts have it.
#[derive(Serialize)]
struct AgentConfig<'a> {
    name: &'a str,
    address: &'a str,
    state_dir: &'a str,
    run_dir: &'a str,
    metrics_listen: &'a str,
    coordinators: [&'a str; 1],
    join_token_file: &'a str,
    policy: Policy<'a>,
}

#[derive(Serialize)]
struct Policy<'a> {
    author_keys: [&'a str; 1],
    threshold: u32,
    apps: [&'a str; 1],
    allow_root: bool,
}

/// Writes the agent's configuration with a fresh join token, and starts it. An agent that is enrolled needs no token
/// until its certificate has expired; then it enrols again under the same key and stays the same host.
pub(super) async fn start(
    place: &Place,
    programs: &Programs,
    client: &mut Client,
    host: &mut HostRecord,
    author: &str,
    coordinator: &str,
) -> Result<()> {
    let failed = |what: &str| format!("cannot {what} for {}", host.name);
    let request = CreateTokenRequest { labels: labels(&host.name), host: host.name.clone(), ttl_seconds: 0 };
    let token = client.fleet.create_token(request).await;
    let token = token.map_err(|status| client.failure(&failed("create a join token"), &status))?;
    let token = client.received(token);
    if host.metrics.is_empty() || !is_free(&host.metrics) {
        let none = || ExpectedError::failed(failed("find a free port"));
        host.metrics = free_address(&host.address).ok_or_else(none)?;
    }
    let config = AgentConfig {
        name: &host.name,
        address: &host.address,
        state_dir: "state",
        run_dir: "run",
        metrics_listen: &host.metrics,
        coordinators: [coordinator],
        join_token_file: "join-token",
        policy: Policy {
            author_keys: [author],
            threshold: 1,
            apps: ["*"],
            // Apps run as the agent's user. Where that is root, there is nobody else that a fleet may use unasked.
            allow_root: nix::unistd::geteuid().is_root(),
        },
    };
    let unwritten = |error: &dyn std::error::Error| {
        ExpectedError::failed(failed("write the configuration")).cause(error.to_string())
    };
    let text = toml::to_string(&config).map_err(|error| unwritten(&error))?;
    let path = place.agent_config(&host.name);
    let token_file = place.host(&host.name).join("join-token");
    crate::files::write_atomic(&path, text.as_bytes(), 0o644).map_err(|error| unwritten(&error))?;
    crate::files::write_atomic(&token_file, token.join.as_bytes(), 0o600)
        .map_err(|error| unwritten(&error))?;
    let args = ["run".as_ref(), "--config".as_ref(), path.as_os_str()];
    let process = spawn_detached(&programs.windlass, &programs.agent, args, &host.log)?;
    host.set_process(Some(process));
    Ok(())
}

/// `role=app`, and one of three racks in turn.
fn labels(name: &str) -> BTreeMap<String, String> {
    let number: u32 = name.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let rack = format!("r{}", (number - 1) % 3 + 1);
    BTreeMap::from([("role".into(), "app".into()), ("rack".into(), rack)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn racks_take_turns() {
        let racks: Vec<String> = (1..=4).map(|n| labels(&format!("host-{n}"))["rack"].clone()).collect();
        assert_eq!(racks, ["r1", "r2", "r3", "r1"]);
    }
}
