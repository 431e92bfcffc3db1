//! A directory on disk as a bundle's entries and chunks.
//!
//! Scanning cuts and hashes but compresses nothing: what is pushed is often a small part of it. Chunks are read again,
//! checked against their digest and compressed when somebody asks for them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::entry_path::UnsafePath;
use super::ignore::InvalidPattern;
use super::source::threads;
use super::walk::{Found, FoundKind, walk};
use super::{
    Chunk, ChunkSource, Chunker, Compressor, Entry, EntryKind, Manifest, ManifestError, SourceError,
};
use crate::digest::Digest;
use crate::id::{AppName, ReleaseVersion};
use crate::limits::{BUNDLE_BYTES, BUNDLE_ENTRIES};
use crate::spec::ReleaseSpec;

/// A directory that cannot become a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file, directory or link.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The ignore file has a bad line.
    #[error("cannot use {}", .path.display())]
    Ignore {
        /// The file.
        path: PathBuf,
        /// The line.
        #[source]
        source: InvalidPattern,
    },
    /// A path or link that no bundle may have.
    #[error(transparent)]
    Path(#[from] UnsafePath),
    /// A name that is not text.
    #[error("{:?} has a name or link target that is not UTF-8; rename it or list it in .windlassignore", .path)]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// Not a regular file, directory or link.
    #[error("{} is {what}; a bundle holds files, directories and links only: remove it or list it in .windlassignore", .path.display())]
    Special {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A mode that a bundle does not carry.
    #[error("{} is {bit}; a bundle does not carry that: chmod {} it or list it in .windlassignore", .path.display(), minus(.bit))]
    ModeBit {
        /// The file.
        path: PathBuf,
        /// `setuid`, `setgid` or `sticky`.
        bit: &'static str,
    },
    /// Too many entries.
    #[error("more than {BUNDLE_ENTRIES} entries; list what is not needed in .windlassignore")]
    TooManyEntries,
    /// Too large.
    #[error("more than {BUNDLE_BYTES} bytes; list what is not needed in .windlassignore")]
    TooManyBytes,
    /// There is nothing in it.
    #[error("{} holds nothing to put into a bundle", .path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// The entries together break a rule.
    #[error("the bundle would be refused")]
    Manifest(#[from] ManifestError),
}

fn minus(bit: &str) -> &'static str {
    match bit {
        "setuid" => "u-s",
        "setgid" => "g-s",
        _ => "-t",
    }
}

impl BuildError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}

/// Where a chunk's bytes are.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    offset: u64,
    length: u32,
}

/// A scanned directory.
#[derive(Debug)]
pub struct Tree {
    entries: Vec<Entry>,
    files: Vec<PathBuf>,
    places: BTreeMap<Digest, Place>,
}

impl Tree {
    /// Reads `root`, a directory or one file, on all cores. The same contents give the same tree.
    pub fn scan(root: &Path) -> Result<Self, BuildError> {
        let found = walk(root)?;
        if found.is_empty() {
            return Err(BuildError::Empty { path: root.to_owned() });
        }
        let cut = cut_files(&found);
        let mut tree =
            Self { entries: Vec::with_capacity(found.len()), files: Vec::new(), places: BTreeMap::new() };
        for (found, cut) in found.into_iter().zip(cut) {
            let kind = match found.kind {
                FoundKind::Directory => EntryKind::Directory {},
                FoundKind::Link { target } => EntryKind::Link { target },
                FoundKind::File { source, executable, .. } => {
                    let contents = match cut {
                        Some(Ok(contents)) => contents,
                        Some(Err(error)) => return Err(BuildError::Read { path: source, source: error }),
                        None => Contents::default(),
                    };
                    tree.file(source, executable, contents)
                }
            };
            tree.entries.push(Entry { path: found.path, kind });
        }
        Ok(tree)
    }

    fn file(&mut self, source: PathBuf, executable: bool, contents: Contents) -> EntryKind {
        let file = self.files.len();
        self.files.push(source);
        let mut offset = 0;
        for chunk in &contents.chunks {
            self.places.entry(chunk.digest).or_insert(Place { file, offset, length: chunk.length });
            offset += u64::from(chunk.length);
        }
        EntryKind::File { executable, size: offset, digest: contents.digest, chunks: contents.chunks }
    }

    /// The manifest of this tree, checked.
    pub fn manifest(
        &self,
        app: AppName,
        version: ReleaseVersion,
        counter: u64,
        mut release: ReleaseSpec,
    ) -> Result<Manifest, BuildError> {
        // Where the files lay when they were bundled is not part of the release.
        release.files = String::new();
        let manifest = Manifest {
            format: release.format(),
            app,
            version,
            counter,
            release,
            entries: self.entries.clone(),
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// One chunk's bytes, read again from its file and checked.
    pub fn read(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        let place = self.places.get(&digest).ok_or(SourceError::Missing(digest))?;
        let path = || self.files[place.file].clone();
        let mut data = vec![0; place.length as usize];
        let read =
            File::open(&self.files[place.file]).and_then(|file| file.read_exact_at(&mut data, place.offset));
        match read {
            Ok(()) if Digest::of(&data) == digest => Ok(data),
            Ok(()) => Err(SourceError::Changed(path())),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(SourceError::Changed(path())),
            Err(source) => Err(SourceError::Read { path: path(), source }),
        }
    }
}

impl ChunkSource for Tree {
    fn compressed(&self, digest: Digest, compressor: &mut Compressor) -> Result<Vec<u8>, SourceError> {
        compressor.compress(&self.read(digest)?).map_err(SourceError::Compress)
    }
}

#[derive(Debug)]
struct Contents {
    digest: Digest,
    chunks: Vec<Chunk>,
}

impl Default for Contents {
    fn default() -> Self {
        Self { digest: Digest::of(&[]), chunks: Vec::new() }
    }
}

/// Cuts all files on all cores, the largest first so that none is left over at the end. One result per thing found.
fn cut_files(found: &[Found]) -> Vec<Option<io::Result<Contents>>> {
    let mut work: Vec<(usize, &Path, u64)> = found
        .iter()
        .enumerate()
        .filter_map(|(index, found)| match &found.kind {
            FoundKind::File { source, size, .. } => Some((index, source.as_path(), *size)),
            _ => None,
        })
        .collect();
    work.sort_unstable_by_key(|(_, _, size)| std::cmp::Reverse(*size));
    let position = AtomicUsize::new(0);
    let run = || {
        let mut chunker = Chunker::default();
        let mut done = Vec::new();
        while let Some((index, path, _)) = work.get(position.fetch_add(1, Ordering::Relaxed)) {
            done.push((*index, cut_file(path, &mut chunker)));
        }
        done
    };
    let mut results: Vec<Option<io::Result<Contents>>> = Vec::new();
    results.resize_with(found.len(), || None);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads().min(work.len())).map(|_| scope.spawn(run)).collect();
        for worker in workers {
            let done = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (index, result) in done {
                results[index] = Some(result);
            }
        }
    });
    results
}

fn cut_file(path: &Path, chunker: &mut Chunker) -> io::Result<Contents> {
    let mut chunks = Vec::new();
    let mut whole = blake3::Hasher::new();
    chunker.cut(File::open(path)?, |data| {
        // A chunk is never longer than CHUNK_MAX.
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        chunks.push(Chunk { digest: Digest::of(data), length });
        whole.update(data);
        Ok::<_, io::Error>(())
    })?;
    Ok(Contents { digest: Digest::from_bytes(*whole.finalize().as_bytes()), chunks })
}
