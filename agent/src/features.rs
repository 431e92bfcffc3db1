//! What this host can do: said in the greeting, for plans, and looked at again when an order comes.

use std::collections::BTreeSet;
use std::path::Path;

use nix::unistd::Uid;
use windlass_proto::feature::Feature;
use windlass_proto::phase::Fault;
use windlass_proto::version;

use crate::runtime::systemd;

/// The bus by which systemd is spoken to, unless the environment names another.
const BUS: &str = "/run/dbus/system_bus_socket";

/// All that this host can do now.
pub fn here() -> BTreeSet<&'static str> {
    let here = |feature: &Feature| match feature {
        Feature::RuntimeProcess | Feature::RuntimeStatic => true,
        Feature::RuntimeSystemd => no_systemd().is_none(),
    };
    Feature::ALL.iter().filter(|feature| here(feature)).map(|feature| feature.word()).collect()
}

/// Why apps cannot be units here, if they cannot.
pub fn no_systemd() -> Option<&'static str> {
    if !systemd::is_here() {
        Some("systemd is not its init")
    } else if !Uid::effective().is_root() {
        Some("the agent is not root")
    } else if std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_none() && !Path::new(BUS).exists() {
        Some("it has no D-Bus; install dbus")
    } else {
        None
    }
}

/// Whose fault it is, and why, that an order with these needs cannot be done; `None` where it can.
pub fn lacking(needs: &[String], here: &BTreeSet<&str>) -> Option<(Fault, String)> {
    let word = needs.iter().find(|word| !here.contains(word.as_str()))?;
    if word == Feature::RuntimeSystemd.word() {
        let why = no_systemd().unwrap_or("systemd is not its init");
        return Some((Fault::Host, format!("no release.runtime.kind: systemd on this host: {why}")));
    }
    let word: String = word.chars().take(64).collect();
    let reason =
        format!("agent {} has no {word:?}, which the release needs; install a newer one", version::PROGRAM);
    Some((Fault::Agent, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named_and_blamed() {
        let here: BTreeSet<&str> = ["runtime.process"].into();
        let lacking = |need: &str| lacking(&["runtime.process".to_owned(), need.to_owned()], &here);
        assert_eq!(lacking("runtime.process"), None);
        let (fault, reason) = lacking("slots").unwrap();
        assert_eq!(fault, Fault::Agent);
        assert!(reason.contains("\"slots\"") && reason.contains("install a newer one"), "{reason}");
        let (fault, reason) = lacking("runtime.systemd").unwrap();
        assert_eq!(fault, Fault::Host);
        assert!(reason.starts_with("no release.runtime.kind: systemd on this host: "), "{reason}");
    }

    #[test]
    fn processes_and_static_releases_are_for_every_host() {
        let here = here();
        assert!(here.contains("runtime.process") && here.contains("runtime.static"));
        assert_eq!(here.contains("runtime.systemd"), no_systemd().is_none());
    }
}
