//! TCP sockets of this host, asked of the kernel by sock_diag(7): who holds a port, which connections are open on it.
//!
//! A netlink request per port and family, which the kernel filters; /proc/net/tcp would give out all sockets of the host
//! as text. The kernel answers within the call, so nothing here waits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::Socket as Netlink;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

/// One answer of the kernel is at most this long, whatever the host has open.
const ANSWER_BYTES: usize = 32 * 1024;

/// The kernel's number of a socket, never given twice in one boot.
pub type Cookie = [u8; 8];

/// A socket as the kernel tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    cookie: Cookie,
    /// Its own end; an IPv4 address where it is an IPv4 connection of an IPv6 socket.
    local: SocketAddr,
    peer: SocketAddr,
    inode: u64,
}

/// Which sockets are asked for: those whose own port it is, or those whose peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Local(u16),
    Peer(u16),
}

/// A listening socket, through which connections come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// What it is bound to; unspecified for all addresses.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// What /proc/PID/fd shows of it.
    pub inode: u64,
}

/// All TCP sockets in these states with this port.
fn ask(port: Port, states: &StateFlags) -> io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        match ask_family(family, port, states, &mut found) {
            // A kernel without IPv6 has no IPv6 sockets.
            Err(error) if family == AF_INET6 && error.kind() == io::ErrorKind::NotFound => {}
            asked => asked?,
        }
    }
    Ok(found)
}

fn ask_family(family: u8, port: Port, states: &StateFlags, found: &mut Vec<Socket>) -> io::Result<()> {
    let mut netlink = Netlink::new(NETLINK_SOCK_DIAG)?;
    netlink.bind_auto()?;
    // An answer that is not there is an error and no reason to wait.
    netlink.set_non_blocking(true)?;
    let mut socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    match port {
        Port::Local(port) => socket_id.source_port = port,
        Port::Peer(port) => socket_id.destination_port = port,
    }
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: states.clone(),
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    netlink.send(&bytes, 0)?;
    let mut buffer = vec![0; ANSWER_BYTES];
    loop {
        let length = netlink.recv(&mut &mut buffer[..], 0)?;
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            let answer = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(malformed)?;
            match answer.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                    let id = &socket.header.socket_id;
                    let local = SocketAddr::new(id.source_address.to_canonical(), id.source_port);
                    let peer = SocketAddr::new(id.destination_address.to_canonical(), id.destination_port);
                    // The kernel is asked for this port only; an old one may not listen.
                    if port == Port::Local(local.port()) || port == Port::Peer(peer.port()) {
                        let inode = socket.header.inode.into();
                        found.push(Socket { cookie: id.cookie, local, peer, inode });
                    }
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            let next = (answer.header.length as usize).next_multiple_of(4);
            rest = rest.get(next..).unwrap_or_default();
        }
    }
}

/// Whether a socket bound to `bound` takes what comes to `address`.
fn covers(bound: IpAddr, address: IpAddr) -> bool {
    bound.is_unspecified() || bound == address
}

/// The listening sockets that take what comes to these ports of this address.
pub fn doors(address: IpAddr, ports: &BTreeSet<u16>) -> io::Result<Vec<Door>> {
    let mut doors = Vec::new();
    for port in ports {
        let sockets = ask(Port::Local(*port), &StateFlags::LISTEN)?.into_iter();
        let ours = sockets.filter(|socket| covers(socket.local.ip(), address));
        doors.extend(ours.map(|Socket { local, inode, .. }| Door {
            address: local.ip(),
            port: *port,
            inode,
        }));
    }
    Ok(doors)
}

/// The open connections that came in through these doors, and who has the other end; those that wait to be accepted among
/// them. One that its peer has closed is not: hardly any client closes one direction only, and one that has given up holds
/// up nothing.
pub fn connections(doors: &[Door]) -> io::Result<BTreeMap<Cookie, SocketAddr>> {
    let mut found = BTreeMap::new();
    for port in ports(doors) {
        let through = |address| doors.iter().any(|door| door.port == port && covers(door.address, address));
        let sockets = ask(Port::Local(port), &StateFlags::ESTABLISHED)?.into_iter();
        let ours = sockets.filter(|socket| through(socket.local.ip()));
        found.extend(ours.map(|socket| (socket.cookie, socket.peer)));
    }
    Ok(found)
}

/// The ends of this process's own connections to the ports of these doors.
pub fn own_ends(doors: &[Door]) -> io::Result<BTreeSet<SocketAddr>> {
    let own = inodes_of(std::process::id());
    let mut found = BTreeSet::new();
    for port in ports(doors) {
        let sockets = ask(Port::Peer(port), &StateFlags::ESTABLISHED)?.into_iter();
        found.extend(sockets.filter(|socket| own.contains(&socket.inode)).map(|socket| socket.local));
    }
    Ok(found)
}

fn ports(doors: &[Door]) -> BTreeSet<u16> {
    doors.iter().map(|door| door.port).collect()
}

/// Whether the kernel lets this process see what that one has open. Of another user's processes only root sees it, and
/// not in every container.
pub fn may_see(pid: u32) -> bool {
    // The links there are under the same lock, ptrace(2)'s, as those of its descriptors.
    let exe = fs::read_link(format!("/proc/{pid}/exe"));
    !matches!(exe, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
}

/// The sockets that a process has open, by inode; none when it is not ours to see.
pub fn inodes_of(pid: u32) -> BTreeSet<u64> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |link: std::path::PathBuf| {
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
    };
    fds.filter_map(|fd| fs::read_link(fd.path()).ok()).filter_map(inode).collect()
}

/// Who listens on a port of this address, in words; `None` when it is free.
pub fn holder(address: IpAddr, port: u16) -> Option<String> {
    // Where the kernel does not tell, the application finds out when it binds.
    let doors = doors(address, &BTreeSet::from([port])).ok()?;
    if doors.is_empty() {
        return None;
    }
    let holds = |pid: u32| {
        let inodes = inodes_of(pid);
        doors.iter().any(|door| inodes.contains(&door.inode))
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

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    fn open_on(address: IpAddr, port: u16) -> usize {
        connections(&doors(address, &BTreeSet::from([port])).unwrap()).unwrap().len()
    }

    #[test]
    fn a_listener_and_its_connections_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let holder = holder(address.ip(), address.port()).unwrap();
        assert!(holder.contains(&format!("process {}", std::process::id())), "{holder}");
        assert_eq!(super::holder([127, 0, 0, 9].into(), address.port()), None);
        assert!(may_see(std::process::id()));
        let doors = doors(address.ip(), &BTreeSet::from([address.port()])).unwrap();
        assert!(inodes_of(std::process::id()).contains(&doors[0].inode));
        assert_eq!(connections(&doors).unwrap().len(), 0);
        let client = TcpStream::connect(address).unwrap();
        let gone = TcpStream::connect(address).unwrap();
        gone.shutdown(Shutdown::Both).unwrap();
        let waiting = connections(&doors).unwrap();
        assert_eq!(waiting.len(), 1, "not accepted yet, and in flight all the same");
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(connections(&doors).unwrap(), waiting, "the same connection");
        drop(listener);
        assert_eq!(connections(&doors).unwrap(), waiting, "the door is shut, who is in stays in");
        drop((accepted, client));
        assert_eq!(connections(&doors).unwrap().len(), 0);
    }

    #[test]
    fn connections_of_many_sockets_and_families_are_each_counted_once() {
        let Ok(listener) = TcpListener::bind("[::]:0") else { return };
        let port = listener.local_addr().unwrap().port();
        let four: Vec<_> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        let six: Vec<_> = (0..5).filter_map(|_| TcpStream::connect(("::1", port)).ok()).collect();
        let accepted: Vec<_> = (0..four.len() + six.len()).map(|_| listener.accept().unwrap()).collect();
        assert_eq!(open_on([127, 0, 0, 1].into(), port), accepted.len(), "IPv4 on an IPv6 socket is IPv4");
        // Another listener on the same port of another address is another door.
        assert_eq!(connections(&[Door { address: [127, 0, 0, 9].into(), port, inode: 0 }]).unwrap().len(), 0);
    }

    #[test]
    fn clients_ports_are_no_doors() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let local = client.local_addr().unwrap();
        assert_eq!(open_on(local.ip(), local.port()), 0);
        let to = listener.local_addr().unwrap();
        let doors = doors(to.ip(), &BTreeSet::from([to.port()])).unwrap();
        assert_eq!(own_ends(&doors).unwrap(), BTreeSet::from([local]));
        assert_eq!(connections(&doors).unwrap().into_values().collect::<Vec<_>>(), [local]);
    }
}
