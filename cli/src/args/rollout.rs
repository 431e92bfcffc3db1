//! `windlass rollout`

use clap::{Args as ClapArgs, Subcommand};
use windlass_proto::time::Span;

use super::Follow;

/// `windlass rollout`
#[derive(Debug, Subcommand)]
pub enum Rollout {
    /// List rollouts, newest first
    List {
        /// Only this app's
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// Only this environment's
        #[arg(long, value_name = "NAME")]
        env: Option<String>,
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
        /// Wait until it has ended (exit 0 once its hosts are back)
        #[arg(long)]
        wait: bool,
        /// With --wait: stop watching after so long (exit 6); the rollout goes on going back
        #[arg(long, value_name = "DURATION", requires = "wait")]
        timeout: Option<Span>,
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
        /// Only this environment's
        #[arg(long, value_name = "NAME")]
        env: Option<String>,
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
