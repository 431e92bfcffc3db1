//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use windlass_proto::metrics::MetricsAddress;
use windlass_proto::spec::dial::Allowed;

/// Leads rollouts across the fleet.
#[derive(Debug, Parser)]
#[command(name = "windlass-coordinator", version, about, arg_required_else_help = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Form of the log on stderr.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve agents and operators until SIGTERM.
    Run(RunArgs),
    /// Write the man page to stdout.
    #[command(hide = true)]
    Man,
    /// Write an operator's certificate, key and the CA to trust; works beside a running coordinator.
    IssueOperator(IssueOperatorArgs),
}

/// Flags of `run`; each wins over the same key of the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RunArgs {
    /// Settings file (TOML): fleet, state_dir, agent_listen, operator_listen, metrics_listen, dial_allow.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where state, objects and certificates are kept.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The fleet's name; fixed when the certificates are made.
    #[arg(long, value_name = "NAME")]
    pub fleet: Option<String>,
    /// Where agents connect [default: 0.0.0.0:7443]; port 0 takes any free one.
    #[arg(long, value_name = "ADDR")]
    pub agent_listen: Option<SocketAddr>,
    /// Where operators connect [default: 127.0.0.1:7444]; port 0 takes any free one.
    #[arg(long, value_name = "ADDR")]
    pub operator_listen: Option<SocketAddr>,
    /// Where Prometheus reads /metrics [default: nowhere]; a port alone is one of 127.0.0.1.
    #[arg(long, value_name = "PORT|ADDR")]
    pub metrics_listen: Option<MetricsAddress>,
    /// A URL that specs may have the coordinator dial, with all beneath it, or `loopback`; may be given more than once
    /// [default: none].
    #[arg(long, value_name = "URL")]
    pub dial_allow: Vec<Allowed>,
    /// Lead although hosts have obeyed a coordinator that this state does not know: it was restored from a backup, and every
    /// other coordinator of this fleet is stopped for good. Once is enough; hosts that return later are led too.
    #[arg(long)]
    pub after_restore: bool,
}

/// Flags of `issue-operator`.
#[derive(Debug, clap::Args)]
pub struct IssueOperatorArgs {
    /// The coordinator's state directory.
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Name of the person or program; shown in rollouts and events as operator/NAME.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// How long the certificate is valid.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365))]
    pub days: u32,
    /// Where ca.pem, NAME.pem and NAME.key are written.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
