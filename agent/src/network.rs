//! What the host sees of its own network, by /proc/net and /sys/class/net: quick enough to be read between two events.

use std::collections::BTreeSet;
use std::fs;

use windlass_release::Network;

/// Looks now; `contact` is whether a lease is fresh.
pub fn look(contact: bool) -> Network {
    let route = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let route6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    Network { contact, up: up(), default_routes: default_routes(&route, &route6) }
}

/// Interfaces whose flags have `IFF_UP` and that have a carrier, where they can tell.
fn up() -> BTreeSet<String> {
    let all = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let is_up = |dir: &std::path::Path| {
        let read = |file| fs::read_to_string(dir.join(file)).unwrap_or_default();
        let flags = u32::from_str_radix(read("flags").trim().trim_start_matches("0x"), 16).unwrap_or(0);
        flags & 1 != 0 && read("operstate").trim() != "down"
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
