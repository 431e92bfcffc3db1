//! `windlass host` and `windlass token`

use clap::{Args as ClapArgs, Subcommand};
use windlass_proto::time::Span;

/// `windlass host`
#[derive(Debug, Subcommand)]
pub enum Host {
    /// List hosts with state, apps and when they were last heard
    List {
        /// Only hosts with these labels: key=value, key!=value, key in (a,b), key
        #[arg(short = 'l', long, value_name = "SELECTOR", default_value = "", hide_default_value = true)]
        selector: String,
    },
    /// Show one host: apps, labels, facts
    Show {
        /// The host
        host: String,
    },
    /// Set labels (key=value) and remove them (key-)
    Label {
        /// The host
        host: String,
        /// key=value to set, key- to remove
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<String>,
    },
    /// Keep new rollouts off a host
    Cordon(HostAct),
    /// Let rollouts use a host again
    Uncordon(HostAct),
    /// Let the quarantined apps of a host take part again, and wait for what comes of it
    Release {
        /// The host, and why.
        #[command(flatten)]
        act: HostAct,
        /// Only this app
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// Leave the app down until the next deploy, where its last confirmed release does not come up either
        #[arg(long)]
        leave_down: bool,
        /// Stop waiting after so long (exit 6)
        #[arg(long, value_name = "DURATION", default_value = "2m")]
        timeout: Span,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Forget a host that is gone
    Rm {
        /// The host, and why.
        #[command(flatten)]
        act: HostAct,
        /// Also one that is connected: its session is closed, and its key is worth nothing any more
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// An act on one host.
#[derive(Debug, ClapArgs)]
pub struct HostAct {
    /// The host
    pub host: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// `windlass token`
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a join token for one agent
    Create {
        /// A label that the host gets, key=value
        #[arg(long, value_name = "KEY=VALUE")]
        label: Vec<String>,
        /// Only a host of this name may use it
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
        /// How long it can be used (at most 24h)
        #[arg(long, value_name = "DURATION", default_value = "15m")]
        ttl: Span,
    },
    /// List tokens
    List,
    /// Make a token unusable
    Revoke {
        /// The token's id
        id: String,
    },
}
