//! The verbs and flags. Only verbs that are built appear here.

mod app;
mod bundle;
mod dev;
mod host;
mod identity;
mod order;
mod rollout;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use windlass_proto::rpc::audit::Head;

use crate::output::Format;

pub use app::App;
pub use bundle::{Bundle, BundleBuild, BundleGrant, Until};
pub use dev::{Demo, DemoApp, Dev, DevDir, DevSession, DevUp};
pub use host::{Host, HostAct, Token};
pub use identity::{Context, Key};
pub use order::{Deploy, Follow, Order, Plan, Rollback, SpecFile};
pub use rollout::{Rollout, RolloutAct};

/// Moves a fleet of hosts to a new release, batch by batch; each host holds, or goes back by itself.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, max_term_width = 100, after_help = crate::exit::TABLE)]
pub struct Args {
    /// What applies to every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every verb.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Form of the data on stdout: table, wide, json, jsonl, yaml or name
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORM",
        default_value = "table",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub output: Format,
    /// Same as -o json
    #[arg(long, global = true, conflicts_with = "output")]
    pub json: bool,
    /// Use colour: auto, always or never (NO_COLOR is respected)
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub color: Color,
    /// Use this context instead of the current one
    #[arg(long, global = true, value_name = "NAME", env = "WINDLASS_CONTEXT", hide_env_values = true)]
    pub context: Option<String>,
    /// Say more: ids, digests in full, gRPC codes
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented windlass.yaml here
    Init(Init),
    /// Check a spec offline: every problem at once, with line and column
    Validate(SpecFile),
    /// Show what a deploy would change, batch by batch; change nothing
    Plan(Plan),
    /// Build, sign, push and roll out a release, and follow it to its end
    Deploy(Deploy),
    /// Show apps, open rollouts and sick hosts on one screen
    Status(Status),
    /// Roll out an earlier release (default: the stable one before the current one)
    Rollback(Rollback),
    /// Show which release provably runs where
    Versions(Versions),
    /// Name the first cause of a host's or a rollout's failure, with its evidence
    Why(Why),
    /// Show what an app wrote last, on each of its hosts
    Logs(Logs),
    /// Show who did what and what changed
    Events(Events),
    /// Show who asked for what, and check that nothing was taken out of that log
    Audit(Audit),
    /// Build, push and inspect bundles
    #[command(subcommand)]
    Bundle(Bundle),
    /// Watch and steer rollouts
    #[command(subcommand)]
    Rollout(Rollout),
    /// List, label and cordon hosts
    #[command(subcommand)]
    Host(Host),
    /// Let a poisoned release of an app be tried once more
    #[command(subcommand)]
    App(App),
    /// Make and list author keys, which sign releases
    #[command(subcommand)]
    Key(Key),
    /// Make and revoke join tokens, with which agents enrol
    #[command(subcommand)]
    Token(Token),
    /// Choose the coordinator to talk to
    #[command(subcommand)]
    Context(Context),
    /// Print the JSON Schema of windlass.yaml, for editors
    Schema,
    /// Print a completion script
    Completions(Completions),
    /// Write man pages
    #[command(hide = true)]
    Man(Man),
    /// Show the versions of this program and the coordinator
    Version(Version),
    /// Run a fleet on this machine: a coordinator and agents as processes, no root needed
    #[command(subcommand)]
    Dev(Dev),
    /// Tell the whole story on a fleet in a temporary directory: deploy, fail, crash, recover
    Demo(Demo),
    /// The application that the demo deploys
    #[command(hide = true)]
    DemoApp(DemoApp),
    /// Become another program in a session of its own
    #[command(hide = true)]
    DevSession(DevSession),
}

/// `windlass init`
#[derive(Debug, ClapArgs)]
pub struct Init {
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "windlass.yaml")]
    pub file: PathBuf,
    /// The app's name (default: the directory's name)
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
}

/// `windlass status`
#[derive(Debug, ClapArgs)]
pub struct Status {
    /// Only this app
    pub app: Option<String>,
    /// Only this environment
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
}

/// `windlass versions`
#[derive(Debug, ClapArgs)]
pub struct Versions {
    /// Only this app
    pub app: Option<String>,
    /// Only this environment
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
}

/// `windlass why`
#[derive(Debug, ClapArgs)]
pub struct Why {
    /// A host's name or a rollout's id
    #[arg(value_name = "HOST|ROLLOUT")]
    pub subject: String,
    /// Only failures in this environment
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
}

/// `windlass logs`
#[derive(Debug, ClapArgs)]
pub struct Logs {
    /// The app
    pub app: String,
    /// Only hosts of this environment
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Only this host; may be given again
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// At most so many lines of each host, the newest
    #[arg(short = 'n', long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub lines: u32,
}

/// `windlass events`
#[derive(Debug, ClapArgs)]
pub struct Events {
    /// Go on with events as they happen
    #[arg(long)]
    pub follow: bool,
    /// Only events of this app
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Only events of this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only events of this rollout
    #[arg(long, value_name = "ID")]
    pub rollout: Option<String>,
    /// At most this many past events: the newest [default: 200], or with --after the next ones [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Only events after this sequence number, and all of them: exit 7 where some are no longer kept
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// List the kinds of events, what each means and which fields it has
    #[arg(long, conflicts_with_all = ["follow", "app", "host", "rollout", "limit", "after"])]
    pub kinds: bool,
}

/// `windlass audit`
#[derive(Debug, ClapArgs)]
pub struct Audit {
    /// At most so many records, the newest; 0: all
    #[arg(short = 'n', long, value_name = "N", default_value = "50")]
    pub last: u32,
    /// Check instead that no record was changed or taken out, and that this one is there, as an earlier check printed it
    #[arg(long, value_name = "RECORD", conflicts_with = "last")]
    #[allow(clippy::option_option, reason = "how clap tells no option from one without a value")]
    pub check: Option<Option<Head>>,
    /// With --check: the log counts from now on, though records are not in it that this machine has seen; for after a
    /// restore of the coordinator's state from an older copy
    #[arg(long, requires = "check")]
    pub accept_restored: bool,
}

/// `windlass completions`
#[derive(Debug, ClapArgs)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `windlass man`
#[derive(Debug, ClapArgs)]
pub struct Man {
    /// Where to write the pages
    pub dir: PathBuf,
}

/// `windlass version`
#[derive(Debug, ClapArgs)]
pub struct Version {
    /// Do not ask the coordinator
    #[arg(long)]
    pub client: bool,
}
