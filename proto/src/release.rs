//! What names a release.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{AppName, ReleaseVersion};

/// A release: app and version as people say it, digest as machines mean it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// The application.
    pub app: AppName,
    /// The authors' name for it.
    pub version: ReleaseVersion,
    /// BLAKE3 of the manifest's canonical bytes; the release's identity.
    pub digest: Digest,
    /// Rises with each release that the authors sign; a host refuses to go below the highest it has seen, except for a
    /// rollback to a release that was confirmed there.
    pub counter: u64,
}

impl fmt::Display for ReleaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.app, self.version, self.digest.short())
    }
}
