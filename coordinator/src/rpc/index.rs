//! Which chunks a bundle holds: the answer to "may this host have that chunk".

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Mutex;
use tonic::Status;
use windlass_proto::bundle::Envelope;
use windlass_proto::digest::Digest;
use windlass_proto::rpc::ErrorKind;

use crate::objects::Objects;

/// Bundles whose chunk lists are kept; a list of a 16 GiB bundle takes 8 MiB.
const BUNDLES: usize = 8;

/// The chunks of one bundle, sorted.
#[derive(Debug)]
pub struct ChunkIndex(Vec<Digest>);

impl ChunkIndex {
    /// All of them.
    pub fn chunks(&self) -> &[Digest] {
        &self.0
    }

    /// Whether the bundle holds the chunk.
    pub fn holds(&self, chunk: &Digest) -> bool {
        self.0.binary_search(chunk).is_ok()
    }
}

/// The lists last used.
#[derive(Debug, Clone, Default)]
pub struct Indexes(Arc<Mutex<VecDeque<Kept>>>);

type Kept = (Digest, Arc<ChunkIndex>);

impl Indexes {
    /// The chunk list of a bundle. One caller reads it, the others wait for it.
    pub async fn get(&self, objects: &Objects, digest: &Digest) -> Result<Arc<ChunkIndex>, Status> {
        let mut kept = self.0.lock().await;
        if let Some(at) = kept.iter().position(|(known, _)| known == digest)
            && let Some(found) = kept.remove(at)
        {
            kept.push_front(found.clone());
            return Ok(found.1);
        }
        let envelope = objects.envelope(digest).await?;
        let read = tokio::task::spawn_blocking(move || {
            let envelope = Envelope::decode(&envelope).map_err(|error| error.to_string())?;
            let manifest = envelope.unverified_manifest().map_err(|error| error.to_string())?;
            let mut chunks: Vec<_> =
                manifest.files().flat_map(|(_, _, chunks)| chunks).map(|chunk| chunk.digest).collect();
            chunks.sort_unstable();
            chunks.dedup();
            chunks.shrink_to_fit();
            Ok::<_, String>(chunks)
        });
        let chunks = match read.await {
            Ok(Ok(chunks)) => chunks,
            Ok(Err(error)) => {
                return Err(
                    ErrorKind::Damaged.status(format!("the stored envelope of {digest} is damaged: {error}"))
                );
            }
            Err(_) => return Err(ErrorKind::Internal.status("reading the envelope failed")),
        };
        let index = Arc::new(ChunkIndex(chunks));
        kept.push_front((*digest, index.clone()));
        kept.truncate(BUNDLES);
        Ok(index)
    }
}
