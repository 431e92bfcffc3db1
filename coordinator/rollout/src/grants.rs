//! Which hosts would refuse the target because of its counter: found by the hosts' own rule, before anything is done.

use std::collections::BTreeMap;

use windlass_proto::grant::{Denied, Flaw};
use windlass_proto::id::HostName;

use crate::check::{Checks, names};
use crate::plan::{FleetHost, Order};
use crate::targets::is_on;

/// Looks at every selected host, also at those that are away: a grant has to cover them when they return. Gives those that
/// would refuse. A host whose past is not known takes part as others do; it is looked at when it has said it.
pub(crate) fn check(
    order: &Order,
    targets: &[&FleetHost],
    excused: &BTreeMap<HostName, String>,
    checks: &mut Checks,
) -> Vec<HostName> {
    let (mut here, mut away, mut granted) = (Vec::new(), Vec::new(), Vec::new());
    for host in targets.iter().filter(|host| !is_on(host, order.to.digest)) {
        let Some(past) = &host.past else { continue };
        match past.choose(&order.to, order.leads_back(), &host.offered) {
            Ok(None) => {}
            Ok(Some(_)) => granted.push(&host.name),
            Err(denied) if excused.contains_key(&host.name) => away.push((&host.name, denied)),
            Err(denied) => here.push((&host.name, denied)),
        }
    }
    let version = &order.to.version;
    if !granted.is_empty() {
        checks.ok("grant", format!("{}: may take {version}, as its authors granted", names(granted)));
    }
    if let [(_, denied), ..] = here.as_slice() {
        let list = names(here.iter().map(|(name, _)| *name));
        let build = if denied.rollback { "" } else { "; or build it with a higher --counter" };
        checks.error("grant", format!("{list}: would refuse {version}: {}{build}", foreseen(denied)));
    }
    if let [(_, denied), ..] = away.as_slice() {
        let list = names(away.iter().map(|(name, _)| *name));
        let message = format!(
            "{list}: away, and would refuse {version} on return, and be left out: {}",
            foreseen(denied)
        );
        checks.warn("grant", message);
    }
    here.into_iter().chain(away).map(|(name, _)| name.clone()).collect()
}

/// Why a host would refuse a release, and what lets it take it. A grant is not counted on when it ends soon.
pub fn foreseen(denied: &Denied) -> String {
    let Denied { to, seen, rollback, flaw } = denied;
    let confirmed = if *rollback { ", and it was not confirmed there lately" } else { "" };
    let (flaw, up_to) = match flaw {
        Flaw::Missing => (String::new(), String::new()),
        Flaw::Over { .. } => ("; the grant that is stored is over, or nearly".to_owned(), String::new()),
        // It may be more than any release that the coordinator knows of, which is as far as a grant goes unasked.
        Flaw::SeenLater { .. } => (format!("; {flaw}"), format!(" --up-to {seen}")),
        flaw => (format!("; {flaw}"), String::new()),
    };
    format!(
        "its counter {} is below the highest seen there, {seen}{confirmed}{flaw}; an author can grant it with \
         `windlass bundle grant {} {}{up_to}`",
        to.counter, to.app, to.version
    )
}
