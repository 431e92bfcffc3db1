//! Settings: defaults, then the file, then the flags.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use windlass_proto::id::{FleetName, InvalidName};
use windlass_proto::metrics::MetricsAddress;
use windlass_proto::spec::dial::Allowed;

use crate::args::RunArgs;

/// What `run` needs, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The fleet's name.
    pub fleet: String,
    /// Where state, objects and certificates are kept.
    pub state_dir: PathBuf,
    /// Where agents connect.
    pub agent_listen: SocketAddr,
    /// Where operators connect.
    pub operator_listen: SocketAddr,
    /// Where a monitoring system reads metrics; nowhere by default.
    pub metrics_listen: Option<MetricsAddress>,
    /// Which URLs of specs may be dialled; none by default.
    pub dial_allow: Vec<Allowed>,
    /// The state was restored from a backup and is to lead all the same. A flag only: it is for one start.
    pub after_restore: bool,
}

/// Settings as the file writes them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fragment {
    fleet: Option<String>,
    state_dir: Option<PathBuf>,
    agent_listen: Option<SocketAddr>,
    operator_listen: Option<SocketAddr>,
    metrics_listen: Option<MetricsAddress>,
    #[serde(default)]
    dial_allow: Vec<Allowed>,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the settings file {} is not valid", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause, with line and key.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A setting without a default is absent.
    #[error("no {what}: give {flag} or set {key} in the settings file")]
    Absent {
        /// In words.
        what: &'static str,
        /// The flag.
        flag: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A fleet name that cannot stand in a certificate.
    #[error(transparent)]
    Fleet(#[from] InvalidName),
}

impl Settings {
    /// Merges the file and the flags.
    pub fn load(args: RunArgs) -> Result<Self, ConfigError> {
        let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let fleet = args.fleet.or(file.fleet);
        let fleet = fleet.ok_or(ConfigError::Absent { what: "fleet name", flag: "--fleet", key: "fleet" })?;
        FleetName::new(fleet.as_str())?;
        let state_dir = args.state_dir.or(file.state_dir);
        let state_dir = state_dir.ok_or(ConfigError::Absent {
            what: "state directory",
            flag: "--state-dir",
            key: "state_dir",
        })?;
        let agent_listen = args.agent_listen.or(file.agent_listen);
        let operator_listen = args.operator_listen.or(file.operator_listen);
        Ok(Self {
            fleet,
            state_dir,
            agent_listen: agent_listen.unwrap_or((Ipv4Addr::UNSPECIFIED, 7443).into()),
            operator_listen: operator_listen.unwrap_or((Ipv4Addr::LOCALHOST, 7444).into()),
            metrics_listen: args.metrics_listen.or(file.metrics_listen),
            dial_allow: if args.dial_allow.is_empty() { file.dial_allow } else { args.dial_allow },
            after_restore: args.after_restore,
        })
    }
}

fn read(path: &Path) -> Result<Fragment, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, args: RunArgs) -> Result<Settings, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coordinator.toml");
        std::fs::write(&path, text).unwrap();
        Settings::load(RunArgs { config: Some(path), ..args })
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = "fleet = 'shop'\nstate_dir = '/var/lib/w'\nagent_listen = '127.0.0.1:1'\n";
        let args = RunArgs { fleet: Some("dev".into()), ..RunArgs::default() };
        assert_eq!(with_file(file, args.clone()).unwrap().metrics_listen, None);
        let settings = with_file(&format!("{file}metrics_listen = 9464\n"), args).unwrap();
        assert_eq!(settings.metrics_listen.unwrap().to_string(), "127.0.0.1:9464");
        assert_eq!(settings.fleet, "dev");
        assert_eq!(settings.state_dir, Path::new("/var/lib/w"));
        assert_eq!(settings.agent_listen.to_string(), "127.0.0.1:1");
        assert_eq!(settings.operator_listen.to_string(), "127.0.0.1:7444");
    }

    #[test]
    fn unknown_keys_and_bad_names_are_errors() {
        let error = with_file("fleets = 'x'", RunArgs::default()).unwrap_err();
        assert!(matches!(error, ConfigError::Parse { .. }), "{error}");
        for fleet in ["", "A", "a/b", "-a"] {
            let args = RunArgs { fleet: Some(fleet.into()), ..RunArgs::default() };
            assert!(matches!(with_file("", args), Err(ConfigError::Fleet(_))), "{fleet}");
        }
        let error = with_file("fleet = 'x'", RunArgs::default()).unwrap_err();
        assert!(error.to_string().contains("--state-dir"), "{error}");
    }
}
