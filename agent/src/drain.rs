//! Waiting for what is in flight when an application was taken out of traffic, and the ledger of it.
//!
//! What is in flight is what the kernel lists: connections that came in through the application's own listening sockets,
//! but for the agent's own, which are probes.
//! Each is known by the kernel's cookie, so that the ledger's sums are of connections and not of looks.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use windlass_proto::phase::Drained;
use windlass_proto::spec::OnDrainTimeout;

use crate::processes::ProcessId;
use crate::runtime::{HostContext, Launch, kill};
use crate::shim::order::Started;
use crate::sockets::{self, Cookie, Door};

/// How often connections are counted while they drain.
const LOOK: Duration = Duration::from_millis(200);

/// How often while the application ends: one that closes its last connection and exits at once shall not seem to have
/// cut it.
const LOOK_AT_END: Duration = Duration::from_millis(10);

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainEnd {
    /// Nothing is in flight any more, or what is will be cut, as the spec says.
    Drained(Drained),
    /// Connections outlived the time-out and the spec says to give up.
    TimedOut(Drained),
}

/// What an application has open, as long as anybody looks.
#[derive(Debug)]
pub struct Ledger {
    doors: Vec<Door>,
    seen: BTreeSet<Cookie>,
    open: BTreeSet<Cookie>,
}

impl Ledger {
    /// Opens the books: the application's own doors as they are now, which it may shut before its connections end.
    /// `started` is absent where nothing runs that could own one: then every listener on the release's ports counts, and
    /// so it does where the agent may not see whose they are.
    pub fn open(host: &HostContext, launch: &Launch, started: Option<&Started>) -> io::Result<Self> {
        let ports = launch.spec.ports.values().copied().collect();
        let mut doors = sockets::doors(host.address, &ports)?;
        let started = started.filter(|started| sockets::may_see(started.app.pid));
        if let (Some(started), false) = (started, doors.is_empty()) {
            let own: BTreeSet<u64> =
                kill::members(started).iter().flat_map(|p| sockets::inodes_of(p.id.pid)).collect();
            doors.retain(|door| own.contains(&door.inode));
        }
        let mut ledger = Self { doors, seen: BTreeSet::new(), open: BTreeSet::new() };
        ledger.look()?;
        Ok(ledger)
    }

    /// The processes that have the doors, or all where nobody has one any more: when they are gone, so is what they had
    /// open. What else the application left behind says nothing of its connections.
    fn owners(&self, started: Option<&Started>) -> Vec<ProcessId> {
        let members: Vec<ProcessId> =
            started.map(kill::members).unwrap_or_default().into_iter().map(|p| p.id).collect();
        let has_door = |process: &ProcessId| {
            let inodes = sockets::inodes_of(process.pid);
            self.doors.iter().any(|door| inodes.contains(&door.inode))
        };
        let owners: Vec<ProcessId> = members.iter().copied().filter(has_door).collect();
        if owners.is_empty() { members } else { owners }
    }

    /// Counts anew; returns how many are open.
    fn look(&mut self) -> io::Result<u32> {
        let mut open = self.connections()?;
        if open.is_empty() {
            // The kernel gives its table out in pieces, between which it changes: one connection may be missed.
            open = self.connections()?;
        }
        self.seen.extend(&open);
        self.open = open;
        Ok(self.left())
    }

    fn connections(&self) -> io::Result<BTreeSet<Cookie>> {
        // A probe of the agent may end, and another begin, while the kernel is asked.
        let mut probes = sockets::own_ends(&self.doors)?;
        let open = sockets::connections(&self.doors)?;
        probes.extend(sockets::own_ends(&self.doors)?);
        let others = open.into_iter().filter(|(_, peer)| !probes.contains(peer));
        let mut others: BTreeSet<Cookie> = others.map(|(cookie, _)| cookie).collect();
        // On a busy machine one may even have begun and ended meanwhile: whatever is new has to be there still.
        if !others.is_subset(&self.seen) {
            let still = sockets::connections(&self.doors)?;
            others.retain(|cookie| self.seen.contains(cookie) || still.contains_key(cookie));
        }
        Ok(others)
    }

    fn left(&self) -> u32 {
        count(&self.open)
    }

    /// The sums: what is open now is what would be cut.
    fn sums(&self) -> Drained {
        let (in_flight, cut) = (count(&self.seen), self.left());
        Drained { in_flight, closed: in_flight - cut, cut }
    }
}

fn count(connections: &BTreeSet<Cookie>) -> u32 {
    u32::try_from(connections.len()).unwrap_or(u32::MAX)
}

/// Waits as the release's spec says; it is out of traffic already. `started` is what runs of it; `progress` gets words
/// for people, when they change.
pub async fn drain(
    host: &HostContext,
    launch: &Launch,
    started: Option<&Started>,
    progress: impl Fn(String),
) -> DrainEnd {
    let settings = &launch.spec.drain;
    let begun = Instant::now();
    let delay_over_at = begun + settings.delay.std();
    let ends_at = delay_over_at + settings.timeout.std();
    let mut ledger = Ledger::open(host, launch, started).map_err(|error| uncounted(launch, &error)).ok();
    let mut told = String::new();
    loop {
        let now = Instant::now();
        let delay_over = now >= delay_over_at;
        // What cannot be counted is given all the time there is.
        let left = ledger.as_ref().map_or(1, Ledger::left);
        if delay_over && (left == 0 || now >= ends_at) {
            break;
        }
        let words = match (delay_over, &ledger) {
            (false, _) => format!("draining: waiting {} for load balancers", settings.delay),
            (true, Some(_)) if left == 1 => "draining: 1 connection open".to_owned(),
            (true, Some(_)) => format!("draining: {left} connections open"),
            (true, None) => "draining: connections cannot be counted".to_owned(),
        };
        if words != told {
            progress(words.clone());
            told = words;
        }
        let until = if delay_over { ends_at } else { delay_over_at };
        sleep(LOOK.min(until.saturating_duration_since(now))).await;
        if let Some(Err(error)) = ledger.as_mut().map(Ledger::look) {
            uncounted(launch, &error);
            ledger = None;
        }
    }
    let drained = ledger.as_ref().map(Ledger::sums).unwrap_or_default();
    if drained.cut > 0 && settings.on_timeout == OnDrainTimeout::Abort {
        return DrainEnd::TimedOut(Drained { cut: 0, ..drained });
    }
    DrainEnd::Drained(drained)
}

/// Runs `stop`, which ends what `started` is, and counts what it cuts: the connections that were open when the processes
/// that had them were last seen alive. What ends while they finish their work is not cut.
pub async fn counting_cuts<T>(
    host: &HostContext,
    launch: &Launch,
    started: Option<&Started>,
    stop: impl Future<Output = T>,
) -> (T, u32) {
    let ledger = started.map(|started| Ledger::open(host, launch, Some(started)));
    let mut ledger = match ledger {
        Some(Ok(ledger)) => ledger,
        Some(Err(error)) => {
            uncounted(launch, &error);
            return (stop.await, 0);
        }
        None => return (stop.await, 0),
    };
    let owners = ledger.owners(started);
    let mut cut = ledger.left();
    let watching = async {
        while cut > 0 {
            sleep(LOOK_AT_END).await;
            let Ok(left) = ledger.look() else { return };
            if !owners.iter().any(|owner| owner.lives()) {
                return;
            }
            cut = left;
        }
    };
    let mut stop = std::pin::pin!(stop);
    tokio::select! {
        biased;
        stopped = &mut stop => return (stopped, cut),
        () = watching => {}
    }
    (stop.await, cut)
}

fn uncounted(launch: &Launch, error: &io::Error) {
    tracing::warn!(app = %launch.release.app, %error, "connections cannot be counted by sock_diag");
}
