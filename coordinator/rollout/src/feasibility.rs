//! Feasibility before touch: everything that can be known to go wrong, found before the first host is disturbed.
//!
//! [`make`] picks the hosts, divides them, and runs every check. All findings are reported at once; each says what to
//! change.

use std::collections::BTreeMap;

use windlass_proto::id::HostName;
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::{Amount, Batches, OnFailure};
use windlass_proto::time::Span;

use crate::ability::ability;
use crate::batches::{count, divide};
use crate::budget;
use crate::check::{Checks, hosts_word, names};
use crate::environment;
use crate::grants;
use crate::jump;
use crate::plan::{Fleet, FleetHost, HostState, Order, Plan};
use crate::targets::{Hosts, domains, select};
use crate::timing::{self, Worst};

/// Bytes a second that a host is expected to fetch and unpack, for the estimate only.
const STAGE_RATE: u64 = 50 << 20;

/// Below this a release that works would be taken back while the coordinator restarts.
const CONFIRM_USEFUL: Span = Span::secs(30);

/// Below this a confirm cannot arrive in time even when nothing is wrong.
const CONFIRM_POSSIBLE: Span = Span::secs(2);

/// Checks an order against the fleet.
pub fn make(order: Order, fleet: &Fleet) -> Plan {
    let mut checks = Checks::default();
    conflicts(&order, fleet, &mut checks);
    let (targets, strangers) = environment::own(&order, select(&order, fleet, &mut checks), &mut checks);
    let mut hosts = Hosts::sort_out(&order, &targets, &mut checks);
    hosts.excused.extend(strangers);
    let moving = environment::check(&order, &hosts.taking_part, &fleet.open, &mut checks);
    let domains = domains(&order, &hosts.taking_part, &mut checks);
    let former: BTreeMap<HostName, ReleaseRef> = hosts
        .taking_part
        .iter()
        .filter_map(|host| Some((host.name.clone(), host.confirmed.clone()?)))
        .collect();
    let silent = hosts.taking_part.iter().filter(|host| host.state == HostState::Silent);
    let silent = silent.map(|host| host.name.clone()).collect();
    let changing: Vec<&FleetHost> = hosts.changing(&order);
    let division = order.spec.strategy.division();
    let domain_of = |host: &FleetHost| domains.get(&host.name).cloned().unwrap_or_default();
    let idle = changing.iter().filter(|host| !host.serves()).map(|host| host.name.clone()).collect();
    let batches =
        divide(changing.iter().map(|host| (host.name.clone(), domain_of(host))).collect(), &idle, &division);
    let last_host = last_host(&order, &hosts.taking_part, &changing, &mut checks);

    let total = count(hosts.taking_part.len());
    let unavailable = budget::max_unavailable(&order.spec, total);
    let largest = count(batches.iter().map(Vec::len).max().unwrap_or(0));
    let at_once = largest.min(unavailable);
    let wide = total > 1 && at_once * 2 > total;
    amounts(&order, total, count(changing.len()), &division, &mut checks);
    if wide {
        checks.warn("wide", format!("{at_once} of {total} hosts may be out of service at once"));
    }
    ability(&order, &changing, &mut checks);
    disk(&order, &changing, &mut checks);
    let refusing = grants::check(&order, &targets, &hosts.excused, &mut checks);
    jump::check(&order, &changing, &mut checks);
    way_back(&order, &changing, &mut checks);
    let longest = deadlines(&order, &changing, &mut checks);

    let arriving = timing::arriving(&order.release, &order.spec);
    let leaving: BTreeMap<&HostName, Span> =
        changing.iter().map(|host| (&host.name, host.leaving(&order.release))).collect();
    let lacking: Vec<u64> = changing
        .iter()
        .filter(|host| !host.held.contains(&order.to.digest))
        .map(|host| order.fetch.lacking(host.releases()))
        .collect();
    // Hosts stage side by side.
    let stage = Span::secs(lacking.iter().max().map_or(0, |most| most.div_ceil(STAGE_RATE)));
    let times = batches.iter().map(|batch| {
        let slowest = batch.iter().filter_map(|name| leaving.get(name)).max().copied().unwrap_or_default();
        (count(batch.len()), slowest + arriving)
    });
    let estimate = stage + timing::batches(times, unavailable, order.spec.strategy.pause_between);
    let returning = count(changing.iter().filter(|host| host.confirmed.is_some()).count());
    let back = budget::back_parallel(&order.spec, total).min(unavailable.max(1));
    // Connections end early here: a plan is refused for what is likely, not for the worst.
    let return_time = order.release.drain.delay + arriving;
    let rollback = timing::batches(std::iter::once((returning, return_time)), back, Span(0));
    rollback_time(&order, rollback, &mut checks);

    let unchanged: Vec<HostName> = hosts.unchanged(&order).map(|host| host.name.clone()).collect();
    hosts.report_unchanged(&order, &mut checks);
    Plan {
        batches,
        checks: checks.sorted(),
        estimate_seconds: if changing.is_empty() { 0 } else { estimate.ceil_secs() },
        rollback_seconds: rollback.ceil_secs(),
        bytes_to_send: lacking.iter().sum(),
        unchanged,
        excused: std::mem::take(&mut hosts.excused),
        refusing,
        domains,
        silent,
        former,
        moving,
        last_host,
        leaving: longest,
        wide,
        order,
    }
}

fn bytes(n: u64) -> String {
    const MIB: u64 = 1 << 20;
    if n >= MIB { format!("{} MiB", n.div_ceil(MIB)) } else { format!("{} KiB", n.div_ceil(1024)) }
}

/// What others did or do: a busy app, a moved revision, a poisoned release.
fn conflicts(order: &Order, fleet: &Fleet, checks: &mut Checks) {
    let app = &order.app;
    environment::busy(order, &fleet.open, checks);
    if order.expect_revision != 0 && order.expect_revision != order.revision {
        checks.error(
            "revision",
            format!(
                "the next revision of {} is {}, not {} as expected: somebody else deployed; look at \
                 `windlass rollout history {}` and plan again",
                order.environment.of(app),
                order.revision,
                order.expect_revision,
                order.environment.flagged(app)
            ),
        );
    }
    let Some(poisoned) = fleet.poisoned.iter().find(|poisoned| poisoned.digest == order.to.digest) else {
        return;
    };
    let (hosts, rollout) = (names(&poisoned.hosts), &poisoned.rollout);
    match &poisoned.paroled {
        Some(parole) => checks.warn(
            "poisoned",
            format!(
                "{} failed on {hosts} in rollout {rollout}; {} lets it be tried once more, which this is: {}",
                order.to, parole.by, parole.reason
            ),
        ),
        None => checks.error(
            "poisoned",
            format!(
                "{} failed on {hosts} in rollout {rollout} and is not offered to any host again; deploy a corrected release, \
                 or, where the release was not to blame, let it be tried once more with `windlass app parole {app} {} --reason TEXT`",
                order.to, order.to.version
            ),
        ),
    }
}

/// Budget, ramp and threshold after rounding, shown as numbers of hosts.
fn amounts(order: &Order, total: u32, changing: u32, division: &Batches, checks: &mut Checks) {
    let strategy = &order.spec.strategy;
    let unavailable = budget::max_unavailable(&order.spec, total);
    if total == 0 {
        return;
    }
    if unavailable == 0 {
        checks.error(
            "budget",
            format!(
                "max_unavailable {} lets no host out of service, so nothing can change; set \
                 rollout.strategy.max_unavailable to 1 or more",
                strategy.max_unavailable
            ),
        );
    } else if *division == Batches::All {
        checks.ok("budget", format!("all_at_once: all of {} may be out of service", hosts_word(total)));
    } else {
        let amount = strategy.max_unavailable;
        checks.ok("budget", format!("max_unavailable {amount} of {} is {unavailable}", hosts_word(total)));
    }
    if let Batches::Ramp(ramp) = division {
        let reach: Vec<u32> =
            ramp.iter().map(|amount: &Amount| amount.ceil(changing).min(changing)).collect();
        let steps: Vec<String> =
            ramp.iter().zip(&reach).map(|(amount, n)| format!("{amount} = {n}")).collect();
        let last = reach.last().copied().unwrap_or(0);
        if reach.windows(2).any(|pair| pair[1] < pair[0]) {
            checks.error(
                "batches",
                format!(
                    "batches {} of {}: a ramp is cumulative and must not fall",
                    steps.join(", "),
                    hosts_word(changing)
                ),
            );
        } else if last < changing {
            checks.warn(
                "batches",
                format!("the ramp ends at {last} of {}; the rest form a last batch", hosts_word(changing)),
            );
        } else {
            checks.ok("batches", format!("{} of {}", steps.join(", "), hosts_word(changing)));
        }
    }
}

/// The host that serves alone, where it is to be changed: `max_unavailable` is the leave for that, and it is said.
fn last_host(
    order: &Order,
    taking_part: &[&FleetHost],
    changing: &[&FleetHost],
    checks: &mut Checks,
) -> Option<HostName> {
    let mut serving = taking_part.iter().filter(|host| host.serves() && host.state == HostState::Ready);
    let (Some(only), None, true) = (serving.next(), serving.next(), taking_part.len() > 1) else {
        return None;
    };
    changing.iter().find(|host| host.name == only.name)?;
    let (only, app) = (&only.name, &order.app);
    let amount = order.spec.strategy.max_unavailable;
    checks.warn(
        "last_host",
        format!(
            "{only} is the only host that serves {app}: hosts that run nothing come before it; where none of them comes to \
             serve, {only} is taken out of service all the same, as max_unavailable {amount} allows"
        ),
    );
    Some(only.clone())
}

fn disk(order: &Order, changing: &[&FleetHost], checks: &mut Checks) {
    // The tree, its chunks while they are unpacked, and room for journal, logs and evidence.
    let need = order.to_bytes + order.to_bytes / 4 + (16 << 20);
    let short: Vec<String> = changing
        .iter()
        .filter(|host| !host.held.contains(&order.to.digest))
        .filter_map(|host| Some((host, host.disk_free.filter(|free| *free < need)?)))
        .map(|(host, free)| format!("{} ({} free)", host.name, bytes(free)))
        .collect();
    if short.is_empty() {
        checks.ok("disk", format!("room for {} on every host", bytes(need)));
    } else {
        let list = short.join(", ");
        checks
            .error("disk", format!("{list}: needs {} to stage {}; make room", bytes(need), order.to.version));
    }
}

/// Whether the target of a rollback, and what a failed rollout would go back to, is on the hosts.
fn way_back(order: &Order, changing: &[&FleetHost], checks: &mut Checks) {
    if order.leads_back() {
        let lacking: Vec<_> = changing
            .iter()
            .filter(|host| !host.held.contains(&order.to.digest))
            .map(|host| &host.name)
            .collect();
        if lacking.is_empty() {
            checks.ok("target", format!("{} is on every host", order.to.version));
        } else {
            checks.warn("target", format!("{}: must fetch {} again", names(lacking), order.to.version));
        }
    }
    let first: Vec<_> =
        changing.iter().filter(|host| host.confirmed.is_none()).map(|host| &host.name).collect();
    if !first.is_empty() {
        checks.warn(
            "way_back",
            format!(
                "{}: first release of {}; a failure leaves nothing running there",
                names(first),
                order.app
            ),
        );
    }
    let lost = |host: &&&FleetHost| host.confirmed.as_ref().is_some_and(|r| !host.held.contains(&r.digest));
    let lost: Vec<_> = changing.iter().filter(lost).map(|host| &host.name).collect();
    if !lost.is_empty() {
        checks.warn("way_back", format!("{}: would have to fetch the release to go back to", names(lost)));
    }
}

/// The times of one host, and how they fit together. Returns the longest that any release takes to leave in this rollout: what
/// runs now, or the target where it has to go back.
fn deadlines(order: &Order, changing: &[&FleetHost], checks: &mut Checks) -> Span {
    let strategy = &order.spec.strategy;
    let worst = Worst::of(&order.release, &order.spec);
    let before = checks.0.len();
    if strategy.healthy_deadline < worst.total() {
        checks.error(
            "deadlines",
            format!(
                "healthy_deadline {} is shorter than the release allows itself: {worst}; raise \
                 rollout.strategy.healthy_deadline to {} or shorten those",
                strategy.healthy_deadline,
                worst.total()
            ),
        );
    }
    let slowest = changing.iter().map(|host| (host.leaving(&order.release), &host.name)).max();
    let (leaves, on) = slowest.map_or((Span(0), String::new()), |(span, host)| (span, format!(" on {host}")));
    let needed = leaves + strategy.healthy_deadline;
    if strategy.progress_deadline <= needed {
        checks.error(
            "deadlines",
            format!(
                "progress_deadline {} must be longer than drain and stop of what runs ({leaves}{on}) and healthy_deadline {} \
                 together; raise rollout.strategy.progress_deadline above {needed}",
                strategy.progress_deadline, strategy.healthy_deadline
            ),
        );
    }
    if checks.0.len() == before {
        checks.ok(
            "deadlines",
            format!(
                "a host may take {} of its {}, after {leaves} for what runs to leave",
                worst.total(),
                strategy.healthy_deadline
            ),
        );
    }
    let confirm = order.spec.host.confirm_timeout;
    if confirm < CONFIRM_POSSIBLE {
        checks.error(
            "confirm_timeout",
            format!(
                "confirm_timeout {confirm} is over before a confirm can arrive, so every host would go back; set \
                 rollout.host.confirm_timeout to {CONFIRM_USEFUL} or more"
            ),
        );
    } else if confirm < CONFIRM_USEFUL {
        checks.warn(
            "confirm_timeout",
            format!("confirm_timeout {confirm}: a restart of the coordinator would take good releases back"),
        );
    }
    leaves.max(timing::leaving(&order.release))
}

fn rollback_time(order: &Order, rollback: Span, checks: &mut Checks) {
    let deadline = order.spec.failure.rollback.deadline;
    if rollback <= deadline {
        checks.ok("rollback", format!("going back from the last batch takes about {rollback} of {deadline}"));
        return;
    }
    let message = format!(
        "going back from the last batch takes about {rollback}, longer than failure.rollback.deadline {deadline}; raise \
         it, or failure.rollback.max_parallel together with max_unavailable"
    );
    match order.spec.failure.on_failure {
        OnFailure::Rollback => checks.error("rollback", message),
        OnFailure::Pause => checks.warn("rollback", message),
    }
}
