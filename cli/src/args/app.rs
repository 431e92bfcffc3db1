//! `windlass app`

use clap::Subcommand;

/// `windlass app`
#[derive(Debug, Subcommand)]
pub enum App {
    /// Let a poisoned release be tried once more, where it was not to blame; a failure poisons it again
    Parole {
        /// The app
        app: String,
        /// The release
        #[arg(value_name = "VERSION|DIGEST")]
        release: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}
