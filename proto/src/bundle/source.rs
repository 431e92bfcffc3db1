//! Where a bundle's chunks come from, and compressing many of them on all cores in order and in bounded memory.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ChunkError, Compressor};
use crate::digest::Digest;

/// Gives chunks by digest, compressed. What it gives has been checked against the digest.
pub trait ChunkSource: Sync {
    /// One chunk as a zstd frame.
    fn compressed(&self, digest: Digest, compressor: &mut Compressor) -> Result<Vec<u8>, SourceError>;
}

/// A chunk that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source does not have it.
    #[error("chunk {0} is not there")]
    Missing(Digest),
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file is no longer what it was when the tree was scanned.
    #[error("{} changed while the bundle was being made; try again when it is at rest", .0.display())]
    Changed(PathBuf),
    /// The bundle file cannot be read.
    #[error("cannot read chunk {digest} from the bundle file")]
    File {
        /// The chunk.
        digest: Digest,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The chunk is damaged.
    #[error("the bundle file is damaged")]
    Damaged(#[source] ChunkError),
    /// zstd cannot work.
    #[error("cannot compress a chunk")]
    Compress(#[source] io::Error),
}

/// Chunks compressed by one round of all threads: enough to keep them busy, 16 MiB at most on two cores.
const PER_THREAD: usize = 32;

/// The number of threads for work on many chunks or files.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Hands all `digests` to `each`, in order, compressed on all cores. While `each` takes one round's chunks, the next is
/// being compressed, so memory is bounded by two rounds. Ends at the first error of either side.
pub fn compress_all<E: From<SourceError>>(
    source: &dyn ChunkSource,
    digests: &[Digest],
    mut each: impl FnMut(Digest, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads();
    let compressors = (0..threads.min(digests.len())).map(|_| Compressor::new());
    let mut compressors =
        compressors.collect::<io::Result<Vec<_>>>().map_err(|error| E::from(SourceError::Compress(error)))?;
    let mut ready: Vec<(Digest, Vec<u8>)> = Vec::new();
    for round in digests.chunks(threads * PER_THREAD) {
        let position = &AtomicUsize::new(0);
        ready = std::thread::scope(|scope| {
            let workers: Vec<_> = compressors
                .iter_mut()
                .map(|compressor| scope.spawn(move || compress_round(source, round, position, compressor)))
                .collect();
            for (digest, compressed) in ready.drain(..) {
                each(digest, compressed)?;
            }
            let mut done: Vec<(usize, Result<Vec<u8>, SourceError>)> = Vec::with_capacity(round.len());
            for worker in workers {
                done.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done.sort_unstable_by_key(|(index, _)| *index);
            let chunk = |(index, result): (usize, Result<_, _>)| result.map(|bytes| (round[index], bytes));
            Ok::<_, E>(done.into_iter().map(chunk).collect::<Result<Vec<_>, _>>()?)
        })?;
    }
    ready.into_iter().try_for_each(|(digest, compressed)| each(digest, compressed))
}

fn compress_round(
    source: &dyn ChunkSource,
    round: &[Digest],
    position: &AtomicUsize,
    compressor: &mut Compressor,
) -> Vec<(usize, Result<Vec<u8>, SourceError>)> {
    let mut done = Vec::new();
    loop {
        let index = position.fetch_add(1, Ordering::Relaxed);
        let Some(digest) = round.get(index) else { return done };
        done.push((index, source.compressed(*digest, compressor)));
    }
}
