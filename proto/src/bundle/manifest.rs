//! The manifest: what a bundle holds and how it is run. Its canonical bytes are what authors sign; their BLAKE3 is the
//! release's digest.
//!
//! The canonical form is JSON as `serde_json` writes these types: members in the order of declaration, maps by key, no
//! white space, no floats. A reader re-encodes what it parsed and refuses bytes that differ: see [`super::canonical`].

use serde::{Deserialize, Serialize};

use super::EntryPath;
use crate::digest::Digest;
use crate::id::{AppName, ReleaseVersion};
use crate::spec::ReleaseSpec;

/// A bundle's contents. Entries are sorted by path and unique; every parent directory is an entry before its children.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What [`ReleaseSpec::format`] says.
    pub format: u32,
    /// The application.
    pub app: AppName,
    /// The authors' name for this release.
    pub version: ReleaseVersion,
    /// Rises with each release that the authors sign.
    pub counter: u64,
    /// How the app is run, probed, drained and stopped.
    pub release: ReleaseSpec,
    /// Files, directories and links, sorted by path.
    #[serde(deserialize_with = "super::canonical::bounded_entries")]
    pub entries: Vec<Entry>,
}

/// One entry of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where it goes, relative to the release directory.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
}

/// The three kinds of entry; nothing else exists in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EntryKind {
    /// A directory, mode 0755.
    Directory {},
    /// A relative symlink that stays inside.
    Link {
        /// Its target, checked by [`EntryPath::check_link`].
        target: String,
    },
    /// A regular file.
    File {
        /// 0644 or 0755: only the executable bit is kept.
        executable: bool,
        /// Size in bytes: the sum of its chunks.
        size: u64,
        /// BLAKE3 of the whole content.
        digest: Digest,
        /// Its content in order.
        chunks: Vec<Chunk>,
    },
}

/// A chunk as a file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// BLAKE3 of the uncompressed bytes.
    pub digest: Digest,
    /// Uncompressed length, 1 to [`crate::limits::CHUNK_MAX`].
    pub length: u32,
}

impl Manifest {
    /// Sum of the sizes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files().map(|(_, size, _)| size).sum()
    }

    /// Path, size and chunks of each file, in order.
    pub fn files(&self) -> impl Iterator<Item = (&EntryPath, u64, &[Chunk])> {
        self.entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::File { size, chunks, .. } => Some((&entry.path, *size, chunks.as_slice())),
            _ => None,
        })
    }

    /// All chunks, sorted by digest, each once.
    pub fn chunks(&self) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = self.files().flat_map(|(_, _, chunks)| chunks).copied().collect();
        chunks.sort_unstable_by_key(|chunk| chunk.digest);
        chunks.dedup_by_key(|chunk| chunk.digest);
        chunks
    }

    /// What names this release.
    #[cfg(feature = "bundle")]
    pub fn release_ref(&self) -> crate::release::ReleaseRef {
        crate::release::ReleaseRef {
            app: self.app.clone(),
            version: self.version.clone(),
            digest: self.digest(),
            counter: self.counter,
        }
    }

    /// BLAKE3 of the canonical bytes: the release's identity.
    #[cfg(feature = "bundle")]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}
