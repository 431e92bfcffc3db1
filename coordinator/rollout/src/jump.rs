//! Counters so far above those that hosts have seen that the hosts would refuse them.

use windlass_proto::counter;

use crate::check::{Checks, names};
use crate::plan::{FleetHost, Order};

/// What each host that changes would say of the counter of the release.
pub(crate) fn check(order: &Order, changing: &[&FleetHost], checks: &mut Checks) {
    let judged = changing.iter().map(|host| {
        let confirmed = host.confirmed.as_ref().map_or(0, |release| release.counter);
        let seen = host.past.as_ref().map_or(0, |past| past.seen).max(confirmed);
        (&host.name, counter::may_follow(seen, order.to.counter))
    });
    let refused: Vec<_> = judged.filter_map(|(name, judged)| Some((name, judged.err()?))).collect();
    if let Some((_, lowest)) = refused.iter().min_by_key(|(_, far)| far.most) {
        checks.error(
            "counter",
            format!(
                "{}: would refuse {}: {lowest}; build it again with another --counter",
                names(refused.iter().map(|(name, _)| *name)),
                order.to.version,
            ),
        );
    }
}
