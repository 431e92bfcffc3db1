//! Large things on disk: chunks, signed envelopes, evidence. Never in the state store.
//!
//! `chunks/ab/<hex>` and `envelopes/<hex>` are named by content and written once; what is visible is complete and on
//! disk. Writing goes through `object_store` with fsync; chunks are read with plain file reads, many per trip to the
//! blocking threads, because a trip per chunk would cost more than the read.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use windlass_proto::bundle::chunk::{HEAD_BYTES, stated_length};
use windlass_proto::bundle::{Chunk, ChunkError, Decompressor};
use windlass_proto::digest::Digest;

/// Chunks written at the same time: their fsyncs share the file system's commits.
const PARALLEL_PUTS: usize = 16;

/// Why an object could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The directory cannot be used.
    #[error("cannot open the object directory {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Reading or writing failed.
    #[error("cannot {action} {name}")]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The object.
        name: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Bytes that are not what their digest says.
    #[error(transparent)]
    BadChunk(ChunkError),
    /// An object that is not there.
    #[error("{name} is not stored here")]
    Missing {
        /// The object.
        name: String,
    },
}

/// The objects of one coordinator.
#[derive(Debug, Clone)]
pub struct Objects {
    root: Arc<PathBuf>,
    store: Arc<dyn ObjectStore>,
}

/// What storing some chunks did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Chunks written.
    pub new: u64,
    /// Chunks that were there before.
    pub known: u64,
    /// Compressed bytes written.
    pub bytes: u64,
}

impl Objects {
    /// Opens or makes the directory. Blocks.
    pub fn open(root: &FsPath) -> Result<Self, ObjectError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| ObjectError::Open {
            path: root.to_owned(),
            source,
        };
        crate::private::create(root).map_err(|error| failed(error.into()))?;
        let store = LocalFileSystem::new_with_prefix(root).map_err(|error| failed(error.into()))?;
        Ok(Self { root: Arc::new(root.to_owned()), store: Arc::new(store.with_fsync(true)) })
    }

    fn chunk_file(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("chunks").join(&hex[..2]).join(hex)
    }

    /// Which of these chunks are not stored, in order.
    pub async fn missing(&self, digests: Vec<Digest>) -> Vec<Digest> {
        let this = self.clone();
        let absent = move || -> Vec<Digest> {
            digests.into_iter().filter(|digest| !this.chunk_file(digest).exists()).collect()
        };
        joined(tokio::task::spawn_blocking(absent).await)
    }

    /// Checks and stores chunks (digest, zstd frame).
    pub async fn put_chunks(&self, chunks: Vec<(Digest, Bytes)>) -> Result<Stored, ObjectError> {
        let this = self.clone();
        let mut stored = Stored::default();
        let checked = joined(tokio::task::spawn_blocking(move || this.check_chunks(chunks)).await)?;
        stored.known = checked.known;
        let puts = checked.new.into_iter().map(|(digest, frame)| {
            let hex = digest.hex();
            let name = Path::from(format!("chunks/{}/{hex}", &hex[..2]));
            async move {
                let length = frame.len() as u64;
                Ok::<_, ObjectError>((self.put_new(&name, frame).await?, length))
            }
        });
        let mut puts = futures::stream::iter(puts).buffer_unordered(PARALLEL_PUTS);
        while let Some(done) = puts.next().await {
            match done? {
                (true, bytes) => {
                    stored.new += 1;
                    stored.bytes += bytes;
                }
                (false, _) => stored.known += 1,
            }
        }
        Ok(stored)
    }

    fn check_chunks(&self, chunks: Vec<(Digest, Bytes)>) -> Result<Checked, ObjectError> {
        let mut checked = Checked { new: Vec::with_capacity(chunks.len()), known: 0 };
        let mut decompressor =
            Decompressor::new().map_err(|error| failed("check", "a chunk".to_owned(), error))?;
        for (digest, frame) in chunks {
            // Everybody's chunks are checked, also known ones: a sender must not learn from the answer what is stored
            // under a digest whose bytes it does not have.
            let data = decompressor.open_any(digest, &frame).map_err(ObjectError::BadChunk)?;
            // So that a manifest is compared with the first bytes of its chunks and not with all of them.
            if stated_length(&frame) != Some(data.len() as u64) {
                return Err(ObjectError::BadChunk(ChunkError::Unstated(digest)));
            }
            if self.chunk_file(&digest).exists() {
                checked.known += 1;
            } else {
                checked.new.push((digest, frame));
            }
        }
        Ok(checked)
    }

    /// Compressed sizes of chunks; an error names the first that is missing.
    pub async fn chunk_sizes(&self, digests: Vec<Digest>) -> Result<Vec<u64>, ObjectError> {
        let this = self.clone();
        let sizes = move || {
            let size = |digest: &Digest| match std::fs::metadata(this.chunk_file(digest)) {
                Ok(meta) => Ok(meta.len()),
                Err(error) => Err(failed("read", format!("chunk {digest}"), error)),
            };
            digests.iter().map(size).collect()
        };
        joined(tokio::task::spawn_blocking(sizes).await)
    }

    /// The first stored chunk that has another length than this, and the length that it has.
    pub async fn contradiction(&self, chunks: Vec<Chunk>) -> Result<Option<(Chunk, u64)>, ObjectError> {
        let this = self.clone();
        let compare = move || {
            for chunk in chunks {
                let length = this.length(&chunk.digest)?;
                if length != u64::from(chunk.length) {
                    return Ok(Some((chunk, length)));
                }
            }
            Ok(None)
        };
        joined(tokio::task::spawn_blocking(compare).await)
    }

    /// Uncompressed length of a stored chunk. Blocks.
    fn length(&self, digest: &Digest) -> Result<u64, ObjectError> {
        let reading = |error| failed("read", format!("chunk {digest}"), error);
        let mut file = File::open(self.chunk_file(digest)).map_err(reading)?;
        let mut frame = Vec::with_capacity(HEAD_BYTES);
        (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut frame).map_err(reading)?;
        if let Some(length) = stated_length(&frame) {
            return Ok(length);
        }
        // Stored by a version that took such, too.
        file.read_to_end(&mut frame).map_err(reading)?;
        let mut decompressor = Decompressor::new().map_err(reading)?;
        let data = decompressor.open_any(*digest, &frame).map_err(ObjectError::BadChunk)?;
        Ok(data.len() as u64)
    }

    /// Compressed sizes of the chunks that are stored, in order.
    pub async fn known_sizes(&self, digests: Vec<Digest>) -> Vec<Option<u64>> {
        let this = self.clone();
        let size =
            move |digest: &Digest| std::fs::metadata(this.chunk_file(digest)).ok().map(|meta| meta.len());
        joined(tokio::task::spawn_blocking(move || digests.iter().map(size).collect()).await)
    }

    /// Reads chunks in order until `bytes` of them are read; at least one. Blocks: call it on a blocking thread.
    pub fn read_some(&self, digests: &[Digest], bytes: usize) -> Result<Vec<(Digest, Vec<u8>)>, ObjectError> {
        let mut read = Vec::new();
        let mut total = 0;
        for digest in digests {
            let path = self.chunk_file(digest);
            let frame =
                std::fs::read(path).map_err(|error| failed("read", format!("chunk {digest}"), error))?;
            total += frame.len();
            read.push((*digest, frame));
            if total >= bytes {
                break;
            }
        }
        Ok(read)
    }

    /// Stores a bundle's signed envelope; on disk when it returns.
    pub async fn put_envelope(&self, digest: &Digest, envelope: Bytes) -> Result<(), ObjectError> {
        let name = Path::from(format!("envelopes/{}", digest.hex()));
        self.put_over(&name, envelope).await
    }

    /// A bundle's signed envelope.
    pub async fn envelope(&self, digest: &Digest) -> Result<Bytes, ObjectError> {
        self.get(&Path::from(format!("envelopes/{}", digest.hex()))).await
    }

    /// Stores what a host froze before its first revert in a rollout; what came first stays.
    pub async fn put_evidence(&self, rollout: &str, host: &str, evidence: Bytes) -> Result<(), ObjectError> {
        self.put_new(&Path::from(format!("evidence/{rollout}/{host}")), evidence).await.map(|_| ())
    }

    /// What a host froze before a revert, where there is such.
    pub async fn evidence(&self, rollout: &str, host: &str) -> Result<Option<Bytes>, ObjectError> {
        match self.get(&Path::from(format!("evidence/{rollout}/{host}"))).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ObjectError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes unless it is there; says whether it wrote.
    async fn put_new(&self, name: &Path, bytes: Bytes) -> Result<bool, ObjectError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(name, PutPayload::from_bytes(bytes), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(failed("write", name.to_string(), error)),
        }
    }

    async fn put_over(&self, name: &Path, bytes: Bytes) -> Result<(), ObjectError> {
        let done = self.store.put(name, PutPayload::from_bytes(bytes)).await;
        done.map(|_| ()).map_err(|error| failed("write", name.to_string(), error))
    }

    async fn get(&self, name: &Path) -> Result<Bytes, ObjectError> {
        let result = match self.store.get(name).await {
            Ok(result) => result.bytes().await,
            Err(error) => Err(error),
        };
        match result {
            Ok(bytes) => Ok(bytes),
            Err(object_store::Error::NotFound { .. }) => Err(ObjectError::Missing { name: name.to_string() }),
            Err(error) => Err(failed("read", name.to_string(), error)),
        }
    }
}

struct Checked {
    new: Vec<(Digest, Bytes)>,
    known: u64,
}

fn failed(
    action: &'static str,
    name: String,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ObjectError {
    ObjectError::Io { action, name, source: source.into() }
}

fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
