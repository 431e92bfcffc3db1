//! Writes a release's tree below a staging directory: links or clones what is unchanged, copies chunks the host has, takes the rest
//! as it comes in any order, and verifies everything while writing.
//!
//! Nothing but regular files, directories and links is ever made; all through [`Beneath`].

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::Mode;
use windlass_proto::bundle::{Chunk, ChunkError, Decompressor, EntryKind, Manifest};
use windlass_proto::digest::Digest;
use windlass_proto::phase::Fault;

use super::beneath::Beneath;
use super::intact::{self, Flaw};
use super::pen::{Pen, copy_of};
use super::pool;
use super::sources::{Sharing, Sources};

/// Why a tree could not be written.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The filesystem refused.
    #[error("cannot write {path}")]
    Io {
        /// Path in the release.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A chunk that nobody asked for.
    #[error("chunk {0} was sent but not asked for")]
    Unasked(Digest),
    /// A chunk whose content is not what its name says.
    #[error("chunk {0} is damaged where it came from: its content has another digest")]
    WrongChunk(Digest),
    /// A chunk that is what its name says, and not as long as the manifest says: no host can ever have such a release.
    #[error("the manifest contradicts itself: chunk {digest} has {found} bytes, and it says {signed}")]
    WrongLength {
        /// The chunk.
        digest: Digest,
        /// By the manifest.
        signed: u32,
        /// As it is.
        found: usize,
    },
    /// A file whose chunks are right and whose digest is not: the manifest contradicts itself.
    #[error("file {path} has digest {found}, the manifest says {expected}")]
    WrongFile {
        /// Path in the release.
        path: String,
        /// By the manifest.
        expected: Digest,
        /// As written.
        found: Digest,
    },
    /// A file's chunks do not add up to its size.
    #[error("file {path} has {size} bytes by the manifest but its chunks have {sum}")]
    WrongSize {
        /// Path in the release.
        path: String,
        /// By the manifest.
        size: u64,
        /// Of its chunks.
        sum: u64,
    },
    /// Chunks are missing at the end.
    #[error("{0} chunks are missing")]
    Incomplete(usize),
    /// The tree is not what was written.
    #[error("the staged tree is not as it was written")]
    Flaw(#[from] Flaw),
    /// Told to stop.
    #[error("staging was cancelled")]
    Cancelled,
}

impl UnpackError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Io { .. } | Self::Flaw(_) => Fault::Host,
            Self::Unasked(_) | Self::Incomplete(_) => Fault::Transport,
            // TLS damages nothing on the way: it was stored so, or signed so, and another attempt gets the same.
            Self::WrongChunk(_)
            | Self::WrongFile { .. }
            | Self::WrongSize { .. }
            | Self::WrongLength { .. } => Fault::Policy,
            Self::Cancelled => Fault::Agent,
        }
    }
}

/// What is wrong with a chunk that cannot be used: its content, or what the manifest says of it.
fn wrong(chunk: &Chunk, as_it_is: Result<Vec<u8>, ChunkError>) -> UnpackError {
    let digest = chunk.digest;
    match as_it_is {
        Ok(data) => UnpackError::WrongLength { digest, signed: chunk.length, found: data.len() },
        Err(_) => UnpackError::WrongChunk(digest),
    }
}

/// A chunk that must still come, and where it goes.
#[derive(Debug)]
struct Wanted {
    length: u32,
    places: Vec<(usize, u64)>,
    written: AtomicBool,
}

/// A file that is being written.
#[derive(Debug)]
struct Slot {
    made: bool,
    /// Chunks still to be written.
    left: usize,
}

/// A tree that is being written. Chunks may be put from several threads.
#[derive(Debug)]
pub struct Unpacking {
    tree: Beneath,
    manifest: Arc<Manifest>,
    /// By entry number; directories, links and linked files have no chunks left.
    slots: Vec<Mutex<Slot>>,
    wanted: HashMap<Digest, Wanted>,
    /// The wanted chunks in the order in which files use them.
    order: Vec<Digest>,
    cancelled: AtomicBool,
    shared: AtomicU64,
    reused: AtomicU64,
}

impl Unpacking {
    /// Makes directories, links unchanged files and copies the chunks that the host has. `tree` must be an empty directory.
    pub fn begin(tree: &Path, manifest: Arc<Manifest>, sources: &Sources) -> Result<Self, UnpackError> {
        let tree = Beneath::open(tree).map_err(io_error("."))?;
        for entry in &manifest.entries {
            let path = entry.path.as_str();
            match &entry.kind {
                EntryKind::Directory {} => tree.make_dir(path).map_err(io_error(path))?,
                EntryKind::Link { .. } => {}
                EntryKind::File { size, chunks, .. } => {
                    let sum = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
                    if *size != sum {
                        return Err(UnpackError::WrongSize { path: path.to_owned(), size: *size, sum });
                    }
                }
            }
        }
        let slots = manifest.entries.iter().map(|entry| match &entry.kind {
            EntryKind::File { chunks, .. } => Slot { made: false, left: chunks.len() },
            _ => Slot { made: true, left: 0 },
        });
        let mut unpacking = Self {
            tree,
            slots: slots.map(Mutex::new).collect(),
            wanted: HashMap::new(),
            order: Vec::new(),
            cancelled: AtomicBool::new(false),
            shared: AtomicU64::new(0),
            reused: AtomicU64::new(0),
            manifest,
        };
        let missing = Mutex::new(Vec::new());
        pool::each(unpacking.slots.len(), |index| {
            let lacking = unpacking.fill_locally(index, sources)?;
            if !lacking.is_empty()
                && let Ok(mut missing) = missing.lock()
            {
                missing.push((index, lacking));
            }
            Ok::<_, UnpackError>(())
        })?;
        let mut missing = missing.into_inner().unwrap_or_default();
        missing.sort_unstable_by_key(|(index, _)| *index);
        for (index, lacking) in missing {
            for (chunk, offset) in lacking {
                let order = &mut unpacking.order;
                let wanted = unpacking.wanted.entry(chunk.digest).or_insert_with(|| {
                    order.push(chunk.digest);
                    Wanted { length: chunk.length, places: Vec::new(), written: AtomicBool::new(false) }
                });
                wanted.places.push((index, offset));
            }
        }
        Ok(unpacking)
    }

    /// Chunks that must still come, with their lengths, in the order of the files.
    pub fn missing(&self) -> Vec<(Digest, u32)> {
        let all = self.order.iter().filter_map(|digest| Some((digest, self.wanted.get(digest)?)));
        let missing = all.filter(|(_, wanted)| !wanted.written.load(Ordering::Acquire));
        missing.map(|(digest, wanted)| (*digest, wanted.length)).collect()
    }

    /// Makes the work of all threads end soon.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Files that share their blocks with those of a held release.
    pub fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    /// Bytes linked or copied from what the host had.
    pub fn reused(&self) -> u64 {
        self.reused.load(Ordering::Relaxed)
    }

    /// Takes chunks as they came, compressed. Returns how many were new.
    pub fn put<'a>(&self, chunks: impl Iterator<Item = (Digest, &'a [u8])>) -> Result<usize, UnpackError> {
        let mut decompressor = Decompressor::new().map_err(io_error("."))?;
        let mut pen = Pen::default();
        let mut new = 0;
        for (digest, compressed) in chunks {
            self.check_cancelled()?;
            let wanted = self.wanted.get(&digest).ok_or(UnpackError::Unasked(digest))?;
            let chunk = Chunk { digest, length: wanted.length };
            let data = decompressor
                .open(&chunk, compressed)
                .map_err(|_| wrong(&chunk, decompressor.open_any(digest, compressed)))?;
            if wanted.written.swap(true, Ordering::AcqRel) {
                continue;
            }
            for (index, offset) in &wanted.places {
                self.write(&mut pen, *index, *offset, &data, digest)?;
            }
            new += 1;
        }
        Ok(new)
    }

    /// Makes the links and compares the whole tree with the manifest.
    pub fn finish(&self) -> Result<(), UnpackError> {
        self.check_cancelled()?;
        let missing = self.missing().len();
        if missing > 0 {
            return Err(UnpackError::Incomplete(missing));
        }
        for entry in &self.manifest.entries {
            if let EntryKind::Link { target } = &entry.kind {
                let path = entry.path.as_str();
                self.tree.make_link(path, target).map_err(io_error(path))?;
            }
        }
        intact::check_shape(&self.tree, &self.manifest)?;
        match intact::extras(&self.tree, &self.manifest, 1)?.pop() {
            Some(path) => Err(Flaw::Extra { path }.into()),
            None => Ok(()),
        }
    }

    /// Fills one entry from what the host has; returns the chunks that it has not, with their offsets.
    fn fill_locally(&self, index: usize, sources: &Sources) -> Result<Vec<(Chunk, u64)>, UnpackError> {
        self.check_cancelled()?;
        let entry = &self.manifest.entries[index];
        let EntryKind::File { executable, size, digest, chunks } = &entry.kind else { return Ok(Vec::new()) };
        if chunks.is_empty() {
            let mut pen = Pen::default();
            let file = self.open(&mut pen, index)?;
            return self.complete(file, index, None).map(|()| Vec::new());
        }
        if self.take_whole(index, *executable, *size, digest, sources) {
            self.shared.fetch_add(1, Ordering::Relaxed);
            self.reused.fetch_add(*size, Ordering::Relaxed);
            if let Ok(mut slot) = self.slots[index].lock() {
                *slot = Slot { made: true, left: 0 };
            }
            return Ok(Vec::new());
        }
        let mut pen = Pen::default();
        let mut source = Pen::default();
        let mut lacking = Vec::new();
        let mut offset = 0;
        for chunk in chunks {
            match copy_of(chunk, sources, &mut source) {
                Some(data) => {
                    self.write(&mut pen, index, offset, &data, chunk.digest)?;
                    self.reused.fetch_add(u64::from(chunk.length), Ordering::Relaxed);
                }
                None => lacking.push((*chunk, offset)),
            }
            offset += u64::from(chunk.length);
        }
        Ok(lacking)
    }

    /// Takes a file whole from a held release; false when there is none, it is not what it should be, or this takes a copy
    /// chunk by chunk.
    fn take_whole(
        &self,
        index: usize,
        executable: bool,
        size: u64,
        digest: &Digest,
        sources: &Sources,
    ) -> bool {
        let Some((from, from_path)) = sources.file(digest, executable) else { return false };
        let path = self.manifest.entries[index].path.as_str();
        let taken = match sources.sharing() {
            Sharing::Links => self.tree.hardlink_from(from, from_path, path),
            Sharing::Copies => self.tree.clone_from(from, from_path, path).and_then(|file| {
                Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(intact::file_mode(executable)))?)
            }),
        };
        // Judged by its new name, so that it is this file that was hashed.
        let good = taken.is_ok()
            && self.tree.stat(path).is_ok_and(|stat| intact::is_file(&stat, executable, size))
            && self
                .tree
                .read_file(path)
                .and_then(|mut file| intact::hash(&mut file))
                .is_ok_and(|it| it == *digest);
        if taken.is_ok() && !good {
            // If even that fails, creating the file will, and says so.
            let _ = self.tree.remove(path);
        }
        good
    }

    fn write(
        &self,
        pen: &mut Pen,
        index: usize,
        offset: u64,
        data: &[u8],
        digest: Digest,
    ) -> Result<(), UnpackError> {
        let path = self.manifest.entries[index].path.as_str();
        let file = self.open(pen, index)?;
        file.write_all_at(data, offset).map_err(io_error(path))?;
        let done = self.slots[index].lock().is_ok_and(|mut slot| {
            slot.left -= 1;
            slot.left == 0
        });
        if done { self.complete(file, index, Some(digest)) } else { Ok(()) }
    }

    fn open<'pen>(&self, pen: &'pen mut Pen, index: usize) -> Result<&'pen mut File, UnpackError> {
        let path = self.manifest.entries[index].path.as_str();
        pen.open(index, || {
            let Ok(mut slot) = self.slots[index].lock() else {
                return Err(io::Error::other("a thread died"));
            };
            if slot.made {
                return self.tree.write_file(path);
            }
            slot.made = true;
            self.tree.create_file(path)
        })
        .map_err(io_error(path))
    }

    /// Last step of a file: content as a whole, then its mode. `only` is the digest of its last written chunk.
    fn complete(&self, file: &mut File, index: usize, only: Option<Digest>) -> Result<(), UnpackError> {
        let entry = &self.manifest.entries[index];
        let EntryKind::File { executable, digest, chunks, .. } = &entry.kind else { return Ok(()) };
        let path = entry.path.as_str();
        let found = match (chunks.as_slice(), only) {
            ([_], Some(digest)) => digest,
            _ => {
                io::Seek::rewind(file).map_err(io_error(path))?;
                intact::hash(file).map_err(io_error(path))?
            }
        };
        if found != *digest {
            return Err(UnpackError::WrongFile { path: path.to_owned(), expected: *digest, found });
        }
        let mode = Mode::from_raw_mode(intact::file_mode(*executable));
        rustix::fs::fchmod(file, mode).map_err(|error| io_error(path)(error.into()))
    }

    fn check_cancelled(&self) -> Result<(), UnpackError> {
        if self.cancelled.load(Ordering::Acquire) { Err(UnpackError::Cancelled) } else { Ok(()) }
    }
}

fn io_error(path: &str) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| UnpackError::Io { path, source }
}
