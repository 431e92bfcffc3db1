//! What is rolled out, and how it is followed: `validate`, `plan`, `deploy`, `rollback`.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use windlass_proto::time::Span;

/// Which spec.
#[derive(Debug, Clone, ClapArgs)]
pub struct SpecFile {
    /// The spec
    #[arg(short, long, value_name = "FILE", default_value = "windlass.yaml")]
    pub file: PathBuf,
    /// The environment of the spec; where it has several, one has to be named
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
    /// Take targeted hosts that belong to this environment of the app from there, for good
    #[arg(long, value_name = "ENV")]
    pub take_from: Option<String>,
    /// Only on this one of the targeted hosts; may be given more than once
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Refuse when the next revision is another than this
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
    /// Do not show the plan and ask; without a terminal nobody is asked
    #[arg(short, long)]
    pub yes: bool,
    /// Abort the app's open rollout in this environment and wait until it has ended, then deploy; --timeout is for both
    #[arg(long)]
    pub supersede: bool,
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

/// `windlass rollback`
#[derive(Debug, ClapArgs)]
pub struct Rollback {
    /// The app
    pub app: String,
    /// The environment; where the app has several, one has to be named
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// The release to go back to; has to be named after a rollout that failed or went back
    #[arg(long, value_name = "VERSION|DIGEST")]
    pub to: Option<String>,
    /// Refuse when the next revision is another than this
    #[arg(long, value_name = "N")]
    pub expect_revision: Option<u64>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// How to follow it.
    #[command(flatten)]
    pub follow: Follow,
    /// Do not ask; does not say which release is meant where that has to be named
    #[arg(short, long)]
    pub yes: bool,
}
