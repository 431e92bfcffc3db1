//! `windlass bundle`

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args as ClapArgs, Subcommand};
use windlass_proto::time::{Span, Timestamp};

/// `windlass bundle`
#[derive(Debug, Subcommand)]
pub enum Bundle {
    /// Pack a directory into a signed bundle file
    Build(BundleBuild),
    /// Upload a bundle (only the chunks that the coordinator lacks), or a grant
    Push {
        /// The file
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
    /// Check every hash and signature of a bundle or a grant in a file
    Verify {
        /// The file
        file: PathBuf,
        /// Accept this author: a key's name, its file, or ed25519:... (default: the context's authors)
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
        /// So many different authors must have signed
        #[arg(long, value_name = "N", default_value = "1")]
        threshold: usize,
    },
    /// Grant an earlier release to hosts that have seen later ones and did not confirm it themselves
    Grant(BundleGrant),
    /// Add a signature to a bundle or a grant in a file
    Sign {
        /// The file
        file: PathBuf,
        /// Sign with this author key (default: the context's)
        #[arg(long, value_name = "NAME")]
        key: Vec<String>,
    },
}

/// `windlass bundle grant`
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A host takes no release whose counter is below the highest that it has seen, unless it has confirmed that \
    release itself, or the app's authors grant it. `windlass rollback` signs a grant by itself where your own author keys are \
    enough. The coordinator keeps a grant until it ends; hosts that were away follow under it when they return."
)]
pub struct BundleGrant {
    /// The app
    pub app: String,
    /// The release to grant; the coordinator has to have it
    #[arg(value_name = "VERSION|DIGEST")]
    pub release: String,
    /// Not on hosts that have seen a higher counter (default: the highest that any host of the app has seen, no higher than the newest release here)
    #[arg(long, value_name = "N")]
    pub up_to: Option<u64>,
    /// How long it is good: a duration from now, or a time as in 2026-12-24T18:00:00Z
    #[arg(long, value_name = "T", default_value = "24h")]
    pub until: Until,
    /// Write it here for other authors to sign, instead of pushing it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Sign with this author key (default: the context's)
    #[arg(long, value_name = "NAME")]
    pub key: Vec<String>,
}

/// When a grant ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// So long after it was made.
    For(Span),
    /// At this time.
    At(Timestamp),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(span) = text.parse::<Span>() {
            return Ok(Self::For(span));
        }
        let at = text.parse::<jiff::Timestamp>().map_err(|_| {
            "neither a duration, as in 24h or 7d, nor a time, as in 2026-12-24T18:00:00Z".to_owned()
        })?;
        Ok(Self::At(Timestamp(at.as_millisecond())))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_ends_after_a_while_or_at_a_time() {
        assert_eq!("36h".parse(), Ok(Until::For(Span::secs(36 * 3600))));
        assert_eq!("1970-01-01T00:00:02Z".parse(), Ok(Until::At(Timestamp(2000))));
        assert!("tomorrow".parse::<Until>().unwrap_err().contains("24h"));
    }
}
