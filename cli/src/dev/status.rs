//! `dev status`: the processes of a fleet, and what the coordinator says of its hosts.

use serde_json::{Value, json};
use windlass_proto::rpc::{Host, ListHostsRequest, Phase};

use super::place::Place;
use super::record::FleetRecord;
use super::up::connect;
use crate::error::Result;
use crate::output::style;

/// A fleet as it is now.
#[derive(Debug, Clone)]
pub struct FleetStatus {
    record: FleetRecord,
    coordinator_runs: bool,
    /// Empty when the coordinator cannot be asked.
    hosts: Vec<Host>,
}

/// Looks at the processes and asks the coordinator, if it runs.
pub async fn look(place: &Place) -> Result<FleetStatus> {
    let record = FleetRecord::read_existing(place)?;
    let coordinator_runs = record.coordinator.process().is_some();
    let mut hosts = Vec::new();
    if coordinator_runs && let Ok(mut client) = connect(place).await {
        // A coordinator that is just starting or ending has nothing to say; its process is shown all the same.
        if let Ok(list) = client.fleet.list_hosts(ListHostsRequest::default()).await {
            hosts = client.received(list).hosts;
        }
    }
    Ok(FleetStatus { record, coordinator_runs, hosts })
}

fn process_word(runs: bool) -> &'static str {
    if runs { "running" } else { "stopped" }
}

/// `prometheus 2.42.0 confirmed`, one for each app.
fn apps(host: &Host) -> String {
    let one = |app: &windlass_proto::rpc::AppStatus| {
        let version = app.current.as_ref().map_or("-", |release| release.version.as_str());
        let phase = Phase::try_from(app.phase).unwrap_or_default().as_str_name().to_lowercase();
        format!("{} {version} {}", app.app, phase.trim_start_matches("phase_"))
    };
    host.apps.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl FleetStatus {
    /// Header and rows for a table.
    pub fn rows(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let header = vec!["NAME", "PROCESS", "PID", "ADDRESS", "STATE", "APPS"];
        let pid = |pid: Option<u32>| pid.map_or_else(|| "-".into(), |pid| pid.to_string());
        let coordinator = &self.record.coordinator;
        let mut rows = vec![vec![
            "coordinator".into(),
            style::word(process_word(self.coordinator_runs)),
            pid(coordinator.pid.filter(|_| self.coordinator_runs)),
            coordinator.address.clone(),
            "-".into(),
            String::new(),
        ]];
        for host in &self.record.hosts {
            let runs = host.process().is_some();
            let known = self.hosts.iter().find(|known| known.name == host.name);
            rows.push(vec![
                host.name.clone(),
                style::word(process_word(runs)),
                pid(host.pid.filter(|_| runs)),
                host.address.clone(),
                style::word(known.map_or("unknown", |known| known.state.as_str())),
                known.map(apps).unwrap_or_default(),
            ]);
        }
        (header, rows)
    }

    /// `DevFleet`: fleet.json with what runs.
    pub fn json(&self) -> Value {
        let host = |host: &super::record::HostRecord| {
            let known = self.hosts.iter().find(|known| known.name == host.name);
            json!({
                "name": host.name, "address": host.address, "state_dir": host.state_dir,
                "pid": host.process().map(|p| p.pid),
                "state": known.map_or("unknown", |known| known.state.as_str()),
            })
        };
        let coordinator = &self.record.coordinator;
        let value = json!({
            "coordinator": {
                "pid": coordinator.process().map(|p| p.pid),
                "address": coordinator.address, "state_dir": coordinator.state_dir,
            },
            "hosts": self.record.hosts.iter().map(host).collect::<Vec<_>>(),
            "config": self.record.config,
        });
        crate::output::json::wrap("DevFleet", value)
    }

    /// What people watch change: one line for the coordinator and each host.
    pub fn lines(&self) -> Vec<(String, String)> {
        let (_, rows) = self.rows();
        rows.into_iter().map(|row| (row[0].clone(), format!("{} {} {}", row[1], row[4], row[5]))).collect()
    }
}
