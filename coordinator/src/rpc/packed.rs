//! Envelopes as they travel to hosts: compressed against the release that the host has. All hosts of a rollout ask for
//! the same at about the same time, so the last few answers are kept.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;
use tonic::Status;
use windlass_proto::bundle::Envelope;
use windlass_proto::digest::Digest;
use windlass_proto::rpc::ErrorKind;

use crate::objects::Objects;

/// A few rollouts at once, each from a few releases.
const KEPT: usize = 8;

type Key = (Digest, Option<Digest>);

/// The last answers, newest first.
#[derive(Debug, Clone, Default)]
pub struct PackedEnvelopes(Arc<Mutex<VecDeque<(Key, Bytes)>>>);

impl PackedEnvelopes {
    /// The envelope of `digest` for a host that has `base`. A base that is not here is as good as none.
    pub async fn get(
        &self,
        objects: &Objects,
        digest: Digest,
        base: Option<Digest>,
    ) -> Result<Bytes, Status> {
        // Held while packing: who asks for the same meanwhile shall wait for it and not do it again.
        let mut kept = self.0.lock().await;
        if let Some((_, packed)) = kept.iter().find(|(key, _)| *key == (digest, base)) {
            return Ok(packed.clone());
        }
        let envelope = objects.envelope(&digest).await?;
        let base_envelope = match base {
            Some(base) => objects.envelope(&base).await.ok(),
            None => None,
        };
        let packed = tokio::task::spawn_blocking(move || pack(&envelope, base_envelope.as_deref())).await;
        let packed = packed.map_err(io::Error::other).flatten().map_err(|error| {
            ErrorKind::Internal.status(format!("cannot pack the envelope of {digest}: {error}"))
        })?;
        kept.push_front(((digest, base), packed.clone()));
        kept.truncate(KEPT);
        Ok(packed)
    }
}

fn pack(envelope: &[u8], base: Option<&[u8]>) -> io::Result<Bytes> {
    let envelope = Envelope::decode(envelope).map_err(io::Error::other)?;
    let base = base.and_then(|base| Envelope::decode(base).ok());
    envelope.pack(base.as_ref()).map(Bytes::from)
}
