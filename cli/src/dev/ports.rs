//! Ports that are still free when a program of the fleet is started again.

use std::net::TcpListener;
use std::ops::RangeInclusive;

/// Those that are asked for at all.
const PORTS: RangeInclusive<u16> = 10_000..=65_000;
/// How many are tried.
const TRIES: usize = 1000;
/// Where Linux says which ports it gives to whoever asks for any, and to outgoing connections.
const GIVEN_AWAY: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// A port of this IP address that nobody has, as `IP:PORT`. It is none that the kernel gives to another program while the fleet
/// is down, where there are others.
pub(super) fn free_address(ip: &str) -> Option<String> {
    let text = std::fs::read_to_string(GIVEN_AWAY).unwrap_or_default();
    let ports = lasting(&text);
    (0..TRIES).find_map(|_| {
        let port = ports[rand::random_range(0..ports.len())];
        is_free(&format!("{ip}:{port}")).then(|| format!("{ip}:{port}"))
    })
}

/// Whether this address can be listened at.
pub(super) fn is_free(address: &str) -> bool {
    TcpListener::bind(address).is_ok()
}

/// All but those that are given away, unless that is all of them.
fn lasting(given_away: &str) -> Vec<u16> {
    let mut bounds = given_away.split_whitespace().map_while(|word| word.parse::<u16>().ok());
    let given_away = match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) => first..=last,
        // What Linux does unless told otherwise.
        _ => 32_768..=60_999,
    };
    let lasting: Vec<u16> = PORTS.filter(|port| !given_away.contains(port)).collect();
    if lasting.is_empty() { PORTS.collect() } else { lasting }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_gives_away_is_left_to_it() {
        let ends = |text: &str| {
            let ports = lasting(text);
            (ports[0], ports[ports.len() - 1], ports.len())
        };
        assert_eq!(ends("32768\t60999\n"), (10_000, 65_000, 22_768 + 4001));
        assert_eq!(ends(""), ends("32768 60999"));
        assert_eq!(ends("20000 65535"), (10_000, 19_999, 10_000));
        assert_eq!(ends("1024 65535"), (10_000, 65_000, 55_001));
    }

    #[test]
    fn a_free_address_can_be_listened_at_and_is_then_taken() {
        let address = free_address("127.0.0.1").unwrap();
        let listener = TcpListener::bind(&address).unwrap();
        assert!(!is_free(&address));
        drop(listener);
        assert!(is_free(&address));
        assert_eq!(free_address("203.0.113.1"), None);
    }
}
