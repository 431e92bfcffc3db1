//! fleet.json: what a fleet consists of and which processes it has.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::place::Place;
use super::process::{Process, boot_id};
use crate::error::{ExpectedError, Result};

/// The largest fleet: more would not measure windlass any more, but this machine.
pub const MOST_HOSTS: u32 = 250;

/// fleet.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRecord {
    /// The coordinator.
    pub coordinator: CoordinatorRecord,
    /// The hosts, `host-1` first.
    pub hosts: Vec<HostRecord>,
    /// The operator's configuration, for `WINDLASS_CONFIG`.
    pub config: PathBuf,
    /// The boot in which the processes were started.
    pub boot_id: String,
}

/// The coordinator of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorRecord {
    /// Its process; null when it was stopped.
    pub pid: Option<u32>,
    /// When that started, in clock ticks after boot.
    pub start_ticks: Option<u64>,
    /// Where operators reach it.
    pub address: String,
    /// Where agents reach it.
    pub agent_address: String,
    /// Where its metrics are: `/metrics` of this address.
    #[serde(default)]
    pub metrics: String,
    /// Its state.
    pub state_dir: PathBuf,
    /// Its log.
    pub log: PathBuf,
}

/// One host of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// `host-N`.
    pub name: String,
    /// Its agent's process; null when it was stopped.
    pub pid: Option<u32>,
    /// When that started, in clock ticks after boot.
    pub start_ticks: Option<u64>,
    /// What its apps bind.
    pub address: String,
    /// Where its agent's metrics are: `/metrics` of this address.
    #[serde(default)]
    pub metrics: String,
    /// Its agent's state.
    pub state_dir: PathBuf,
    /// Its agent's log.
    pub log: PathBuf,
}

impl HostRecord {
    /// The record of the N-th host, from 1, with no process yet.
    pub fn new(place: &Place, number: u32) -> Self {
        let name = format!("host-{number}");
        Self {
            pid: None,
            start_ticks: None,
            address: Ipv4Addr::from(Ipv4Addr::new(127, 0, 1, 0).to_bits() + number).to_string(),
            state_dir: place.host_state(&name),
            log: place.log(&name),
            metrics: String::new(),
            name,
        }
    }

    /// The agent's process, if it runs.
    pub fn process(&self) -> Option<Process> {
        alive(self.pid, self.start_ticks)
    }

    /// Notes the agent's process.
    pub fn set_process(&mut self, process: Option<Process>) {
        (self.pid, self.start_ticks) = (process.map(|p| p.pid), process.map(|p| p.start_ticks));
    }
}

impl CoordinatorRecord {
    /// The coordinator's process, if it runs.
    pub fn process(&self) -> Option<Process> {
        alive(self.pid, self.start_ticks)
    }

    /// Notes the coordinator's process.
    pub fn set_process(&mut self, process: Option<Process>) {
        (self.pid, self.start_ticks) = (process.map(|p| p.pid), process.map(|p| p.start_ticks));
    }
}

fn alive(pid: Option<u32>, start_ticks: Option<u64>) -> Option<Process> {
    let process = Process { pid: pid?, start_ticks: start_ticks? };
    process.is_alive().then_some(process)
}

impl FleetRecord {
    /// A fleet without hosts or processes.
    pub fn new(place: &Place) -> Self {
        Self {
            coordinator: CoordinatorRecord {
                pid: None,
                start_ticks: None,
                address: String::new(),
                agent_address: String::new(),
                metrics: String::new(),
                state_dir: place.coordinator_state(),
                log: place.log("coordinator"),
            },
            hosts: Vec::new(),
            config: place.config(),
            boot_id: boot_id(),
        }
    }

    /// Reads the record; `None` when the directory has none.
    pub fn read(place: &Place) -> Result<Option<Self>> {
        let path = place.record();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(ExpectedError::failed(format!("cannot read {}", path.display())).because(error));
            }
        };
        let mut record: Self = serde_json::from_slice(&bytes).map_err(|error| {
            ExpectedError::failed(format!("{} is damaged", path.display()))
                .because(error)
                .hint(format!("rm -r {}    (and start anew)", place.dir().display()))
        })?;
        let now = boot_id();
        if record.boot_id != now {
            // Nothing survives a reboot, and start times of another boot mean nothing in this one.
            record.coordinator.set_process(None);
            record.hosts.iter_mut().for_each(|host| host.set_process(None));
            record.boot_id = now;
        }
        Ok(Some(record))
    }

    /// Reads the record of a fleet that must exist.
    pub fn read_existing(place: &Place) -> Result<Self> {
        Self::read(place)?.ok_or_else(|| {
            ExpectedError::usage(format!("there is no development fleet in {}", place.dir().display()))
                .hint(format!("windlass dev up --dir {} --hosts 3", place.dir().display()))
        })
    }

    /// Writes the record.
    pub fn save(&self, place: &Place) -> Result<()> {
        let failed = |error: std::io::Error| {
            ExpectedError::failed(format!("cannot write {}", place.record().display())).because(error)
        };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        crate::files::write_atomic(&place.record(), format!("{text}\n").as_bytes(), 0o644).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_hosts_have_addresses_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path()).unwrap();
        assert!(FleetRecord::read_existing(&place).is_err());
        let mut record = FleetRecord::new(&place);
        record.hosts = (1..=3).map(|n| HostRecord::new(&place, n)).collect();
        record.save(&place).unwrap();
        assert_eq!(FleetRecord::read(&place).unwrap(), Some(record.clone()));
        assert_eq!(record.hosts[2].address, "127.0.1.3");
        assert_eq!(HostRecord::new(&place, MOST_HOSTS).address, "127.0.1.250");
    }

    #[test]
    fn a_record_of_another_boot_has_no_processes() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path()).unwrap();
        let mut record = FleetRecord::new(&place);
        record.coordinator.set_process(Process::of(std::process::id()));
        record.save(&place).unwrap();
        assert!(FleetRecord::read_existing(&place).unwrap().coordinator.process().is_some());
        record.boot_id = "another".into();
        record.save(&place).unwrap();
        assert!(FleetRecord::read_existing(&place).unwrap().coordinator.process().is_none());
    }
}
