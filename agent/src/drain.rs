//! Taking an application out of traffic and back in.
//!
//! The hook for load balancers is a file, `apps/APP/run/ready`: there while the application may have traffic. What is
//! in flight is what the kernel lists: connections on the application's ports at the host's address.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use windlass_proto::phase::Drained;
use windlass_proto::spec::OnDrainTimeout;

use crate::file::{self, FileError};
use crate::runtime::{HostContext, Launch};
use crate::shim::order::RunDir;
use crate::sockets::established;

/// How often connections are counted.
const LOOK: Duration = Duration::from_millis(200);

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainEnd {
    /// Nothing is in flight any more, or what is will be cut, as the spec says.
    Drained(Drained),
    /// Connections outlived the time-out and the spec says to give up.
    TimedOut(Drained),
}

/// Takes the release out of traffic and waits, as its spec says. `progress` gets words for people.
pub async fn drain(
    host: &HostContext,
    launch: &Launch,
    progress: impl Fn(String),
) -> Result<DrainEnd, FileError> {
    withdraw(&launch.run)?;
    let ports: BTreeSet<u16> = launch.spec.ports.values().copied().collect();
    let count = || if ports.is_empty() { 0 } else { established(host.address, &ports) };
    let open = || match count() {
        // A table read while it changes may miss one.
        0 => count(),
        more => more,
    };
    let settings = &launch.spec.drain;
    let begun = Instant::now();
    let mut left = open();
    let mut most = left;
    loop {
        let delay_over = begun.elapsed() >= settings.delay.std();
        if delay_over && (left == 0 || begun.elapsed() >= settings.delay.std() + settings.timeout.std()) {
            break;
        }
        progress(if delay_over {
            format!("draining: {left} connections open")
        } else {
            format!("draining: waiting {} for load balancers", settings.delay)
        });
        let until = begun
            + if delay_over { settings.delay.std() + settings.timeout.std() } else { settings.delay.std() };
        sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
        left = open();
        most = most.max(left);
    }
    let drained = Drained { in_flight: most, closed: most - left, cut: left };
    if left > 0 && settings.on_timeout == OnDrainTimeout::Abort {
        return Ok(DrainEnd::TimedOut(Drained { cut: 0, ..drained }));
    }
    Ok(DrainEnd::Drained(drained))
}

/// Takes whatever runs out of traffic at once.
pub fn withdraw(run: &RunDir) -> Result<(), FileError> {
    let ready = run.ready();
    match fs::remove_file(&ready) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file::at("remove", &ready)(error)),
        _ => Ok(()),
    }
}

/// Lets traffic in: after a start, or back after a drain.
pub fn admit(launch: &Launch) -> Result<(), FileError> {
    file::make_dir(&launch.run.0)?;
    let release = &launch.release;
    file::replace(&launch.run.ready(), format!("{} {}\n", release.version, release.digest).as_bytes(), 0o644)
}
