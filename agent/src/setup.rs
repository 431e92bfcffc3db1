//! The verb `enrol`: a fresh host becomes part of a fleet by one command. It writes the configuration, exchanges the join
//! token for a certificate while somebody watches, and has systemd start the agent, now and at each boot.
//!
//! It may be run again: what is done already stays as it is.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::config::{self, ConfigError, JoinTokenSource, Settings};
use crate::enrol::{self, EnrolError};
use crate::file::{self, FileError};
use crate::identity::{IdentityError, Vault};
use crate::layout::{CreateError, Layout};

/// Longest token that is read from the standard input.
const TOKEN_BYTES: u64 = 4096;

/// What the operator says of the host.
#[derive(Debug, Clone, clap::Args)]
pub struct EnrolArgs {
    /// A coordinator, as host:port; may be given again.
    #[arg(long, value_name = "HOST:PORT", required = true)]
    pub coordinator: Vec<String>,
    /// Public key of an author whose releases run here, from `windlass key list`; may be given again.
    #[arg(long, value_name = "ed25519:KEY", required = true)]
    pub author_key: Vec<String>,
    /// The host's name in the fleet [default: its host name up to the first dot].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The address that applications bind [default: the one from which the first coordinator is reached].
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// A label that the host announces, besides those of the token; may be given again.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Let releases run applications as root, and bring systemd units of their own.
    #[arg(long)]
    pub allow_root: bool,
    /// Write the configuration here.
    #[arg(long, value_name = "FILE", default_value = "/etc/windlass/agent.toml")]
    pub config: PathBuf,
    /// Do not have systemd start the agent.
    #[arg(long)]
    pub no_start: bool,
}

/// Why the host is not part of the fleet.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No token came.
    #[error(
        "no join token on the standard input; on a machine of an operator: windlass token create | ssh HOST windlass-agent enrol ..."
    )]
    NoToken,
    /// The standard input.
    #[error("cannot read the join token from the standard input")]
    Input(#[source] io::Error),
    /// The host's own name.
    #[error("cannot tell this host's name; give --name")]
    Name(#[source] sysinfo::Error),
    /// The host's own address.
    #[error("cannot tell from which address {coordinator} is reached; give --address")]
    Address {
        /// The coordinator.
        coordinator: String,
        /// Why.
        source: io::Error,
    },
    /// There is a configuration already, and it says otherwise.
    #[error("{} is in use already: it configures host {name}; edit it, or remove it to begin anew", path.display())]
    Configured {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        name: String,
    },
    /// What was written, or stood there, cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file.
    #[error("cannot set this host up")]
    File(#[from] FileError),
    /// The configuration does not encode.
    #[error("the configuration cannot be written")]
    Encode(#[from] toml::ser::Error),
    /// The state directory.
    #[error("cannot set this host up")]
    Create(#[from] CreateError),
    /// Paths cannot be made absolute.
    #[error("cannot use the state directory")]
    Paths(#[source] io::Error),
    /// Key or certificate on this host.
    #[error("cannot use the host's identity")]
    Identity(#[from] IdentityError),
    /// The coordinator.
    #[error("cannot enrol this host")]
    Enrol(#[from] EnrolError),
    /// No threads.
    #[error("cannot start the agent's threads")]
    Threads(#[source] io::Error),
    /// systemd.
    #[error("this host is enrolled, but `systemctl enable --now windlass-agent` failed: {0}")]
    Start(String),
}

/// `KEY=VALUE`.
fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What is written of a host; every other key has its default.
#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    address: IpAddr,
    coordinators: &'a [String],
    join_token_file: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    policy: Policy<'a>,
}

#[derive(Serialize)]
struct Policy<'a> {
    author_keys: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    allow_root: bool,
}

const HEAD: &str = "# Written by `windlass-agent enrol`. Every key with its default: /usr/share/doc/windlass-agent/agent.toml.\n";

/// Sets the host up. Blocks.
pub fn enrol(args: &EnrolArgs) -> Result<(), SetupError> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => short_name(&sysinfo::System::host_name().map_err(SetupError::Name)?),
    };
    let settings = match config::load(&args.config) {
        Ok(settings) if settings.name.as_str() == name => settings,
        Ok(settings) => {
            let (path, name) = (args.config.clone(), settings.name.to_string());
            return Err(SetupError::Configured { path, name });
        }
        // Not there, or as the package ships it: nothing in it is in force.
        Err(error) if is_unwritten(&args.config) => {
            tracing::debug!(%error, "not configured yet");
            write(args, &name)?
        }
        Err(error) => return Err(error.into()),
    };
    let layout = Layout::new(&settings.state_dir, &settings.run_dir).map_err(SetupError::Paths)?;
    layout.create()?;
    let vault = Vault::open(&layout.identity())?;
    if vault.certificate()?.is_none() {
        keep_token(&settings)?;
        join(&settings, &vault)?;
    }
    tracing::info!(host = %settings.name, address = %settings.address, "this host is enrolled");
    if args.no_start || !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    start()
}

fn short_name(host: &str) -> String {
    host.split('.').next().unwrap_or_default().to_ascii_lowercase()
}

/// Whether a configuration says nothing yet.
fn is_unwritten(path: &Path) -> bool {
    match std::fs::read_to_string(path) {
        Ok(text) => text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn write(args: &EnrolArgs, name: &str) -> Result<Settings, SetupError> {
    let address = match args.address {
        Some(address) => address,
        None => own_address(&args.coordinator[0])?,
    };
    let written = Written {
        name,
        address,
        coordinators: &args.coordinator,
        join_token_file: "join-token",
        labels: args.label.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        policy: Policy { author_keys: &args.author_key, allow_root: args.allow_root },
    };
    let text = format!("{HEAD}{}", toml::to_string(&written)?);
    // Checked before it replaces anything.
    let settings = config::parse(&text, &args.config)?;
    if let Some(dir) = args.config.parent() {
        file::make_dir(dir)?;
    }
    file::replace(&args.config, text.as_bytes(), 0o640)?;
    Ok(settings)
}

/// The address of this host that faces a coordinator. No packet is sent.
fn own_address(coordinator: &str) -> Result<IpAddr, SetupError> {
    let find = || -> io::Result<IpAddr> {
        let to = coordinator.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let from: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    find().map_err(|source| SetupError::Address { coordinator: coordinator.to_owned(), source })
}

/// Puts the token where the configuration looks for it. It comes by the standard input: command lines are for all to see.
fn keep_token(settings: &Settings) -> Result<(), SetupError> {
    let JoinTokenSource::File(path) = &settings.join_token else { return Ok(()) };
    let mut token = String::new();
    io::stdin().take(TOKEN_BYTES).read_to_string(&mut token).map_err(SetupError::Input)?;
    let token = token.trim();
    match token.is_empty() {
        // A former try may have left it.
        true if path.exists() => Ok(()),
        true => Err(SetupError::NoToken),
        false => Ok(file::replace(path, format!("{token}\n").as_bytes(), 0o600)?),
    }
}

fn join(settings: &Settings, vault: &Vault) -> Result<(), SetupError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SetupError::Threads)?;
    let mut result = Err(EnrolError::NoToken);
    for coordinator in &settings.coordinators {
        result = runtime.block_on(enrol::enrol(coordinator, settings, vault));
        match &result {
            Err(error) if error.is_transient() => tracing::warn!(coordinator, %error, "not reached"),
            _ => break,
        }
    }
    result?;
    if let JoinTokenSource::File(path) = &settings.join_token {
        // It is used up; the host is known by its key from now on.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file::at("remove", path)(error).into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn start() -> Result<(), SetupError> {
    let mut command = Command::new("systemctl");
    let output = command.args(["enable", "--now", "windlass-agent.service"]).output();
    let output = output.map_err(|error| SetupError::Start(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(SetupError::Start(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_unwritten_files_are_told() {
        assert_eq!(short_name("Web-1.example.org"), "web-1");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        assert!(is_unwritten(&path));
        std::fs::write(&path, "# name = \"x\"\n\n  # more\n").unwrap();
        assert!(is_unwritten(&path));
        std::fs::write(&path, "name = \"x\"\n").unwrap();
        assert!(!is_unwritten(&path));
        assert_eq!(own_address("127.0.0.1:7443").unwrap(), IpAddr::from([127, 0, 0, 1]));
    }
}
