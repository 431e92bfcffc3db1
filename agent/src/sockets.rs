//! TCP sockets of this host as /proc/net/tcp and tcp6 list them: who holds a port, how many connections are open.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// One line of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket<'a> {
    address: IpAddr,
    port: u16,
    remote: &'a str,
    state: &'a str,
    inode: u64,
}

/// Calls `each` for all sockets. The tables are read by line: on a busy host they have many megabytes.
fn for_each(mut each: impl FnMut(Socket<'_>)) {
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(file) = fs::File::open(table) else { continue };
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
            if let Some(socket) = parse(&line) {
                each(socket);
            }
            line.clear();
        }
    }
}

fn parse(line: &str) -> Option<Socket<'_>> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let remote = fields.next()?;
    let state = fields.next()?;
    let inode = fields.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Socket { address: parse_address(address)?, port, remote, state, inode })
}

/// The kernel prints each 32-bit word as a number of the host's byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let words = |hex: &str| -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(16);
        for at in (0..hex.len()).step_by(8) {
            bytes.extend(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
        }
        Some(bytes)
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(words(hex)?).ok()?).into()),
        32 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(words(hex)?).ok()?).to_canonical()),
        _ => None,
    }
}

/// Whether a socket bound to `bound` takes what comes to `address`.
fn covers(bound: IpAddr, address: IpAddr) -> bool {
    bound.is_unspecified() || bound == address
}

/// Who listens on a port of this address, in words; `None` when it is free.
pub fn holder(address: IpAddr, port: u16) -> Option<String> {
    let mut inodes = BTreeSet::new();
    for_each(|socket| {
        if socket.state == LISTEN && socket.port == port && covers(socket.address, address) {
            inodes.insert(socket.inode);
        }
    });
    if inodes.is_empty() {
        return None;
    }
    let names: BTreeSet<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let holds = |pid: u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok())
            .any(|link| link.to_str().is_some_and(|link| names.contains(link)))
    };
    let holder = crate::processes::all().into_iter().map(|p| p.id.pid).find(|pid| holds(*pid));
    Some(holder.map_or_else(
        || "a process that the agent may not see".to_owned(),
        |pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid} ({})", name.trim())
        },
    ))
}

/// Connections open on these ports of this address. The kernel gives the table out in pieces, between which it may
/// change: so one connection may be listed twice, which is seen here, or not at all, which a second look shows.
pub fn established(address: IpAddr, ports: &BTreeSet<u16>) -> u32 {
    let mut found = BTreeSet::new();
    for_each(|socket| {
        if socket.state == ESTABLISHED && ports.contains(&socket.port) && socket.address == address {
            found.insert((socket.port, socket.remote.to_owned()));
        }
    });
    u32::try_from(found.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn lines_are_understood() {
        let line =
            "   0: 0101007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1 f 100";
        let socket = parse(line).unwrap();
        assert_eq!((socket.port, socket.state, socket.inode), (8080, LISTEN, 4711));
        if cfg!(target_endian = "little") {
            assert_eq!(socket.address, IpAddr::from([127, 0, 1, 1]));
        }
        assert_eq!(parse("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    fn a_listener_and_its_connections_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ports = BTreeSet::from([address.port()]);
        let holder = holder(address.ip(), address.port()).unwrap();
        assert!(holder.contains(&format!("process {}", std::process::id())), "{holder}");
        assert_eq!(super::holder([127, 0, 0, 9].into(), address.port()), None);
        assert_eq!(established(address.ip(), &ports), 0);
        let _client = TcpStream::connect(address).unwrap();
        assert_eq!(established(address.ip(), &ports), 1);
        drop(listener);
    }
}
