//! `dev up`: starts what is not running, and waits until every host is ready.

use std::time::Duration;

use windlass_proto::rpc::{Host, ListHostsRequest};

use super::place::Place;
use super::process::log_tail;
use super::programs::Programs;
use super::record::{FleetRecord, HostRecord, MOST_HOSTS};
use super::wait::until;
use super::{author, coordinator, host};
use crate::client::Client;
use crate::config::Config;
use crate::error::{ExpectedError, Result};
use crate::output::Output;
use crate::output::text::{count, now_ms};

/// Longest wait for all agents to be ready.
const READY: Duration = Duration::from_secs(30);
const DEFAULT_HOSTS: u32 = 3;

/// Starts the fleet, or what of it does not run. State, ports and identities of an existing fleet are kept.
pub async fn up(place: &Place, hosts: Option<u32>, programs: &Programs, out: &Output) -> Result<FleetRecord> {
    if hosts.is_some_and(|n| n == 0 || n > MOST_HOSTS) {
        return Err(ExpectedError::usage(format!("a development fleet has 1 to {MOST_HOSTS} hosts")));
    }
    place.prepare()?;
    let lock = place.lock().await?;
    let mut record = FleetRecord::read(place)?.unwrap_or_else(|| FleetRecord::new(place));
    add_hosts(place, &mut record, hosts)?;
    record.save(place)?;
    let author = author::load_or_make(place)?;

    let began = now_ms();
    let mut started = false;
    if record.coordinator.process().is_none() {
        let result = coordinator::start(place, programs, &mut record.coordinator).await;
        record.save(place)?;
        result?;
        started = true;
        out.step("started", &format!("the coordinator, operators at {}", record.coordinator.address));
    }
    coordinator::introduce_operator(place, programs, &record.coordinator).await?;
    let mut client = connect(place).await?;
    for index in 0..record.hosts.len() {
        let agent_address = record.coordinator.agent_address.clone();
        let entry = &mut record.hosts[index];
        if entry.process().is_some() {
            continue;
        }
        let result = host::start(place, programs, &mut client, entry, &author, &agent_address).await;
        record.save(place)?;
        result?;
        started = true;
    }
    // What is not restarted has said long ago that it is there; what is must say so anew.
    let dir = place.dir().display();
    await_ready(&record, &mut client, if started { began } else { 0 })
        .await
        .map_err(|error| error.hint(format!("windlass dev down --dir {dir}    (stops what was started)")))?;
    drop(lock);
    out.step("ready", &format!("{} in {}", count(record.hosts.len(), "host"), place.dir().display()));
    Ok(record)
}

/// Gives the fleet the hosts it is asked to have; it never loses one.
fn add_hosts(place: &Place, record: &mut FleetRecord, asked: Option<u32>) -> Result<()> {
    let have = u32::try_from(record.hosts.len()).unwrap_or(u32::MAX);
    let want = asked.unwrap_or(if have == 0 { DEFAULT_HOSTS } else { have });
    if want < have {
        let dir = place.dir().display();
        return Err(ExpectedError::usage(format!(
            "the fleet in {dir} has {have} hosts; it cannot shrink to {want}"
        ))
        .hint(format!("windlass dev up --dir {dir} --hosts {have}"))
        .hint("or start a smaller fleet in another directory"));
    }
    record.hosts.extend((have + 1..=want).map(|number| HostRecord::new(place, number)));
    Ok(())
}

/// Connects as the fleet's operator.
pub(crate) async fn connect(place: &Place) -> Result<Client> {
    let config = Config::read(&place.config())?;
    let (name, context) = config.select(None)?;
    Client::connect(&config, name, context).await
}

/// Waits until every host is ready and was heard of after `since`; names those that are not, with their logs.
async fn await_ready(record: &FleetRecord, client: &mut Client, since: i64) -> Result<()> {
    let mut waiting: Vec<&HostRecord> = record.hosts.iter().collect();
    let ready = until(READY, async || {
        let hosts = match client.fleet.list_hosts(ListHostsRequest::default()).await {
            Ok(hosts) => client.received(hosts).hosts,
            // The coordinator is starting; the deadline bounds this.
            Err(_) => return None,
        };
        waiting.retain(|host| !hosts.iter().any(|seen| seen.name == host.name && is_there(seen, since)));
        let dead = waiting.iter().any(|host| host.process().is_none());
        (waiting.is_empty() || dead).then_some(())
    });
    ready.await;
    if waiting.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = waiting.iter().map(|host| host.name.as_str()).collect();
    let within = if waiting.iter().any(|host| host.process().is_none()) {
        String::new()
    } else {
        format!(" within {} s", READY.as_secs())
    };
    let mut error = ExpectedError::failed(format!("not ready{within}: {}", names.join(", ")));
    for host in waiting.iter().take(3) {
        let state = if host.process().is_some() { "is running" } else { "has ended" };
        error = error.cause(format!("the agent of {} {state}; {}", host.name, log_tail(&host.log, 8)));
    }
    Err(error)
}

fn is_there(host: &Host, since: i64) -> bool {
    host.last_seen_ms >= since && !matches!(host.state.as_str(), "silent" | "revoked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleets_grow_and_never_shrink() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path()).unwrap();
        let mut record = FleetRecord::new(&place);
        add_hosts(&place, &mut record, None).unwrap();
        assert_eq!(record.hosts.len(), 3);
        add_hosts(&place, &mut record, Some(5)).unwrap();
        assert_eq!(record.hosts.last().unwrap().name, "host-5");
        add_hosts(&place, &mut record, None).unwrap();
        assert_eq!(record.hosts.len(), 5);
        assert!(add_hosts(&place, &mut record, Some(4)).is_err());
    }
}
