//! What a plan's target changes over the release before it. Nothing is kept.

use std::sync::Arc;

use tokio::sync::Mutex;
use tonic::Status;
use windlass_proto::bundle::difference::{Change, Count};
use windlass_proto::bundle::{Difference, Envelope, Manifest};
use windlass_proto::digest::Digest;
use windlass_proto::release::ReleaseRef;
use windlass_proto::rpc::{self, ErrorKind};

use super::Shared;
use crate::objects::Objects;

/// Compares for one caller at a time: two manifests may take 64 MiB each.
#[derive(Debug, Clone, Default)]
pub struct Differences(Arc<Mutex<()>>);

impl Differences {
    /// What `to` changes over `from`; none where they are the same. `proposed` is the manifest of a target that is not stored.
    /// A release before that cannot be read is no reason to refuse a plan: the answer says so.
    pub async fn tell(
        shared: &Shared,
        from: &ReleaseRef,
        to: &ReleaseRef,
        proposed: Option<Manifest>,
    ) -> Result<Option<rpc::PlanDifference>, Status> {
        if from.digest == to.digest {
            return Ok(None);
        }
        let _turn = shared.differences.0.lock().await;
        let old = manifest(&shared.objects, from.digest).await;
        let new = match proposed {
            Some(manifest) => Ok(manifest),
            None => manifest(&shared.objects, to.digest).await,
        };
        let (old, new) = match (old, new) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(why), _) => return Ok(Some(unknown(from, &why))),
            (_, Err(why)) => return Ok(Some(unknown(to, &why))),
        };
        let compared = tokio::task::spawn_blocking(move || Difference::between(&old, &new)).await;
        let compared = compared.map_err(|_| ErrorKind::Internal.status("comparing the releases failed"))?;
        Ok(Some(wire(compared)))
    }
}

/// The manifest of a stored bundle, or why there is none.
async fn manifest(objects: &Objects, digest: Digest) -> Result<Manifest, String> {
    let envelope = objects.envelope(&digest).await.map_err(|error| crate::log::chain(&error))?;
    let read = tokio::task::spawn_blocking(move || {
        let envelope = Envelope::decode(&envelope).map_err(|error| crate::log::chain(&error))?;
        envelope.unverified_manifest().map_err(|error| crate::log::chain(&error))
    });
    read.await.unwrap_or_else(|_| Err("reading its envelope failed".to_owned()))
}

fn unknown(release: &ReleaseRef, why: &str) -> rpc::PlanDifference {
    let unknown = format!("the coordinator cannot read {release}: {why}");
    rpc::PlanDifference { unknown, ..Default::default() }
}

fn wire(difference: Difference) -> rpc::PlanDifference {
    let count = |count: Count| Some(rpc::FileCount { files: count.files, bytes: count.bytes });
    let changes = difference.changes.into_iter();
    rpc::PlanDifference {
        unknown: String::new(),
        changes: changes.map(change).collect(),
        left_out: difference.left_out,
        added: count(difference.added),
        removed: count(difference.removed),
        changed: count(difference.changed),
    }
}

fn change(change: Change) -> rpc::PlanChange {
    // No value that is told is empty.
    let Change { path, from, to } = change;
    rpc::PlanChange { path, from: from.unwrap_or_default(), to: to.unwrap_or_default() }
}
