//! Releases that retention leaves alone because somebody said so: a mark beside the release's tree.

use std::path::Path;

use windlass_proto::id::AppName;

use crate::file::{self, FileError};
use crate::held;
use crate::layout::Layout;
use crate::store::ReleaseRow;

const MARK: &str = "pinned";

/// Why nothing was pinned or let go.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no such release.
    #[error("{app} {release} is not on this host; `windlass-agent releases` lists what is")]
    Unknown {
        /// The app.
        app: AppName,
        /// What was asked for.
        release: String,
    },
    /// There are several.
    #[error("{app} {release} is several releases here: {digests}; give a digest")]
    Several {
        /// The app.
        app: AppName,
        /// What was asked for.
        release: String,
        /// Theirs.
        digests: String,
    },
    /// The mark.
    #[error("cannot change the mark of a pinned release")]
    Mark(#[from] FileError),
}

/// Whether the release in `dir` is pinned.
pub fn is_pinned(dir: &Path) -> bool {
    dir.join(MARK).exists()
}

/// Pins a release, or lets it go; needs no agent. `release` is a version, a digest or the beginning of one.
pub fn set(layout: &Layout, app: &AppName, release: &str, pinned: bool) -> Result<ReleaseRow, PinError> {
    let is_meant = |row: &ReleaseRow| {
        let ReleaseRow { release: it, .. } = row;
        it.app == *app && (it.version.as_str() == release || it.digest.to_string().starts_with(release))
    };
    let mut meant: Vec<ReleaseRow> = held::scan(layout).into_iter().filter(is_meant).collect();
    let (app, release) = (app.clone(), release.to_owned());
    let row = meant.pop().ok_or_else(|| PinError::Unknown { app: app.clone(), release: release.clone() })?;
    if !meant.is_empty() {
        let digests = meant.iter().chain([&row]).map(|row| row.release.digest.short().to_string());
        return Err(PinError::Several { app, release, digests: digests.collect::<Vec<_>>().join(", ") });
    }
    let mark = layout.release(&app, &row.release.digest).join(MARK);
    if pinned {
        file::replace(&mark, b"", 0o444)?
    } else {
        file::remove(&mark)?
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recover::tests::{app, host, release};

    #[test]
    fn a_release_is_pinned_by_version_or_digest_and_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let layout = host(dir.path());
        let (one, two) = (release(&layout, 1), release(&layout, 2));
        let pinned = |release: &windlass_proto::release::ReleaseRef| {
            is_pinned(&layout.release(&app(), &release.digest))
        };
        assert_eq!(set(&layout, &app(), "1.1", true).unwrap().release, one);
        assert!(pinned(&one) && !pinned(&two));
        set(&layout, &app(), &one.digest.to_string(), false).unwrap();
        set(&layout, &app(), &two.digest.short().to_string(), true).unwrap();
        assert!(!pinned(&one) && pinned(&two));
        let unknown = set(&layout, &app(), "9", true).unwrap_err().to_string();
        assert!(unknown.contains("shop 9 is not on this host"), "{unknown}");
        let several = set(&layout, &app(), "b3:", true).unwrap_err().to_string();
        assert!(several.contains("several releases"), "{several}");
    }
}
