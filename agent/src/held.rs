//! The complete releases on this host, read from their directories: the truth from which the store is rebuilt.
//!
//! A release's directory bears its digest, its envelope must have that digest, and the manifest therein says what every
//! byte of the tree is. No signature is needed again: it was checked before the directory came to be.

use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use windlass_proto::bundle::{Envelope, EnvelopeError, Manifest, ManifestError};
use windlass_proto::digest::Digest;
use windlass_proto::id::AppName;
use windlass_proto::limits::ENVELOPE_BYTES;
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::Timestamp;

use crate::file::{FileError, read_bounded};
use crate::layout::{ENVELOPE, Layout, TREE};
use crate::link;
use crate::runtime::Launch;
use crate::shim::order::RunDir;
use crate::staging::beneath::Beneath;
use crate::staging::intact::{self, Flaw};
use crate::store::ReleaseRow;

/// A release that is not, or no longer, what it should be.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// Its envelope cannot be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// Its envelope is not one.
    #[error("{} is damaged", path.display())]
    Envelope {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EnvelopeError,
    },
    /// Its manifest is not one.
    #[error("{} is damaged", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// The directory has another release's envelope.
    #[error("{} is of another release, {found}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: Digest,
    },
    /// Its tree cannot be opened.
    #[error("{} cannot be opened", path.display())]
    Tree {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its tree differs from the manifest.
    #[error("release {} is damaged", path.display())]
    Flaw {
        /// The directory.
        path: PathBuf,
        /// What differs.
        source: Flaw,
    },
}

/// The envelope of the release in `dir`.
pub fn envelope(dir: &Path) -> Result<Envelope, HeldError> {
    let path = dir.join(ENVELOPE);
    let bytes = read_bounded(&path, ENVELOPE_BYTES as u64)?;
    Envelope::decode(&bytes).map_err(|source| HeldError::Envelope { path, source })
}

/// The manifest of the release in `dir`, which must have this digest.
pub fn manifest(dir: &Path, digest: &Digest) -> Result<Manifest, HeldError> {
    let envelope = envelope(dir)?;
    let path = dir.join(ENVELOPE);
    if envelope.digest() != *digest {
        return Err(HeldError::Foreign { path, found: envelope.digest() });
    }
    envelope.unverified_manifest().map_err(|source| HeldError::Manifest { path, source })
}

/// How a release that is complete here is run.
pub fn launch(layout: &Layout, release: &ReleaseRef) -> Result<Launch, HeldError> {
    let ReleaseRef { app, digest, .. } = release;
    let manifest = manifest(&layout.release(app, digest), digest)?;
    Ok(Launch {
        release: manifest.release_ref(),
        spec: manifest.release,
        dir: layout.tree(app, digest),
        run: RunDir(layout.app_run(app)),
        logs: layout.app_logs(app),
        data: layout.app_data(app),
    })
}

/// Reads every file of a release again: to be called before it is switched to, reverted to or confirmed. Blocks, on a few
/// threads. Things that the app put beside its files are not judged.
pub fn verify(layout: &Layout, app: &AppName, digest: &Digest) -> Result<Manifest, HeldError> {
    let dir = layout.release(app, digest);
    let manifest = manifest(&dir, digest)?;
    let path = dir.join(TREE);
    let tree = Beneath::open(&path).map_err(|source| HeldError::Tree { path, source })?;
    intact::check_contents(&tree, &manifest).map_err(|source| HeldError::Flaw { path: dir, source })?;
    Ok(manifest)
}

/// Digests of an app's complete releases, in order. Looks at names only.
pub fn digests(layout: &Layout, app: &AppName) -> Vec<Digest> {
    let Ok(items) = std::fs::read_dir(layout.releases(app)) else { return Vec::new() };
    let name = |item: std::fs::DirEntry| format!("b3:{}", item.file_name().to_str()?).parse().ok();
    let mut digests: Vec<Digest> = items.flatten().filter_map(name).collect();
    digests.sort_unstable();
    digests
}

/// The apps that have a directory here, in order.
pub fn apps(layout: &Layout) -> Vec<AppName> {
    let Ok(items) = std::fs::read_dir(layout.apps()) else { return Vec::new() };
    let name = |item: std::fs::DirEntry| AppName::new(item.file_name().to_str()?).ok();
    let mut apps: Vec<AppName> = items.flatten().filter_map(name).collect();
    apps.sort_unstable();
    apps
}

/// All complete releases of all apps, without reading their files. One whose envelope is damaged is passed over.
pub fn scan(layout: &Layout) -> Vec<ReleaseRow> {
    let mut rows = Vec::new();
    for app in apps(layout) {
        for digest in digests(layout, &app) {
            match row(layout, &app, &digest) {
                Ok(row) => rows.push(row),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(%app, %digest, error, "release passed over");
                }
            }
        }
    }
    rows
}

/// What the directory of a release says of it.
pub fn row(layout: &Layout, app: &AppName, digest: &Digest) -> Result<ReleaseRow, HeldError> {
    let dir = layout.release(app, digest);
    let manifest = manifest(&dir, digest)?;
    let written = std::fs::metadata(dir.join(ENVELOPE)).and_then(|meta| meta.modified()).ok();
    let written = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let staged_at = written.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0);
    Ok(ReleaseRow {
        release: manifest.release_ref(),
        bytes: manifest.total_bytes(),
        staged_at: Timestamp(staged_at),
        confirmed_at: link::confirmed_at(&dir),
    })
}
