//! The manifest's one byte form, and the rules that every manifest keeps.

use std::collections::HashMap;
use std::fmt;
use std::io;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::{Entry, EntryKind, EntryPath, Manifest};
use crate::digest::Digest;
use crate::limits::{BUNDLE_BYTES, BUNDLE_ENTRIES, CHUNK_MAX, MANIFEST_BYTES};
use crate::version::MANIFEST_FORMAT;

/// Bytes that are not a manifest, or a manifest that breaks a rule.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than any manifest may be.
    #[error("the manifest has {0} bytes, at most {MANIFEST_BYTES} are read")]
    TooLarge(usize),
    /// Not a whole zstd frame.
    #[error("the manifest cannot be decompressed")]
    Decompress(#[source] io::Error),
    /// Not JSON of a manifest; also a hostile path, too many entries or trailing bytes.
    #[error("malformed manifest")]
    Malformed(#[source] serde_json::Error),
    /// Valid JSON in another spelling: two spellings of one manifest would be two digests.
    #[error("the manifest is not in canonical form")]
    NotCanonical,
    /// Written by a later version.
    #[error(
        "the manifest has format {0}, this program reads up to {MANIFEST_FORMAT}; install a newer version"
    )]
    Format(u32),
    /// One release would have two digests.
    #[error("the manifest says format {given}, but what it holds is format {needed}")]
    WrongFormat {
        /// What it says.
        given: u32,
        /// What its release needs.
        needed: u32,
    },
    /// More entries than any bundle may have.
    #[error("the bundle has more than {BUNDLE_ENTRIES} entries")]
    TooManyEntries,
    /// Two entries for one path.
    #[error("duplicate entry {0}")]
    Duplicate(EntryPath),
    /// Entries out of order.
    #[error("entry {0} is out of order")]
    Unsorted(EntryPath),
    /// A parent directory is no entry.
    #[error("entry {0} has no entry for its directory")]
    NoParent(EntryPath),
    /// Something lies in a file or beneath a link.
    #[error("entry {path} lies beneath {parent}, which is a {kind}")]
    BadParent {
        /// The entry.
        path: EntryPath,
        /// What is above it.
        parent: String,
        /// `file` or `link`.
        kind: &'static str,
    },
    /// A link that leaves the bundle.
    #[error("unsafe link")]
    Link(#[source] super::entry_path::UnsafePath),
    /// A link that climbs back out of another link: where it ends cannot be told from its text.
    #[error("link {path} -> {target} climbs with \"..\" after passing through the link {through}")]
    ClimbingLink {
        /// The link.
        path: EntryPath,
        /// Its target.
        target: String,
        /// The link on its way.
        through: String,
    },
    /// A file whose chunks do not add up.
    #[error("file {path} has size {size}, but its chunks have {chunks} bytes")]
    Size {
        /// The file.
        path: EntryPath,
        /// What it claims.
        size: u64,
        /// What its chunks add up to.
        chunks: u64,
    },
    /// A chunk of no or too great length.
    #[error("file {path} has a chunk of {length} bytes; a chunk has 1 to {CHUNK_MAX}")]
    ChunkLength {
        /// The file.
        path: EntryPath,
        /// The chunk's length.
        length: u32,
    },
    /// One chunk with two lengths.
    #[error("chunk {digest} has both {one} and {two} bytes")]
    ChunkConflict {
        /// The chunk.
        digest: Digest,
        /// Its length in one place.
        one: u32,
        /// And in another.
        two: u32,
    },
    /// All files together are larger than any bundle may be.
    #[error("the files have more than {BUNDLE_BYTES} bytes together")]
    TooManyBytes,
}

impl Manifest {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        #[expect(
            clippy::expect_used,
            reason = "writing plain structs, string-keyed maps and numbers to memory cannot fail"
        )]
        serde_json::to_vec(self).expect("plain data encodes")
    }

    /// Reads canonical bytes and checks every rule. What it returns is well-formed, not trusted.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
        let mut comparison = Comparison { rest: bytes };
        serde_json::to_writer(&mut comparison, &manifest).map_err(|_| ManifestError::NotCanonical)?;
        if !comparison.rest.is_empty() {
            return Err(ManifestError::NotCanonical);
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks every rule that the types do not already keep.
    pub fn check(&self) -> Result<(), ManifestError> {
        if !(1..=MANIFEST_FORMAT).contains(&self.format) {
            return Err(ManifestError::Format(self.format));
        }
        if self.format != self.release.format() {
            let (given, needed) = (self.format, self.release.format());
            return Err(ManifestError::WrongFormat { given, needed });
        }
        if self.entries.len() > BUNDLE_ENTRIES {
            return Err(ManifestError::TooManyEntries);
        }
        for pair in self.entries.windows(2) {
            let [before, entry] = pair else { continue };
            match before.path.cmp(&entry.path) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Err(ManifestError::Duplicate(entry.path.clone())),
                std::cmp::Ordering::Greater => return Err(ManifestError::Unsorted(entry.path.clone())),
            }
        }
        let kinds: HashMap<&str, &EntryKind> =
            self.entries.iter().map(|entry| (entry.path.as_str(), &entry.kind)).collect();
        for entry in &self.entries {
            check_parent(entry, &kinds)?;
            if let EntryKind::Link { target } = &entry.kind {
                check_target(&entry.path, target, &kinds)?;
            }
        }
        self.check_sizes()
    }

    fn check_sizes(&self) -> Result<(), ManifestError> {
        let mut total: u64 = 0;
        let mut lengths: HashMap<Digest, u32> = HashMap::new();
        for (path, size, chunks) in self.files() {
            let mut sum: u64 = 0;
            for chunk in chunks {
                if chunk.length == 0 || chunk.length > CHUNK_MAX {
                    return Err(ManifestError::ChunkLength { path: path.clone(), length: chunk.length });
                }
                sum += u64::from(chunk.length);
                let known = *lengths.entry(chunk.digest).or_insert(chunk.length);
                if known != chunk.length {
                    let digest = chunk.digest;
                    return Err(ManifestError::ChunkConflict { digest, one: known, two: chunk.length });
                }
            }
            if sum != size {
                return Err(ManifestError::Size { path: path.clone(), size, chunks: sum });
            }
            total = total.saturating_add(size);
            if total > BUNDLE_BYTES {
                return Err(ManifestError::TooManyBytes);
            }
        }
        Ok(())
    }
}

fn check_parent(entry: &Entry, kinds: &HashMap<&str, &EntryKind>) -> Result<(), ManifestError> {
    let Some(parent) = entry.path.parent() else { return Ok(()) };
    let kind = match kinds.get(parent) {
        Some(EntryKind::Directory {}) => return Ok(()),
        Some(EntryKind::File { .. }) => "file",
        Some(EntryKind::Link { .. }) => "link",
        None => return Err(ManifestError::NoParent(entry.path.clone())),
    };
    Err(ManifestError::BadParent { path: entry.path.clone(), parent: parent.to_owned(), kind })
}

/// A link's text alone stays inside, and no `..` follows a part that is itself a link. Then it ends inside by
/// induction: up to the first link on its way it walks real directories, that link ends inside, and from there it only
/// descends.
fn check_target(
    path: &EntryPath,
    target: &str,
    kinds: &HashMap<&str, &EntryKind>,
) -> Result<(), ManifestError> {
    path.check_link(target).map_err(ManifestError::Link)?;
    let mut way = path.parent().unwrap_or_default().to_owned();
    let mut through: Option<String> = None;
    for part in target.split('/') {
        match (part, &through) {
            ("" | ".", _) => {}
            ("..", Some(link)) => {
                return Err(ManifestError::ClimbingLink {
                    path: path.clone(),
                    target: target.to_owned(),
                    through: link.clone(),
                });
            }
            ("..", None) => way.truncate(way.rfind('/').unwrap_or(0)),
            (_, Some(_)) => {}
            (part, None) => {
                if !way.is_empty() {
                    way.push('/');
                }
                way.push_str(part);
                if matches!(kinds.get(way.as_str()), Some(EntryKind::Link { .. })) {
                    through = Some(way.clone());
                }
            }
        }
    }
    Ok(())
}

/// Stops at the first entry too many instead of reading a million of them first.
pub(super) fn bounded_entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<Entry>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of entries")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Entry>, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = seq.next_element()? {
                if entries.len() == BUNDLE_ENTRIES {
                    return Err(A::Error::custom(format!("more than {BUNDLE_ENTRIES} entries")));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_seq(Bounded)
}

/// Takes what is written and compares it with what is expected, without a second copy of a large manifest.
struct Comparison<'a> {
    rest: &'a [u8],
}

impl io::Write for Comparison<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.rest.strip_prefix(data) {
            Some(rest) => self.rest = rest,
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
