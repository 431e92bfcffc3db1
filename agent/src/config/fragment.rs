//! The configuration file as it is written: every key, nothing checked but its type.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use windlass_proto::metrics::MetricsAddress;
use windlass_proto::spec::ByteSize;

/// agent.toml. A key it does not know is an error, so that a misspelt one is not silently without effect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// The host's name in the fleet.
    pub name: String,
    /// The address that applications bind and probes dial.
    pub address: String,
    /// Where everything persistent lies.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// Where `APP/current` lies; on a real host a tmpfs, so that a reboot forgets it.
    #[serde(default = "run_dir")]
    pub run_dir: PathBuf,
    /// Addresses of coordinators, tried in turn.
    #[serde(default)]
    pub coordinators: Vec<String>,
    /// Token for the first contact.
    pub join_token: Option<String>,
    /// File that holds the token instead.
    pub join_token_file: Option<PathBuf>,
    /// Where a monitoring system reads metrics; nowhere when absent.
    pub metrics_listen: Option<MetricsAddress>,
    /// Labels that the host announces at enrolment.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What this host allows, whoever asks.
    #[serde(default)]
    pub policy: PolicyFragment,
    /// How applications get traffic, besides the file `RUN_DIR/APP/ready`.
    #[serde(default)]
    pub traffic: TrafficFragment,
    /// Which releases of an application stay on the host.
    #[serde(default)]
    pub retention: RetentionFragment,
}

/// `[retention]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionFragment {
    /// So many releases of each application that were confirmed last, besides the running one and the way back; 3 when absent.
    pub keep: Option<usize>,
    /// As long as an application's releases take no more than this; no bound when absent.
    pub max_bytes: Option<ByteSize>,
}

/// `[traffic]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrafficFragment {
    /// `none`, or `exec`: commands of this host.
    pub driver: Option<String>,
    /// With `exec`: takes an application out of traffic; program and arguments.
    pub take_out: Vec<String>,
    /// With `exec`: puts it back.
    pub put_back: Vec<String>,
    /// With `exec`: says where it is; exit code 0 in traffic, 1 out of traffic, any other not known.
    pub is_in: Vec<String>,
    /// With `exec`: longest that a command and the wait for its effect may take, up to 60s; 30s when absent.
    pub timeout: Option<String>,
}

/// `[policy]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyFragment {
    /// Public keys of the authors this host trusts.
    pub author_keys: Vec<String>,
    /// How many of them must have signed.
    pub threshold: u32,
    /// Applications that may be installed; `*` stands for any text.
    pub apps: Vec<String>,
    /// Whether applications may run as root.
    pub allow_root: bool,
    /// Users that applications may run as; empty allows every user but root.
    pub users: Vec<String>,
}

impl Default for PolicyFragment {
    fn default() -> Self {
        Self { author_keys: vec![], threshold: 1, apps: vec!["*".into()], allow_root: false, users: vec![] }
    }
}

fn state_dir() -> PathBuf {
    "/var/lib/windlass".into()
}

fn run_dir() -> PathBuf {
    "/run/windlass".into()
}
