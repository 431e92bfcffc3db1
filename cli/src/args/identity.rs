//! `windlass key` and `windlass context`

use clap::Subcommand;

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
  windlass-coordinator issue-operator --state-dir DIR --name ana --out DIR
  windlass context add prod --coordinator coordinator.example:7444 --from DIR")]
pub enum Context {
    /// List contexts
    List,
    /// Write a context from the files of `windlass-coordinator issue-operator`, and make it the current one
    Add {
        /// The context's name
        name: String,
        /// Where the coordinator listens for operators
        #[arg(long, value_name = "HOST:PORT")]
        coordinator: String,
        /// The directory that holds ca.pem, YOU.pem and YOU.key; they stay there
        #[arg(long, value_name = "DIR")]
        from: std::path::PathBuf,
    },
    /// Make a context the current one
    Use {
        /// The context
        name: String,
    },
    /// Forget a context; its files stay
    Rm {
        /// The context
        name: String,
    },
    /// Show a context, and who one is to its coordinator
    Show {
        /// The context (default: the current one)
        name: Option<String>,
    },
}
