//! The bundle file `APP-VERSION.wlb`: magic `WLB1`, the envelope with its length (u64, little-endian), then each chunk
//! of the manifest once, sorted by digest: 32 bytes of digest, the compressed length (u32, little-endian), a zstd frame.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

use super::{
    ChunkError, ChunkSource, Compressor, Decompressor, Entry, EntryKind, Envelope, EnvelopeError, Manifest,
    ManifestError, SourceError, compress_all,
};
use crate::digest::Digest;
use crate::limits::{COMPRESSED_MAX, ENVELOPE_BYTES};

const MAGIC: &[u8; 4] = b"WLB1";

/// A bundle file that cannot be written, read or believed to be whole.
#[derive(Debug, thiserror::Error)]
pub enum BundleFileError {
    /// The file cannot be read.
    #[error("cannot read the bundle file")]
    Read(#[source] io::Error),
    /// The file cannot be written.
    #[error("cannot write the bundle file")]
    Write(#[source] io::Error),
    /// Another kind of file.
    #[error("not a bundle file: it does not begin with WLB1")]
    Magic,
    /// It ends early.
    #[error("the bundle file is truncated in {0}")]
    Truncated(String),
    /// It goes on after the last chunk.
    #[error("the bundle file has {0} bytes after its last chunk")]
    Trailing(u64),
    /// The envelope's length is beyond all bounds.
    #[error("the bundle file is damaged: it claims an envelope of {0} bytes")]
    EnvelopeLength(u64),
    /// The envelope is malformed.
    #[error("the bundle file has a bad envelope")]
    Envelope(#[from] EnvelopeError),
    /// The manifest is malformed or breaks a rule.
    #[error("the bundle file has a bad manifest")]
    Manifest(#[from] ManifestError),
    /// Another chunk than the manifest's next.
    #[error("the bundle file has chunk {found} where the manifest has {expected}")]
    ChunkOrder {
        /// As the manifest says.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// A chunk of impossible length.
    #[error("the bundle file is damaged: chunk {digest} claims {length} compressed bytes")]
    ChunkLength {
        /// The chunk.
        digest: Digest,
        /// Its claim.
        length: u32,
    },
    /// A chunk is damaged.
    #[error("the bundle file is damaged")]
    Chunk(#[from] ChunkError),
    /// A file's chunks are not the file.
    #[error("file {path} has the digest {found} instead of {expected}")]
    FileDigest {
        /// The file.
        path: String,
        /// As the manifest says.
        expected: Digest,
        /// As its chunks say.
        found: Digest,
    },
    /// A chunk for the file cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Writes a bundle file; returns its size. The same envelope and chunks give the same bytes.
pub fn write_bundle(
    mut out: impl Write,
    envelope: &Envelope,
    source: &dyn ChunkSource,
) -> Result<u64, BundleFileError> {
    let digests: Vec<Digest> =
        envelope.unverified_manifest()?.chunks().iter().map(|chunk| chunk.digest).collect();
    let bytes = envelope.encode();
    let mut written = (MAGIC.len() + 8 + bytes.len()) as u64;
    let mut put = |data: &[u8]| out.write_all(data).map_err(BundleFileError::Write);
    put(MAGIC)?;
    put(&(bytes.len() as u64).to_le_bytes())?;
    put(&bytes)?;
    compress_all(source, &digests, |digest, compressed| {
        let length = u32::try_from(compressed.len()).unwrap_or(u32::MAX);
        if length > COMPRESSED_MAX {
            return Err(BundleFileError::ChunkLength { digest, length });
        }
        put(digest.as_bytes())?;
        put(&length.to_le_bytes())?;
        put(&compressed)?;
        written += 36 + u64::from(length);
        Ok(())
    })?;
    out.flush().map_err(BundleFileError::Write)?;
    Ok(written)
}

/// An open bundle file: whole in form, its chunks exactly those of its manifest; nothing in it is believed.
#[derive(Debug)]
pub struct BundleFile<R> {
    reader: Mutex<R>,
    envelope: Envelope,
    manifest: Manifest,
    index: BTreeMap<Digest, (u64, u32)>,
}

impl<R: Read + Seek> BundleFile<R> {
    /// Reads the envelope and finds the chunks. Chunk contents are checked when they are read.
    pub fn open(mut reader: R) -> Result<Self, BundleFileError> {
        let size = reader.seek(SeekFrom::End(0)).map_err(BundleFileError::Read)?;
        reader.seek(SeekFrom::Start(0)).map_err(BundleFileError::Read)?;
        let mut buffered = io::BufReader::new(&mut reader);
        if read_array::<4>(&mut buffered, || "its first bytes".into())? != *MAGIC {
            return Err(BundleFileError::Magic);
        }
        let length = u64::from_le_bytes(read_array(&mut buffered, || "its header".into())?);
        if length > ENVELOPE_BYTES as u64 {
            return Err(BundleFileError::EnvelopeLength(length));
        }
        let mut position = 12 + length;
        if position > size {
            return Err(BundleFileError::Truncated("the envelope".into()));
        }
        let mut bytes = Vec::new();
        (&mut buffered).take(length).read_to_end(&mut bytes).map_err(BundleFileError::Read)?;
        let envelope = Envelope::decode(&bytes)?;
        drop(bytes);
        let manifest = envelope.unverified_manifest()?;
        let mut index = BTreeMap::new();
        for chunk in manifest.chunks() {
            let place = || format!("chunk {}", chunk.digest);
            let digest = Digest::from_bytes(read_array(&mut buffered, place)?);
            if digest != chunk.digest {
                return Err(BundleFileError::ChunkOrder { expected: chunk.digest, found: digest });
            }
            let length = u32::from_le_bytes(read_array(&mut buffered, place)?);
            if length == 0 || length > COMPRESSED_MAX {
                return Err(BundleFileError::ChunkLength { digest, length });
            }
            position += 36;
            index.insert(digest, (position, length));
            position += u64::from(length);
            if position > size {
                return Err(BundleFileError::Truncated(place()));
            }
            buffered.seek_relative(i64::from(length)).map_err(BundleFileError::Read)?;
        }
        if position < size {
            return Err(BundleFileError::Trailing(size - position));
        }
        Ok(Self { reader: Mutex::new(reader), envelope, manifest, index })
    }

    /// The envelope: [`Envelope::verify`] leads on.
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The manifest, well-formed but not believed.
    pub const fn unverified_manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Opens every chunk and compares every file with its digest.
    pub fn verify_contents(&self) -> Result<(), BundleFileError> {
        let mut decompressor = Decompressor::new().map_err(BundleFileError::Read)?;
        for Entry { path, kind } in &self.manifest.entries {
            let EntryKind::File { digest, chunks, .. } = kind else { continue };
            let mut whole = blake3::Hasher::new();
            for chunk in chunks {
                let compressed = self.frame(chunk.digest)?;
                whole.update(&decompressor.open(chunk, &compressed)?);
            }
            let found = Digest::from_bytes(*whole.finalize().as_bytes());
            if found != *digest {
                let path = path.to_string();
                return Err(BundleFileError::FileDigest { path, expected: *digest, found });
            }
        }
        Ok(())
    }

    fn frame(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        let (offset, length) = *self.index.get(&digest).ok_or(SourceError::Missing(digest))?;
        let mut compressed = vec![0; length as usize];
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader
            .seek(SeekFrom::Start(offset))
            .and_then(|_| reader.read_exact(&mut compressed))
            .map_err(|source| SourceError::File { digest, source })?;
        Ok(compressed)
    }
}

impl<R: Read + Seek + Send> ChunkSource for BundleFile<R> {
    fn compressed(&self, digest: Digest, _: &mut Compressor) -> Result<Vec<u8>, SourceError> {
        let compressed = self.frame(digest)?;
        let mut decompressor = Decompressor::new().map_err(SourceError::Compress)?;
        decompressor.open_any(digest, &compressed).map_err(SourceError::Damaged)?;
        Ok(compressed)
    }
}

fn read_array<const N: usize>(
    reader: &mut impl Read,
    place: impl FnOnce() -> String,
) -> Result<[u8; N], BundleFileError> {
    let mut bytes = [0; N];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(BundleFileError::Truncated(place()))
        }
        Err(error) => Err(BundleFileError::Read(error)),
    }
}
