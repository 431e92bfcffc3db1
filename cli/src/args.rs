//! The verbs and flags. Only verbs that are built appear here.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use windlass_proto::time::Span;

use crate::output::Format;

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
    /// Roll out an earlier release (default: the last good one before the current one)
    Rollback(Rollback),
    /// Show which release provably runs where
    Versions(Versions),
    /// Name the first cause of a host's or a rollout's failure, with its evidence
    Why(Why),
    /// Show who did what and what changed
    Events(Events),
    /// Build, push and inspect bundles
    #[command(subcommand)]
    Bundle(Bundle),
    /// Watch and steer rollouts
    #[command(subcommand)]
    Rollout(Rollout),
    /// List, label and cordon hosts
    #[command(subcommand)]
    Host(Host),
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

/// Which spec.
#[derive(Debug, Clone, ClapArgs)]
pub struct SpecFile {
    /// The spec
    #[arg(short, long, value_name = "FILE", default_value = "windlass.yaml")]
    pub file: PathBuf,
    /// Apply this environment of the spec
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Override a rollout field, as in --set strategy.max_parallel=2
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// What to roll out, for `plan` and `deploy`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Order {
    /// Spec, environment and overrides.
    #[command(flatten)]
    pub spec: SpecFile,
    /// Version of the release to build
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Roll out this bundle instead of building one: a file, or the digest of a pushed one
    #[arg(long, value_name = "FILE|DIGEST", conflicts_with = "version")]
    pub bundle: Option<String>,
    /// Sign with this author key (default: the context's)
    #[arg(long, value_name = "NAME")]
    pub key: Vec<String>,
    /// Refuse when the app's next revision is another than this
    #[arg(long, value_name = "N")]
    pub expect_revision: Option<u64>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// `windlass plan`
#[derive(Debug, ClapArgs)]
pub struct Plan {
    /// What to roll out.
    #[command(flatten)]
    pub order: Order,
    /// Exit with 8 when there are changes
    #[arg(long)]
    pub exit_code: bool,
}

/// `windlass deploy`
#[derive(Debug, ClapArgs)]
pub struct Deploy {
    /// What to roll out.
    #[command(flatten)]
    pub order: Order,
    /// How to follow it.
    #[command(flatten)]
    pub follow: Follow,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// How a started rollout is followed.
#[derive(Debug, Clone, ClapArgs)]
pub struct Follow {
    /// Print the rollout's id and return at once
    #[arg(long)]
    pub detach: bool,
    /// Stop watching after so long (exit 6); the rollout goes on
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<Span>,
}

/// `windlass status`
#[derive(Debug, ClapArgs)]
pub struct Status {
    /// Only this app
    pub app: Option<String>,
}

/// `windlass rollback`
#[derive(Debug, ClapArgs)]
pub struct Rollback {
    /// The app
    pub app: String,
    /// The release to go back to
    #[arg(long, value_name = "VERSION|DIGEST")]
    pub to: Option<String>,
    /// Refuse when the app's next revision is another than this
    #[arg(long, value_name = "N")]
    pub expect_revision: Option<u64>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// How to follow it.
    #[command(flatten)]
    pub follow: Follow,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `windlass versions`
#[derive(Debug, ClapArgs)]
pub struct Versions {
    /// Only this app
    pub app: Option<String>,
}

/// `windlass why`
#[derive(Debug, ClapArgs)]
pub struct Why {
    /// A host's name or a rollout's id
    #[arg(value_name = "HOST|ROLLOUT")]
    pub subject: String,
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
    /// At most so many past events
    #[arg(long, value_name = "N", default_value = "200")]
    pub limit: u32,
    /// Only events after this sequence number
    #[arg(long, value_name = "SEQ", default_value = "0", hide_default_value = true)]
    pub after: u64,
}

/// `windlass bundle`
#[derive(Debug, Subcommand)]
pub enum Bundle {
    /// Pack a directory into a signed bundle file
    Build(BundleBuild),
    /// Upload a bundle: only the chunks that the coordinator lacks
    Push {
        /// The bundle file
        file: PathBuf,
    },
    /// List the bundles that the coordinator holds
    List {
        /// Only this app's
        #[arg(long, value_name = "APP")]
        app: Option<String>,
    },
    /// Show one bundle of the coordinator, or of a file
    Show {
        /// Digest, a prefix of it, or a file
        #[arg(value_name = "DIGEST|FILE")]
        digest: String,
        /// List every file
        #[arg(long)]
        files: bool,
    },
    /// Check every hash and signature of a bundle file
    Verify {
        /// The bundle file
        file: PathBuf,
        /// Accept this author: a key's name, its file, or ed25519:... (default: the context's authors)
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
        /// So many different authors must have signed
        #[arg(long, value_name = "N", default_value = "1")]
        threshold: usize,
    },
    /// Add a signature to a bundle file
    Sign {
        /// The bundle file
        file: PathBuf,
        /// Sign with this author key (default: the context's)
        #[arg(long, value_name = "NAME")]
        key: Vec<String>,
    },
}

/// `windlass bundle build`
#[derive(Debug, ClapArgs)]
pub struct BundleBuild {
    /// The directory that holds windlass.yaml
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// The spec (default: DIR/windlass.yaml)
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Version of the release
    #[arg(long, value_name = "VERSION")]
    pub version: String,
    /// Rises with each release; hosts refuse to go below the highest they have seen
    #[arg(long, value_name = "N", default_value = "1")]
    pub counter: u64,
    /// Write the bundle here (default: APP-VERSION.wlb)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Sign with this author key (default: the context's)
    #[arg(long, value_name = "NAME")]
    pub key: Vec<String>,
}

/// `windlass rollout`
#[derive(Debug, Subcommand)]
pub enum Rollout {
    /// List rollouts, newest first
    List {
        /// Only this app's
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// Only those that have not ended
        #[arg(long)]
        open: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value = "50")]
        limit: u32,
    },
    /// Show batches, hosts and results of one rollout
    Show {
        /// The rollout
        id: String,
    },
    /// Follow a rollout to its end
    Watch {
        /// The rollout (default: the only open one)
        id: Option<String>,
        /// Stop watching after so long (exit 6); the rollout goes on
        #[arg(long, value_name = "DURATION")]
        timeout: Option<Span>,
    },
    /// Start no further host until resumed
    Pause(RolloutAct),
    /// Go on
    Resume(RolloutAct),
    /// Stop, and return changed hosts to the former release
    Abort {
        /// The rollout, and why.
        #[command(flatten)]
        act: RolloutAct,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Start again for the hosts that did not reach the release
    Retry {
        /// The rollout, and why.
        #[command(flatten)]
        act: RolloutAct,
        /// How to follow it.
        #[command(flatten)]
        follow: Follow,
    },
    /// Show the releases an app has had
    History {
        /// The app
        app: String,
        /// At most so many
        #[arg(long, value_name = "N", default_value = "20")]
        limit: u32,
    },
}

/// An act on one rollout.
#[derive(Debug, ClapArgs)]
pub struct RolloutAct {
    /// The rollout
    pub id: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

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
        #[arg(required = true, value_name = "KEY=VALUE|KEY-", allow_hyphen_values = true)]
        labels: Vec<String>,
    },
    /// Keep new rollouts off a host
    Cordon(HostAct),
    /// Let rollouts use a host again
    Uncordon(HostAct),
    /// Let a quarantined host take part again
    Release(HostAct),
    /// Forget a host that is gone
    Rm {
        /// The host, and why.
        #[command(flatten)]
        act: HostAct,
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

/// `windlass key`
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make an author key and print its public half for the agents' policy
    New {
        /// The key's name
        name: String,
    },
    /// List author keys
    List,
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

/// `windlass context`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A context in ~/.config/windlass/config.toml (or $WINDLASS_CONFIG); paths are relative to that file:
  current = \"prod\"
  [contexts.prod]
  coordinator = \"coordinator.example:7444\"
  ca = \"ca.pem\"
  certificate = \"ana.pem\"
  key = \"ana.key\"
  author_keys = [\"keys/ana.key\"]

The coordinator's machine makes ca.pem, ana.pem and ana.key:
  windlass-coordinator issue-operator --state-dir DIR --name ana --out DIR")]
pub enum Context {
    /// List contexts
    List,
    /// Make a context the current one
    Use {
        /// The context
        name: String,
    },
    /// Show a context, and who one is to its coordinator
    Show {
        /// The context (default: the current one)
        name: Option<String>,
    },
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

/// `windlass dev`
#[derive(Debug, Subcommand)]
pub enum Dev {
    /// Start a fleet, or what of it does not run
    Up(DevUp),
    /// Stop a fleet and the apps it runs
    Down(DevDir),
    /// Show the processes of a fleet
    Status(DevDir),
}

/// `windlass dev up`
#[derive(Debug, Clone, ClapArgs)]
pub struct DevUp {
    /// Where the fleet lives: state, keys, logs
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// How many hosts (default: 3, or as many as DIR has)
    #[arg(long, value_name = "N")]
    pub hosts: Option<u32>,
    /// Return when the fleet is ready, and leave it running
    #[arg(long)]
    pub detach: bool,
}

/// Which fleet on this machine.
#[derive(Debug, Clone, ClapArgs)]
pub struct DevDir {
    /// Where the fleet lives
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// `windlass demo`
#[derive(Debug, Clone, ClapArgs)]
pub struct Demo {
    /// Keep the fleet and its directory afterwards
    #[arg(long)]
    pub keep: bool,
}

/// `windlass demo-app`
#[derive(Debug, Clone, ClapArgs)]
pub struct DemoApp {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: std::net::SocketAddr,
    /// The version it says it has
    #[arg(long, value_name = "VERSION")]
    pub version: String,
    /// Never become healthy
    #[arg(long)]
    pub broken: bool,
}

/// `windlass dev-session`
#[derive(Debug, Clone, ClapArgs)]
pub struct DevSession {
    /// The program to become
    pub program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<std::ffi::OsString>,
}
