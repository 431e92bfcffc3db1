//! Environments of an app: each has one rollout at a time, and a host belongs to one of them at a time.

use std::collections::BTreeMap;

use windlass_proto::id::{Environment, HostName};

use crate::check::{Checks, names};
use crate::plan::{FleetHost, OpenRollout, Order};
use crate::state::Kind;

/// The rollout that holds the environment, if there is one.
pub(crate) fn busy(order: &Order, open: &[OpenRollout], checks: &mut Checks) {
    let own = |open: &&OpenRollout| open.app == order.app && open.environment == order.environment;
    for open in open.iter().filter(own) {
        let whole = open.environment.of(&open.app);
        checks.error("busy", format!("{whole} is held by {}", holder(open)));
    }
}

/// Who holds it, since when and why, and the way out.
fn holder(open: &OpenRollout) -> String {
    let OpenRollout { id, state, started_by, age, reason, .. } = open;
    let why =
        if reason.is_empty() { "without a reason".into() } else { format!("with the reason \"{reason}\"") };
    format!(
        "rollout {id} ({state}), which {started_by} started {age} ago, {why}; wait for it (`windlass rollout watch {id}`) or \
         abort it"
    )
}

/// Takes out hosts of other environments where an order never takes any: one of theirs that the selector happens to match must
/// not stand in the way of going back. Gives those that are left, and the others with why they take no part.
pub(crate) fn own<'a>(
    order: &Order,
    selected: Vec<&'a FleetHost>,
    checks: &mut Checks,
) -> (Vec<&'a FleetHost>, BTreeMap<HostName, String>) {
    if order.kind == Kind::Deploy {
        return (selected, BTreeMap::new());
    }
    let other = |host: &FleetHost| host.environment.clone().filter(|other| *other != order.environment);
    let (own, strangers): (Vec<_>, Vec<_>) = selected.into_iter().partition(|host| other(host).is_none());
    let (list, whole) = (names(strangers.iter().map(|host| &host.name)), order.environment.of(&order.app));
    if own.is_empty() && !strangers.is_empty() {
        checks.error(
            "environment",
            format!("{list}: none of these is of {whole}; see `windlass versions {}`", order.app),
        );
    } else if !strangers.is_empty() {
        checks.warn("environment", format!("{list}: not of {whole}; left out"));
    }
    let excused =
        strangers.iter().filter_map(|host| Some((host.name.clone(), format!("of {}", other(host)?))));
    (own, excused.collect())
}

/// Hosts are not taken from another environment without leave, and never in the middle of a rollout there. Gives those that
/// move.
pub(crate) fn check(
    order: &Order,
    taking_part: &[&FleetHost],
    open: &[OpenRollout],
    checks: &mut Checks,
) -> BTreeMap<HostName, Environment> {
    let (app, own) = (&order.app, &order.environment);
    let elsewhere = |open: &&OpenRollout| open.app == *app && open.environment != *own;
    for open in open.iter().filter(elsewhere) {
        let held: Vec<_> =
            taking_part.iter().map(|host| &host.name).filter(|name| open.hosts.contains(*name)).collect();
        if !held.is_empty() {
            let (held, whole) = (names(held), open.environment.of(app));
            checks.error("busy", format!("{held}: of {whole}, which is held by {}", holder(open)));
        }
    }
    let mut others: BTreeMap<&Environment, Vec<&HostName>> = BTreeMap::new();
    for host in taking_part {
        if let Some(other) = host.environment.as_ref().filter(|other| *other != own) {
            others.entry(other).or_default().push(&host.name);
        }
    }
    let mut moving = BTreeMap::new();
    for (other, hosts) in &others {
        let list = names(hosts.iter().copied());
        if order.take_from.as_ref() == Some(*other) {
            checks.warn("environment", format!("{list}: taken from {other}, for {own} from now on"));
            moving.extend(hosts.iter().map(|name| ((*name).clone(), (*other).clone())));
        } else {
            checks.error(
                "environment",
                format!(
                    "{list}: of {app} in {other}, and not to be taken from there without leave; correct the selector or the \
                     labels, or take them with --take-from {other}"
                ),
            );
        }
    }
    match &order.take_from {
        Some(from) if !others.contains_key(from) => {
            checks.warn("environment", format!("no selected host is of {app} in {from}: none is taken"));
        }
        _ if others.is_empty() && !own.is_default() => {
            checks.ok("environment", format!("all hosts are of {app} in {own}, or of no other environment"));
        }
        _ => {}
    }
    moving
}
