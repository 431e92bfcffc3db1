//! Whose fault a silence is: the host's network before the switch, compared with the network in the trial.
//!
//! One host alone cannot tell a dead coordinator from a broken way to it. But it can tell that its own network is not what
//! it was when the coordinator was last heard, and then the release that was started in between is the likely cause.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use windlass_proto::phase::Fault;

/// What a host sees of its own network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// A lease was fresh when this was seen.
    pub contact: bool,
    /// Interfaces that somebody has set up, the loopback aside; a cable may be out all the same.
    pub up: BTreeSet<String>,
    /// Interfaces with a default route.
    pub default_routes: BTreeSet<String>,
    /// Addresses of coordinators to which there is a route.
    #[serde(default)]
    pub routed: BTreeSet<String>,
    /// Those to which this host itself lets no packet out: a firewall of its own.
    #[serde(default)]
    pub blocked: BTreeSet<String>,
}

/// Whose fault it is that no confirm came, and what speaks for it, as the end of a sentence; empty when nothing does.
pub(crate) fn blame(before: Option<&Network>, during: Option<&Network>) -> (Fault, String) {
    let (Some(before), Some(during)) = (before.filter(|seen| seen.contact), during) else {
        return (Fault::Transport, String::new());
    };
    if during.contact {
        // It was heard all the time and did not confirm.
        return (Fault::Transport, "although the coordinator was heard".to_owned());
    }
    let gone = |all: &BTreeSet<String>, left: &BTreeSet<String>, says: fn(&str) -> String| {
        let gone: Vec<String> = all.difference(left).cloned().collect();
        (!gone.is_empty()).then(|| says(&gone.join(", ")))
    };
    // Interfaces of containers and virtual networks come and go all the time. One that mattered had the default route; one that
    // had only the way to a coordinator takes that with it.
    let mattered = before.up.intersection(&before.default_routes).cloned().collect();
    let change = gone(&mattered, &during.up, |it| format!("{it} went down"))
        .or_else(|| {
            let says = |it: &str| format!("the default route over {it} is gone");
            gone(&before.default_routes, &during.default_routes, says)
        })
        .or_else(|| gone(&before.routed, &during.routed, |it| format!("there is no route to {it} any more")))
        .or_else(|| {
            let says = |it: &str| format!("this host's own firewall lets nothing out to {it} any more");
            gone(&during.blocked, &before.blocked, says)
        });
    match change {
        Some(what) => (Fault::App, format!("the release probably broke this host's network: {what}")),
        None => (Fault::Transport, "this host's interfaces and routes are as before the switch".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(contact: bool, up: &[&str], routes: &[&str]) -> Network {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Network { contact, up: set(up), default_routes: set(routes), ..Network::default() }
    }

    #[test]
    fn what_changed_with_the_switch_is_the_releases_fault() {
        let well = seen(true, &["eth0", "eth1"], &["eth0"]);
        let routed = |contact, to: &[&str]| {
            let routed = to.iter().map(|name| (*name).to_owned()).collect();
            Network { routed, ..seen(contact, &["eth0"], &["eth0"]) }
        };
        let blocked = |network| Network { blocked: ["10.0.0.1".to_owned()].into(), ..network };
        let known = routed(true, &["10.0.0.1", "10.0.0.2"]);
        for (before, during, fault, text) in [
            (None, None, Fault::Transport, ""),
            (Some(&well), None, Fault::Transport, ""),
            (Some(&seen(false, &["eth0"], &["eth0"])), Some(seen(false, &[], &[])), Fault::Transport, ""),
            (Some(&well), Some(seen(true, &["eth0"], &[])), Fault::Transport, "was heard"),
            (Some(&well), Some(seen(false, &["eth0", "eth1"], &["eth0"])), Fault::Transport, "as before"),
            (Some(&known), Some(routed(false, &["10.0.0.1"])), Fault::App, "no route to 10.0.0.2"),
            (Some(&known), Some(routed(false, &["10.0.0.1", "10.0.0.2"])), Fault::Transport, "as before"),
            (
                Some(&well),
                Some(blocked(seen(false, &["eth0", "eth1"], &["eth0"]))),
                Fault::App,
                "nothing out to 10.0.0.1",
            ),
            (
                Some(&blocked(well.clone())),
                Some(blocked(seen(false, &["eth0", "eth1"], &["eth0"]))),
                Fault::Transport,
                "as before",
            ),
            (Some(&well), Some(seen(false, &["eth1"], &[])), Fault::App, "eth0 went down"),
            (Some(&well), Some(seen(false, &["eth0"], &["eth0"])), Fault::Transport, "as before"),
            (Some(&well), Some(seen(false, &["eth0", "eth1"], &[])), Fault::App, "route over eth0 is gone"),
            (
                Some(&well),
                Some(seen(false, &["eth0", "eth1", "br0"], &["eth0"])),
                Fault::Transport,
                "as before",
            ),
        ] {
            let (found, words) = blame(before, during.as_ref());
            assert_eq!(found, fault, "{before:?} {during:?}");
            assert!(words.contains(text), "{words}");
        }
    }
}
