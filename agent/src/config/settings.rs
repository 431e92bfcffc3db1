//! The configuration after all checks: what the rest of the agent works with.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use windlass_proto::id::{AppName, HostName};
use windlass_proto::metrics::MetricsAddress;

use super::ConfigError;
use super::fragment::Fragment;
use super::traffic;
use crate::file::{FileError, read_bounded};
use crate::retain::Retention;
use crate::traffic::Driver;

/// The checked configuration of one host's agent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The host's name in the fleet.
    pub name: HostName,
    /// The address that applications bind and probes dial.
    pub address: IpAddr,
    /// Where everything persistent lies; absolute.
    pub state_dir: PathBuf,
    /// Where `APP/current` lies; absolute.
    pub run_dir: PathBuf,
    /// `host:port` of coordinators, at least one.
    pub coordinators: Vec<String>,
    /// Where the token for the first contact comes from.
    pub join_token: JoinTokenSource,
    /// Where a monitoring system reads metrics.
    pub metrics_listen: Option<MetricsAddress>,
    /// Labels that the host announces at enrolment.
    pub labels: BTreeMap<String, String>,
    /// What this host allows.
    pub policy: HostPolicy,
    /// How applications get traffic.
    pub traffic: Driver,
    /// Which releases stay.
    pub retention: Retention,
}

/// Where the join token comes from. It is read when it is needed, so the file may be gone after enrolment.
#[derive(Clone, PartialEq, Eq)]
pub enum JoinTokenSource {
    /// There is none: the host must be enrolled already.
    Absent,
    /// It stands in the configuration.
    Text(String),
    /// It is the content of a file.
    File(PathBuf),
}

impl std::fmt::Debug for JoinTokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Text(_) => f.write_str("Text(secret)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl JoinTokenSource {
    /// The token's text; `None` where none is configured.
    pub fn read(&self) -> Result<Option<String>, FileError> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(text.trim().to_owned())),
            Self::File(path) => {
                let content = read_bounded(path, 4096)?;
                Ok(Some(String::from_utf8_lossy(&content).trim().to_owned()))
            }
        }
    }
}

/// What this host allows, whoever asks; from a file that only root writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPolicy {
    /// `ed25519:...` keys of the authors this host trusts.
    pub author_keys: Vec<String>,
    /// How many different ones must have signed a release.
    pub threshold: usize,
    /// Applications that may be installed, with `*` for any text.
    pub apps: Vec<String>,
    /// Whether applications may run as root.
    pub allow_root: bool,
    /// Users that applications may run as; empty allows every user but root.
    pub users: Vec<String>,
}

impl HostPolicy {
    /// Whether an application of this name may be installed here.
    pub fn allows_app(&self, app: &AppName) -> bool {
        self.apps.iter().any(|pattern| matches(pattern, app.as_str()))
    }
}

/// Whether `text` fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
    }
    last.map_or(rest.is_empty(), |part| rest.ends_with(part))
}

impl Settings {
    /// Checks a file's content. `file` is named in errors; relative paths are relative to its directory.
    pub fn check(fragment: Fragment, file: &Path) -> Result<Self, ConfigError> {
        let wrong = |key: &'static str, problem: String, hint: &'static str| ConfigError::Value {
            file: file.to_owned(),
            key,
            problem,
            hint,
        };
        let base =
            std::path::absolute(file).ok().and_then(|f| f.parent().map(Path::to_owned)).unwrap_or_default();
        let name = HostName::new(&fragment.name).map_err(|e| {
            wrong("name", e.to_string(), "give the host a short name, as in name = \"web-1\"")
        })?;
        let address = fragment.address.parse::<IpAddr>().map_err(|_| {
            wrong(
                "address",
                format!("{:?} is not an IP address", fragment.address),
                "write the address that applications bind, as in address = \"10.0.0.7\"",
            )
        })?;
        if fragment.coordinators.is_empty() {
            return Err(wrong(
                "coordinators",
                "it is missing or empty".into(),
                "name at least one coordinator, as in coordinators = [\"coordinator.example:7443\"]",
            ));
        }
        for coordinator in &fragment.coordinators {
            if !is_endpoint(coordinator) {
                return Err(wrong(
                    "coordinators",
                    format!("{coordinator:?} is not host:port"),
                    "write host and port without a scheme, as in \"coordinator.example:7443\" or \"[::1]:7443\"",
                ));
            }
        }
        let join_token = match (fragment.join_token, fragment.join_token_file) {
            (Some(_), Some(_)) => {
                return Err(wrong(
                    "join_token",
                    "join_token_file is set as well".into(),
                    "keep one of join_token and join_token_file",
                ));
            }
            (Some(text), None) => JoinTokenSource::Text(text),
            (None, Some(path)) => JoinTokenSource::File(base.join(path)),
            (None, None) => JoinTokenSource::Absent,
        };
        let policy = fragment.policy;
        if policy.author_keys.is_empty() {
            return Err(wrong(
                "policy.author_keys",
                "it is missing or empty, so no release could be trusted".into(),
                "list the public keys that `windlass key list` prints",
            ));
        }
        if policy.threshold == 0 || policy.threshold as usize > policy.author_keys.len() {
            return Err(wrong(
                "policy.threshold",
                format!("{} of {} author keys cannot sign", policy.threshold, policy.author_keys.len()),
                "use a number from 1 to the number of policy.author_keys",
            ));
        }
        for key in &policy.author_keys {
            if !key.starts_with("ed25519:") {
                return Err(wrong(
                    "policy.author_keys",
                    format!("{key:?} is not a public author key"),
                    "copy the line that `windlass key list` prints: ed25519: and 44 characters",
                ));
            }
        }
        let traffic =
            traffic::check(fragment.traffic).map_err(|(key, problem, hint)| wrong(key, problem, hint))?;
        let usual = Retention::default();
        Ok(Self {
            name,
            address,
            state_dir: base.join(fragment.state_dir),
            run_dir: base.join(fragment.run_dir),
            coordinators: fragment.coordinators,
            join_token,
            metrics_listen: fragment.metrics_listen,
            labels: fragment.labels,
            policy: HostPolicy {
                author_keys: policy.author_keys,
                threshold: policy.threshold as usize,
                apps: policy.apps,
                allow_root: policy.allow_root,
                users: policy.users,
            },
            traffic,
            retention: Retention {
                keep: fragment.retention.keep.unwrap_or(usual.keep),
                max_bytes: fragment.retention.max_bytes.map(|size| size.0),
                ..usual
            },
        })
    }
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && !host.contains([':', '/', '[', ']', ' ']);
    (bracketed || plain) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port() {
        for good in ["127.0.0.1:7443", "c.example:1", "[::1]:7443"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in ["", "c", ":1", "c:", "c:0", "c:x", "http://c:1", "::1:7443", "c:70000"] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }

    #[test]
    fn patterns_have_stars() {
        for (pattern, text, fits) in [
            ("*", "a", true),
            ("shop-*", "shop-api", true),
            ("shop-*", "xshop-api", false),
            ("shop", "shop", true),
            ("shop", "shop-api", false),
            ("*-api", "shop-api", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let source = JoinTokenSource::Text("wl1.secret".into());
        assert!(!format!("{source:?}").contains("wl1"));
    }
}
