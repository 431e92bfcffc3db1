//! Making a signed bundle from a spec.

use std::path::Path;
use std::sync::Arc;

use windlass_proto::bundle::{BuildError, Envelope, Manifest, Tree};
use windlass_proto::id::ReleaseVersion;

use crate::error::{ExpectedError, Result};
use crate::keys::NamedKey;
use crate::output::{Output, text};
use crate::spec::Spec;
use crate::watch::live::Screen;

/// A bundle that exists in memory; its chunks are still in the files.
#[derive(Debug, Clone)]
pub struct Built {
    /// What it holds.
    pub manifest: Manifest,
    /// The signed form.
    pub envelope: Envelope,
    /// Where its chunks come from.
    pub tree: Arc<Tree>,
}

/// Reads the version that a user gave.
pub fn version(text: &str) -> Result<ReleaseVersion> {
    ReleaseVersion::new(text).map_err(|error| {
        ExpectedError::usage(format!("--version {text:?} cannot be a version"))
            .cause(error.rule)
            .hint("--version 1.9.0")
    })
}

/// Scans the files of a spec.
pub async fn scan(out: &Output, files: &Path) -> Result<Arc<Tree>> {
    let mut screen = if out.is_live() { Screen::terminal() } else { Screen::none() };
    screen.draw(&format!("  Packing  {}", files.display()));
    let path = files.to_owned();
    let scanned = tokio::task::spawn_blocking(move || Tree::scan(&path)).await;
    screen.clear();
    match scanned {
        Ok(Ok(tree)) => Ok(Arc::new(tree)),
        Ok(Err(error)) => Err(refused(files, error)),
        Err(error) => Err(ExpectedError::failed(format!("cannot pack {}", files.display())).because(error)),
    }
}

/// Makes the manifest and signs it.
pub fn sign(
    spec: &Spec,
    tree: Arc<Tree>,
    version: ReleaseVersion,
    counter: u64,
    keys: &[NamedKey],
) -> Result<Built> {
    let manifest = manifest(spec, &tree, version, counter)?;
    let mut envelope = Envelope::new(&manifest);
    for named in keys {
        envelope.sign(&named.key);
    }
    Ok(Built { manifest, envelope, tree })
}

/// Makes the manifest.
pub fn manifest(spec: &Spec, tree: &Tree, version: ReleaseVersion, counter: u64) -> Result<Manifest> {
    tree.manifest(spec.app.clone(), version, counter, spec.release.clone())
        .map_err(|error| refused(&spec.files, error))
}

/// `web 1.9.0, 412 files, 28.4 MiB, b3:07ad4e`.
pub fn describe(manifest: &Manifest, envelope: &Envelope) -> String {
    format!(
        "{} {}, {}, {}, {}",
        manifest.app,
        manifest.version,
        text::count(manifest.files().count(), "file"),
        text::bytes(manifest.total_bytes()),
        envelope.digest().short()
    )
}

fn refused(files: &Path, error: BuildError) -> ExpectedError {
    ExpectedError::usage(format!("{} cannot become a bundle", files.display())).because(error)
}
