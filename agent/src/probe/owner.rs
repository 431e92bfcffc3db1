//! Whose port it is: an answer of somebody else's process says nothing of the application.

use std::collections::BTreeSet;

use super::Target;
use crate::runtime::kill;
use crate::sockets;

/// Whether what listens on `port` is a process of the release; says who it is instead. What cannot be known is believed:
/// a port that the kernel does not show, a release of which nothing is on record, a runtime without processes.
pub(super) fn check(target: &Target, port: u16) -> Result<(), String> {
    let launch = &target.launch;
    let is_own = launch.spec.ports.values().any(|own| *own == port);
    let Some(started) = launch.run.read_started().filter(|_| is_own) else { return Ok(()) };
    if !launch.spec.runtime.has_process() || !sockets::may_see(started.app.pid) {
        return Ok(());
    }
    let address = target.host.address;
    let doors = sockets::doors(address, &BTreeSet::from([port])).unwrap_or_default();
    let has_door = |pid: u32| {
        let inodes = sockets::inodes_of(pid);
        doors.iter().any(|door| inodes.contains(&door.inode))
    };
    let of_release = started.release.digest == launch.release.digest;
    // The process itself nearly always; all that it began are looked for only where it is not.
    let owned = of_release
        && (has_door(started.app.pid) || kill::members(&started).iter().any(|p| has_door(p.id.pid)));
    if doors.is_empty() || owned {
        return Ok(());
    }
    let holder = sockets::holder(address, port).unwrap_or_else(|| "a process that has ended".to_owned());
    Err(format!("port {port} is held by {holder}, which is not of {}", launch.release))
}
