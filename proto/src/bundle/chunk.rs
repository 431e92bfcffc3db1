//! Cutting, compressing and opening chunks.

use std::io::{self, Read};

use fastcdc::v2020::FastCDC;

use super::Chunk;
use crate::digest::Digest;
use crate::limits::{CHUNK_AVERAGE, CHUNK_MAX, CHUNK_MIN, COMPRESSED_MAX};

/// zstd's level for chunks (reference/PERFORMANCE.md).
pub const ZSTD_LEVEL: i32 = 3;

/// Several of the largest chunks, so that the rest is moved to the front seldom.
const BUFFER: usize = 4 * CHUNK_MAX as usize;

/// Compressed bytes that are not the chunk they should be.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// More compressed bytes than any chunk has.
    #[error("chunk {digest} has {length} compressed bytes, at most {COMPRESSED_MAX} are read")]
    TooLarge {
        /// The chunk.
        digest: Digest,
        /// How many.
        length: usize,
    },
    /// Not a zstd frame, or one of more bytes than expected.
    #[error("chunk {digest} cannot be decompressed into {limit} bytes")]
    Decompress {
        /// The chunk.
        digest: Digest,
        /// The bound.
        limit: u32,
        /// What zstd says.
        #[source]
        source: io::Error,
    },
    /// The wrong number of bytes.
    #[error("chunk {digest} has {found} bytes instead of {expected}")]
    Length {
        /// The chunk.
        digest: Digest,
        /// As the manifest says.
        expected: u32,
        /// As it is.
        found: usize,
    },
    /// A frame that does not say how long its chunk is.
    #[error("chunk {0} does not begin with its length; push it with this fleet's version of windlass")]
    Unstated(Digest),
    /// Other bytes.
    #[error("chunk {digest} holds other bytes: their digest is {found}")]
    Digest {
        /// The chunk.
        digest: Digest,
        /// The digest of what is there.
        found: Digest,
    },
}

/// Cuts streams into chunks where their content says (FastCDC 2020). One buffer of 1 MiB, used for many streams.
pub struct Chunker {
    buffer: Vec<u8>,
}

impl Default for Chunker {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER] }
    }
}

impl Chunker {
    /// Reads `source` to its end and hands each chunk's bytes to `each`. Returns the number of bytes read.
    pub fn cut<E: From<io::Error>>(
        &mut self,
        mut source: impl Read,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut total: u64 = 0;
        let mut filled = 0;
        let mut ended = false;
        while !ended {
            while filled < BUFFER && !ended {
                match source.read(&mut self.buffer[filled..]) {
                    Ok(0) => ended = true,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let mut start = 0;
            // A cut is final only when a largest chunk was in sight or the stream has ended.
            while filled - start >= CHUNK_MAX as usize || (ended && start < filled) {
                let length = cut_point(&self.buffer[start..filled]);
                each(&self.buffer[start..start + length])?;
                start += length;
                total += length as u64;
            }
            self.buffer.copy_within(start..filled, 0);
            filled -= start;
        }
        Ok(total)
    }
}

fn cut_point(window: &[u8]) -> usize {
    let cdc = FastCDC::new(window, CHUNK_MIN as usize, CHUNK_AVERAGE as usize, CHUNK_MAX as usize);
    cdc.cut(0, window.len()).1
}

/// Compresses chunks; keeps zstd's tables between them.
pub struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    /// A compressor; fails only without memory.
    pub fn new() -> io::Result<Self> {
        zstd::bulk::Compressor::new(ZSTD_LEVEL).map(Self)
    }

    /// One zstd frame.
    pub fn compress(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        self.0.compress(data)
    }
}

/// Bytes of a compressed chunk in which it says how long it is.
pub const HEAD_BYTES: usize = 18;

/// The length that a compressed chunk's first bytes state; nothing of it is believed yet.
pub fn stated_length(head: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(head).ok().flatten()
}

/// Opens chunks: decompresses within a bound and checks the digest. No other way leads to a chunk's bytes.
pub struct Decompressor(zstd::bulk::Decompressor<'static>);

impl Decompressor {
    /// A decompressor; fails only without memory.
    pub fn new() -> io::Result<Self> {
        zstd::bulk::Decompressor::new().map(Self)
    }

    /// The bytes of a chunk that a manifest names.
    pub fn open(&mut self, chunk: &Chunk, compressed: &[u8]) -> Result<Vec<u8>, ChunkError> {
        let data = self.open_within(chunk.digest, chunk.length.min(CHUNK_MAX), compressed)?;
        if data.len() != chunk.length as usize {
            let (digest, expected) = (chunk.digest, chunk.length);
            return Err(ChunkError::Length { digest, expected, found: data.len() });
        }
        Ok(data)
    }

    /// The bytes of a chunk of unknown length.
    pub fn open_any(&mut self, digest: Digest, compressed: &[u8]) -> Result<Vec<u8>, ChunkError> {
        self.open_within(digest, CHUNK_MAX, compressed)
    }

    fn open_within(&mut self, digest: Digest, limit: u32, compressed: &[u8]) -> Result<Vec<u8>, ChunkError> {
        if compressed.len() > COMPRESSED_MAX as usize {
            return Err(ChunkError::TooLarge { digest, length: compressed.len() });
        }
        let mut data = Vec::with_capacity(limit as usize);
        self.0.decompress_to_buffer(compressed, &mut data).map_err(|source| ChunkError::Decompress {
            digest,
            limit,
            source,
        })?;
        let found = Digest::of(&data);
        if found != digest {
            return Err(ChunkError::Digest { digest, found });
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    /// A reader that gives a few bytes at a time.
    struct Drip<'a>(&'a [u8], usize);
    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len()).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn cut(chunker: &mut Chunker, source: impl Read) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        chunker
            .cut(source, |chunk| {
                chunks.push(chunk.to_vec());
                Ok::<_, io::Error>(())
            })
            .unwrap();
        chunks
    }

    #[test]
    fn streaming_cuts_where_the_whole_would_be_cut() {
        let mut chunker = Chunker::default();
        for length in [0, 1, 16_384, 100_000, 262_144, 1_048_576, 5_000_001] {
            let data = noise(length);
            let whole: Vec<Vec<u8>> = FastCDC::new(&data, 16_384, 65_536, 262_144)
                .map(|chunk| data[chunk.offset..chunk.offset + chunk.length].to_vec())
                .collect();
            assert_eq!(cut(&mut chunker, data.as_slice()), whole, "{length}");
            assert_eq!(cut(&mut chunker, Drip(&data, 70_001)), whole, "{length}");
        }
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let mut chunker = Chunker::default();
        let data = noise(4_000_000);
        let mut changed = data.clone();
        changed.splice(1_000_000..1_000_000, *b"inserted");
        let old = cut(&mut chunker, data.as_slice());
        let new = cut(&mut chunker, changed.as_slice());
        let fresh = new.iter().filter(|chunk| !old.contains(chunk)).count();
        assert!((1..=3).contains(&fresh), "{fresh} of {}", new.len());
    }

    #[test]
    fn chunks_open_only_as_what_they_are_named() {
        let (mut zip, mut unzip) = (Compressor::new().unwrap(), Decompressor::new().unwrap());
        let data = noise(50_000);
        let chunk = Chunk { digest: Digest::of(&data), length: 50_000 };
        let compressed = zip.compress(&data).unwrap();
        assert_eq!(unzip.open(&chunk, &compressed).unwrap(), data);
        assert_eq!(unzip.open_any(chunk.digest, &compressed).unwrap(), data);

        let short = Chunk { length: 49_999, ..chunk };
        assert!(matches!(unzip.open(&short, &compressed), Err(ChunkError::Decompress { .. })));
        let long = Chunk { length: 50_001, ..chunk };
        assert!(matches!(unzip.open(&long, &compressed), Err(ChunkError::Length { found: 50_000, .. })));
        let other = Chunk { digest: Digest::from_bytes([1; 32]), ..chunk };
        assert!(matches!(unzip.open(&other, &compressed), Err(ChunkError::Digest { .. })));
        assert!(matches!(unzip.open(&chunk, &compressed[..100]), Err(ChunkError::Decompress { .. })));
        assert!(matches!(unzip.open(&chunk, b"garbage"), Err(ChunkError::Decompress { .. })));
        assert!(matches!(unzip.open(&chunk, &vec![0; 300_000]), Err(ChunkError::TooLarge { .. })));
        assert_eq!(stated_length(&compressed[..HEAD_BYTES]), Some(50_000));
        assert_eq!(stated_length(b"garbage"), None);
    }

    #[test]
    fn a_decompression_bomb_stops_at_the_bound() {
        let bomb = zstd::bulk::compress(&vec![0; 1 << 30], 1).unwrap();
        let mut unzip = Decompressor::new().unwrap();
        let digest = Digest::from_bytes([0; 32]);
        assert!(matches!(unzip.open_any(digest, &bomb), Err(ChunkError::Decompress { .. })));
    }
}
