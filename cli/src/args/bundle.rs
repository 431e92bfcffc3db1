//! `windlass bundle`

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

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
