//! `windlass dev` and `windlass demo`

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

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
