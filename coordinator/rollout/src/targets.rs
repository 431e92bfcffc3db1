//! Which hosts a plan is about: selected, excused, unchanged, and their failure domains.

use std::collections::{BTreeMap, BTreeSet};

use windlass_proto::digest::Digest;
use windlass_proto::id::HostName;
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::Absent;
use windlass_proto::spec::selector::Selector;

use crate::batches::count;
use crate::budget;
use crate::check::{Checks, hosts_word, names};
use crate::plan::{Fleet, FleetHost, HostState, Order};
use crate::state::Kind;

/// The hosts that the selector names.
pub(crate) fn select<'a>(order: &Order, fleet: &'a Fleet, checks: &mut Checks) -> Vec<&'a FleetHost> {
    let selector = match order.spec.targets.selector.parse::<Selector>() {
        Ok(selector) => selector,
        Err(error) => {
            checks.error("selector", format!("rollout.targets.selector: {error}"));
            return vec![];
        }
    };
    let only = |host: &&FleetHost| order.only.as_ref().is_none_or(|only| only.contains(&host.name));
    let selected: Vec<&FleetHost> =
        fleet.hosts.iter().filter(|host| selector.matches(&host.labels)).collect();
    let found = count(selected.len());
    if selected.is_empty() {
        checks.error(
            "selector",
            format!(
                "selector \"{selector}\" matches none of the fleet's {}; see the labels with `windlass host list`",
                hosts_word(count(fleet.hosts.len()))
            ),
        );
        return selected;
    }
    checks.ok("selector", format!("selector \"{selector}\" matches {}", hosts_word(found)));
    if let Some(expected) = &order.spec.targets.expect_hosts {
        let max = expected.max.unwrap_or(u32::MAX);
        if found < expected.min || found > max {
            let bound = match expected.max {
                Some(max) => format!("{} to {max}", expected.min),
                None => format!("at least {}", expected.min),
            };
            checks.error(
                "expect_hosts",
                format!(
                    "selector \"{selector}\" matches {}, but {bound} are expected; correct the selector, the hosts' \
                     labels or rollout.targets.expect_hosts",
                    hosts_word(found)
                ),
            );
        } else {
            checks.ok("expect_hosts", format!("{} as expected", hosts_word(found)));
        }
    }
    if order.kind != Kind::Retry {
        named(order, &selected, checks);
    }
    selected.into_iter().filter(only).collect()
}

/// Of hosts that were named one by one, all have to be among the selected ones.
fn named(order: &Order, selected: &[&FleetHost], checks: &mut Checks) {
    let Some(only) = &order.only else { return };
    let selector = &order.spec.targets.selector;
    let strangers: Vec<_> =
        only.iter().filter(|name| selected.iter().all(|host| host.name != **name)).collect();
    if strangers.is_empty() {
        checks.ok("hosts", format!("only {}", names(only)));
    } else {
        let (list, close) = (names(strangers), names(selected.iter().map(|host| &host.name)));
        checks.error(
            "hosts",
            format!("{list}: not among the hosts that selector \"{selector}\" matches: {close}; name one of these, or correct the labels"),
        );
    }
}

/// The selected hosts, sorted out.
pub(crate) struct Hosts<'a> {
    /// Those that count.
    pub(crate) taking_part: Vec<&'a FleetHost>,
    /// Those that do not, and why.
    pub(crate) excused: BTreeMap<HostName, String>,
}

impl<'a> Hosts<'a> {
    pub(crate) fn sort_out(order: &Order, targets: &[&'a FleetHost], checks: &mut Checks) -> Self {
        let absent = order.spec.targets.absent;
        let of =
            |state: HostState| targets.iter().filter(move |host| host.state == state).map(|host| &host.name);
        let (silent, cordoned) = (of(HostState::Silent).count(), of(HostState::Cordoned).count());
        let threshold = budget::error_threshold(&order.spec, count(targets.len()));
        if silent > 0 {
            let list = names(of(HostState::Silent));
            match absent {
                Absent::Skip => checks.warn("absent", format!("{list}: silent; excused (absent: skip)")),
                Absent::Wait => {
                    checks.warn("absent", format!("{list}: silent; the rollout will wait (absent: wait)"));
                }
                Absent::CountAsFailed if count(silent) > threshold => checks.error(
                    "absent",
                    format!(
                        "{list}: silent, and absent: count_as_failed with an error_threshold of {threshold} cannot \
                         succeed; bring them back, cordon them, or set rollout.targets.absent to skip"
                    ),
                ),
                Absent::CountAsFailed => checks.warn("absent", format!("{list}: silent; they count as failed")),
            }
        }
        if cordoned > 0 {
            checks.warn("cordoned", format!("{}: cordoned; left out", names(of(HostState::Cordoned))));
        }
        if of(HostState::Quarantined).count() > 0 {
            checks.warn(
                "quarantined",
                format!(
                    "{}: quarantined; left out until `windlass host release HOST`",
                    names(of(HostState::Quarantined))
                ),
            );
        }
        if of(HostState::Foreign).count() > 0 {
            checks.error(
                "foreign",
                format!(
                    "{}: obeys another coordinator, and this one does not lead it; see `windlass host show HOST`, or leave it out \
                     with `windlass host cordon HOST`",
                    names(of(HostState::Foreign))
                ),
            );
        }
        let mut hosts = Self { taking_part: vec![], excused: BTreeMap::new() };
        for host in targets {
            let excuse = match host.state {
                HostState::Silent if absent == Absent::Skip => "silent when the rollout was planned",
                HostState::Cordoned => "cordoned",
                HostState::Quarantined => "quarantined",
                HostState::Foreign => "obeys another coordinator",
                HostState::Ready | HostState::Silent => {
                    hosts.taking_part.push(host);
                    continue;
                }
            };
            hosts.excused.insert(host.name.clone(), excuse.into());
        }
        if hosts.taking_part.is_empty() && !targets.is_empty() {
            checks.error("absent", "none of the selected hosts can take part; see `windlass host list`");
        }
        hosts
    }

    pub(crate) fn unchanged(&self, order: &Order) -> impl Iterator<Item = &'a FleetHost> {
        let digest = order.to.digest;
        self.taking_part.iter().copied().filter(move |host| is_on(host, digest))
    }

    pub(crate) fn changing(&self, order: &Order) -> Vec<&'a FleetHost> {
        self.taking_part.iter().copied().filter(|host| !is_on(host, order.to.digest)).collect()
    }

    pub(crate) fn report_unchanged(&self, order: &Order, checks: &mut Checks) {
        let list: Vec<_> = self.unchanged(order).collect();
        if list.is_empty() {
            return;
        }
        let all = if list.len() == self.taking_part.len() { "; nothing to do" } else { "" };
        let message =
            format!("{}: on {} already{all}", names(list.iter().map(|host| &host.name)), order.to.version);
        checks.ok("unchanged", message);
        let down: Vec<_> = list.iter().filter(|host| !host.attested).map(|host| &host.name).collect();
        if !down.is_empty() {
            let why = format!("see `windlass why {}`", down[0]);
            checks.warn(
                "attested",
                format!("{}: has {} but does not run it; {why}", names(down), order.to.version),
            );
        }
    }
}

pub(crate) fn is_on(host: &FleetHost, digest: Digest) -> bool {
    let on = |release: &Option<ReleaseRef>| release.as_ref().is_some_and(|release| release.digest == digest);
    on(&host.confirmed) && on(&host.current)
}

/// Each host's failure domain; hosts without the label are one domain of their own.
pub(crate) fn domains(
    order: &Order,
    hosts: &[&FleetHost],
    checks: &mut Checks,
) -> BTreeMap<HostName, String> {
    let Some(label) = &order.spec.targets.failure_domain else { return BTreeMap::new() };
    let lacking: Vec<_> = hosts.iter().filter(|host| !host.labels.contains_key(label)).collect();
    let domains: BTreeMap<HostName, String> = hosts
        .iter()
        .map(|host| (host.name.clone(), host.labels.get(label).cloned().unwrap_or_default()))
        .collect();
    if lacking.is_empty() {
        let number = domains.values().collect::<BTreeSet<_>>().len();
        checks.ok("failure_domain", format!("{number} values of label {label}; one at a time"));
    } else {
        let list = names(lacking.iter().map(|host| &host.name));
        checks.warn(
            "failure_domain",
            format!(
                "{list}: no label {label}; changed as a domain of their own; `windlass host label` sets it"
            ),
        );
    }
    domains
}
