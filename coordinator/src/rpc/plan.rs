//! Planning for an operator: what is proposed is read, and what hosts lack of the target is counted, beside the driver.
//! Nothing is kept.

use windlass_proto::bundle::{Chunk, Manifest};
use windlass_proto::digest::Digest;
use windlass_proto::limits::PROPOSAL_BYTES;
use windlass_proto::rpc::{self, ErrorKind};
use windlass_rollout::{Fetch, Plan};

use super::Shared;
use super::difference::Differences;
use crate::fleet::{OrderText, Target};
use tonic::Status;

/// Releases that hosts hold and that are read for one plan: each may have a manifest of 64 MiB. Hosts keep few, so these
/// are nearly all; what only others hold counts as not there.
const HELD: usize = 6;

/// A plan, and what is told with it.
pub struct Made {
    /// The plan.
    pub plan: Plan,
    /// The terms of the grant that it lacks.
    pub grant: Option<rpc::GrantTerms>,
    /// What its target changes over the release before it.
    pub difference: Option<rpc::PlanDifference>,
}

/// Makes a plan of an order, or of a proposal in place of its target.
pub async fn make(shared: &Shared, text: OrderText, proposal: Option<rpc::Proposal>) -> Result<Made, Status> {
    let (target, chunks, proposed) = match proposal {
        Some(proposal) => {
            let opened = tokio::task::spawn_blocking(move || open(&proposal)).await;
            let (target, manifest) =
                opened.map_err(|_| ErrorKind::Internal.status("reading the proposal failed"))??;
            (Some(target), Some(manifest.chunks()), Some(manifest))
        }
        None => (None, None, None),
    };
    let resolved = shared.driver.request(move |fleet| {
        let order = fleet.order(&text, target)?;
        let held = fleet.held(&order.app);
        Ok((order, held))
    });
    let (mut order, mut held) = resolved.await?;
    let target = order.to.digest;
    held.retain(|digest| *digest != target);
    held.truncate(HELD);
    let sizes = match chunks {
        Some(chunks) => proposed_sizes(shared, chunks).await,
        None => stored_sizes(shared, &target).await?,
    };
    order.fetch = fetch(shared, sizes, held).await?;
    let planned = shared.driver.ask(move |fleet| {
        let plan = fleet.plan_order(order);
        let lacks = !plan.refusing.is_empty();
        let terms = lacks.then(|| fleet.grant_terms(&plan.order.to, Some(&plan.refusing)));
        (plan, terms)
    });
    let (plan, grant) = planned.await?;
    let difference = match &plan.order.from {
        Some(from) => Differences::tell(shared, from, &plan.order.to, proposed).await?,
        None => None,
    };
    Ok(Made { plan, grant, difference })
}

fn open(proposal: &rpc::Proposal) -> Result<(Target, Manifest), Status> {
    let packed = &proposal.manifest_zstd;
    if packed.len() > PROPOSAL_BYTES {
        return Err(ErrorKind::TooMuch.status(format!(
            "the proposed manifest has {} bytes, at most {PROPOSAL_BYTES} are read; push the bundle and plan with its \
             digest",
            packed.len()
        )));
    }
    let invalid = |error: &dyn std::error::Error| {
        ErrorKind::Invalid.status(format!("not a valid proposal: {}", crate::log::chain(error)))
    };
    let manifest = Manifest::unpack(packed).map_err(|error| invalid(&error))?;
    super::bundle::sound(&manifest)?;
    let bytes = manifest.total_bytes();
    let target = Target {
        release: manifest.release_ref(),
        bytes,
        stored_bytes: bytes,
        spec: manifest.release.clone(),
    };
    Ok((target, manifest))
}

/// What chunks take on the wire; of one that is not here yet its length, which compression hardly exceeds.
async fn proposed_sizes(shared: &Shared, chunks: Vec<Chunk>) -> Vec<(Digest, u64)> {
    let known = shared.objects.known_sizes(chunks.iter().map(|chunk| chunk.digest).collect()).await;
    let sizes = chunks.iter().zip(known);
    sizes.map(|(chunk, known)| (chunk.digest, known.unwrap_or(chunk.length.into()))).collect()
}

async fn stored_sizes(shared: &Shared, target: &Digest) -> Result<Vec<(Digest, u64)>, Status> {
    let index = shared.plan_indexes.get(&shared.objects, target).await?;
    let chunks = index.chunks().to_vec();
    let sizes = shared.objects.chunk_sizes(chunks.clone()).await?;
    Ok(chunks.into_iter().zip(sizes).collect())
}

async fn fetch(shared: &Shared, sizes: Vec<(Digest, u64)>, held: Vec<Digest>) -> Result<Fetch, Status> {
    let (mut releases, mut indexes) = (Vec::new(), Vec::new());
    for digest in held {
        match shared.plan_indexes.get(&shared.objects, &digest).await {
            Ok(index) => {
                releases.push(digest);
                indexes.push(index);
            }
            // An old envelope that is damaged makes the number too large, no more.
            Err(error) => tracing::warn!(bundle = %digest, %error, "a held release is not counted in a plan"),
        }
    }
    let count = move || Fetch::count(sizes, releases, |n, chunk| indexes[n].holds(chunk));
    let counted = tokio::task::spawn_blocking(count).await;
    counted.map_err(|_| ErrorKind::Internal.status("counting what hosts lack failed"))
}
