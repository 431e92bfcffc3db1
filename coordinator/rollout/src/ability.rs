//! Whether hosts can take the release at all: what they can run, and how many apps they have.

use std::collections::BTreeMap;

use windlass_proto::feature::Feature;
use windlass_proto::limits::APPS;

use crate::check::{Checks, names};
use crate::plan::{FleetHost, Order};

/// What hosts would refuse, or could not run.
pub(crate) fn ability(order: &Order, changing: &[&FleetHost], checks: &mut Checks) {
    let need = order.release.needs();
    let lacks =
        |host: &&&FleetHost| host.features.as_ref().is_some_and(|features| !features.contains(need.word()));
    let lacking: Vec<_> = changing.iter().filter(lacks).collect();
    if need == Feature::RuntimeSystemd && !lacking.is_empty() {
        checks.error(
            "runtime",
            format!(
                "{}: no systemd here that the agent can use; release.runtime.kind: process works",
                names(lacking.iter().map(|host| &host.name))
            ),
        );
    } else {
        let mut by_version: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for host in lacking {
            by_version.entry(&host.agent_version).or_default().push(&host.name);
        }
        for (version, hosts) in by_version {
            checks.error(
                "runtime",
                format!(
                    "{}: agent {version} has no {}; install the coordinator's version there",
                    names(hosts),
                    need.word()
                ),
            );
        }
    }
    let full: Vec<_> = changing.iter().filter(|host| host.full).map(|host| &host.name).collect();
    if !full.is_empty() {
        checks.error(
            "apps",
            format!(
                "{}: has {APPS} apps already, as many as a host takes; leave it out by another selector, or with \
                 `windlass host cordon HOST`",
                names(full)
            ),
        );
    }
}
