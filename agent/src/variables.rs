//! What the variables of a spec stand for on this host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use windlass_proto::id::HostName;
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::variables::{InvalidVariable, Piece, Variable, parse};

/// Everything that a variable can stand for.
#[derive(Debug, Clone)]
pub struct Values {
    /// `{host.name}`
    pub host: HostName,
    /// `{host.address}`
    pub address: IpAddr,
    /// `{host.label.X}`
    pub labels: BTreeMap<String, String>,
    /// `{port.X}`
    pub ports: BTreeMap<String, u16>,
    /// `{release.version}` and `{release.digest}`
    pub release: ReleaseRef,
    /// `{release.dir}`
    pub dir: PathBuf,
    /// `{data.dir}`
    pub data: PathBuf,
}

/// A text whose variables cannot be replaced on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The braces are wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidVariable),
    /// The host has no such label.
    #[error(
        "host {host} has no label {key:?}, which {{host.label.{key}}} needs; set it in agent.toml under [labels]"
    )]
    NoLabel {
        /// This host.
        host: HostName,
        /// The label's key.
        key: String,
    },
    /// The release has no such port.
    #[error("the release has no port {0:?}, which {{port.{0}}} needs; name it under release.ports")]
    NoPort(String),
}

impl Values {
    /// The text with each variable replaced.
    pub fn expand(&self, text: &str) -> Result<String, ExpandError> {
        parse(text)?.into_iter().try_fold(String::new(), |mut out, piece| {
            match piece {
                Piece::Text(text) => out.push_str(&text),
                Piece::Variable(variable) => out.push_str(&self.value(&variable)?),
            }
            Ok(out)
        })
    }

    fn value(&self, variable: &Variable) -> Result<String, ExpandError> {
        Ok(match variable {
            Variable::HostName => self.host.to_string(),
            Variable::HostAddress => self.address.to_string(),
            Variable::HostLabel(key) => self
                .labels
                .get(key)
                .cloned()
                .ok_or_else(|| ExpandError::NoLabel { host: self.host.clone(), key: key.clone() })?,
            Variable::Port(name) => {
                self.ports.get(name).ok_or_else(|| ExpandError::NoPort(name.clone()))?.to_string()
            }
            Variable::ReleaseVersion => self.release.version.to_string(),
            Variable::ReleaseDigest => self.release.digest.to_string(),
            Variable::ReleaseDir => self.dir.to_string_lossy().into_owned(),
            Variable::DataDir => self.data.to_string_lossy().into_owned(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use windlass_proto::digest::Digest;

    use super::*;

    pub(crate) fn values() -> Values {
        Values {
            host: HostName::new("host-1").unwrap(),
            address: [127, 0, 0, 1].into(),
            labels: [("rack".to_owned(), "r1".to_owned())].into(),
            ports: [("http".to_owned(), 8080)].into(),
            release: ReleaseRef {
                app: "shop".parse().unwrap(),
                version: "1.2".parse().unwrap(),
                digest: Digest::from_bytes([7; 32]),
                counter: 1,
            },
            dir: "/rel/tree".into(),
            data: "/data".into(),
        }
    }

    #[test]
    fn every_variable_has_its_value() {
        let digest = Digest::from_bytes([7; 32]);
        for (text, expected) in [
            ("{host.name}", "host-1"),
            ("{host.address}:{port.http}", "127.0.0.1:8080"),
            ("{host.label.rack}", "r1"),
            ("v{release.version}", "v1.2"),
            ("{release.digest}", &digest.to_string()),
            ("{release.dir}/x", "/rel/tree/x"),
            ("{data.dir}/x", "/data/x"),
            ("{{}}", "{}"),
        ] {
            assert_eq!(values().expand(text).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn missing_ones_are_named() {
        for (text, says) in [
            ("{host.label.zone}", "no label \"zone\""),
            ("{port.grpc}", "no port \"grpc\""),
            ("{release.name}", "unknown variable {release.name}"),
        ] {
            assert!(values().expand(text).unwrap_err().to_string().contains(says));
        }
    }
}
