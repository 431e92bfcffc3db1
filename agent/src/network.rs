//! What the host sees of its own network, by /proc/net and /sys/class/net: quick enough to be read between two events.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use windlass_release::Network;

/// Looks now; `contact` is whether a lease is fresh, `coordinators` are those that may be asked for one.
pub fn look(contact: bool, coordinators: &[SocketAddr]) -> Network {
    let route = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let route6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let default_routes = default_routes(&route, &route6);
    let mut seen = Network { contact, up: up(), default_routes, ..Network::default() };
    for to in coordinators {
        let way = way(*to);
        if way != Way::None {
            seen.routed.insert(to.ip().to_string());
        }
        if way == Way::Blocked {
            seen.blocked.insert(to.ip().to_string());
        }
    }
    seen
}

/// What the kernel does with a packet to somewhere.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// It knows no route.
    None,
    /// It sends it.
    Routed,
    /// It drops it by a rule of its own firewall.
    Blocked,
}

/// Asks the kernel by an empty datagram, which nobody waits for: what the firewall drops on its way out fails at once with
/// EPERM (netfilter's NF_DROP), where a TCP connection would only be silent.
fn way(to: SocketAddr) -> Way {
    let from: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((from, 0)).and_then(|socket| socket.connect(to).map(|()| socket));
    let Ok(socket) = socket else { return Way::None };
    match socket.send(&[]) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Way::Blocked,
        _ => Way::Routed,
    }
}

/// Where the coordinators are, as far as their names can be resolved now. Takes at most so long.
pub async fn addresses(coordinators: &[String], within: Duration) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    let resolving = async {
        for name in coordinators {
            // A name that does not resolve is of no use for comparing.
            found.extend(tokio::net::lookup_host(name).await.into_iter().flatten());
        }
    };
    let _in_time = tokio::time::timeout(within, resolving).await;
    found
}

/// Interfaces whose flags have `IFF_UP`. Whether there is a carrier is a matter of cables and switches, which no release
/// pulls.
fn up() -> BTreeSet<String> {
    let all = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let is_up = |dir: &std::path::Path| {
        let flags = fs::read_to_string(dir.join("flags")).unwrap_or_default();
        u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0) & 1 != 0
    };
    all.filter(|entry| is_up(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != "lo")
        .collect()
}

fn default_routes(route: &str, route6: &str) -> BTreeSet<String> {
    const RTF_UP: u32 = 1;
    const RTF_REJECT: u32 = 0x200;
    let four = route.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        let is_default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        (is_default && flags & RTF_UP != 0 && flags & RTF_REJECT == 0).then(|| fields[0].to_owned())
    });
    let six = route6.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(8)?, 16).ok()?;
        let is_default = fields.get(1) == Some(&"00") && fields[0].bytes().all(|b| b == b'0');
        let name = *fields.get(9)?;
        (is_default && flags & RTF_UP != 0 && flags & RTF_REJECT == 0 && name != "lo")
            .then(|| name.to_owned())
    });
    four.chain(six).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_routed_is_told_without_asking_there() {
        let found =
            addresses(&["127.0.0.1:7443".into(), "no-such-host.invalid:1".into()], Duration::from_secs(5))
                .await;
        assert_eq!(found, ["127.0.0.1:7443".parse().unwrap()]);
        assert!(look(true, &found).routed.contains("127.0.0.1"));
        // 240.0.0.0/4 is reserved; the limited broadcast address is for nobody without asking for it.
        assert_eq!(way("255.255.255.255:1".parse().unwrap()), Way::None);
    }

    #[test]
    fn default_routes_are_told_from_others() {
        let route = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth1\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let zero = "0".repeat(32);
        let route6 = format!(
            "{zero} 00 {zero} 00 fe80{} 00000400 00000001 00000000 00000003 eth2\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n",
            "0".repeat(28)
        );
        let found: Vec<String> = default_routes(route, &route6).into_iter().collect();
        assert_eq!(found, ["eth0", "eth2"]);
        assert_eq!(default_routes("", ""), BTreeSet::new());
    }
}
