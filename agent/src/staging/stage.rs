//! The whole way of a release onto this host.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use windlass_proto::bundle::{AuthorPublicKey, EntryKind, Envelope, Manifest, Trust, Verified};
use windlass_proto::grant::Leave;
use windlass_proto::id::{AppName, OpId};
use windlass_proto::release::ReleaseRef;

use super::accept;
use super::failure::StageError;
use super::fetch::{FetchError, Fetcher, Patience};
use super::remains;
use super::room::{self, Need};
use super::sources::{Sharing, Sources};
use super::unpack::{UnpackError, Unpacking};
use crate::config::HostPolicy;
use crate::durable;
use crate::failpoint::{self, Barrier};
use crate::held::{self, HeldError};
use crate::layout::{ENVELOPE, ENVELOPE_MODE, Layout, TREE};
use crate::retain;

/// An order to stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The operation; names the staging directory.
    pub op: OpId,
    /// The release.
    pub release: ReleaseRef,
    /// Why its counter is right.
    pub leave: Leave,
    /// Highest counter of the app that this host has seen, as the journal knows.
    pub seen: u64,
}

/// A release that is complete on this host, and what it took.
#[derive(Debug, Clone)]
pub struct Staged {
    /// Its manifest, believed.
    pub manifest: Arc<Manifest>,
    /// Bytes that came over the network.
    pub bytes_fetched: u64,
    /// Bytes linked or copied from what the host had.
    pub bytes_reused: u64,
    /// Files that share their blocks with those of another release.
    pub files_shared: u64,
    /// How long it took.
    pub took: std::time::Duration,
    /// It was complete before.
    pub already_held: bool,
}

/// A policy whose keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not a key.
    #[error("policy.author_keys in agent.toml")]
    Key(#[from] windlass_proto::bundle::KeyError),
    /// An impossible threshold.
    #[error("policy.threshold in agent.toml")]
    Threshold(#[from] windlass_proto::bundle::dsse::InvalidThreshold),
}

/// Stages releases on this host.
#[derive(Debug, Clone)]
pub struct Stager {
    layout: Layout,
    policy: Arc<HostPolicy>,
    trust: Arc<Trust>,
    patience: Patience,
    pub(super) sharing: Sharing,
}

impl Stager {
    /// A stager that believes the policy's author keys.
    pub fn new(layout: Layout, policy: HostPolicy, patience: Patience) -> Result<Self, PolicyError> {
        let keys = policy.author_keys.iter().map(|key| key.parse::<AuthorPublicKey>());
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let trust = Arc::new(Trust::new(keys, policy.threshold)?);
        let sharing = Sharing::of(&policy, nix::unistd::Uid::effective().is_root());
        Ok(Self { layout, policy: Arc::new(policy), trust, patience, sharing })
    }

    /// The pinned author keys.
    pub fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust)
    }

    /// Brings a release onto this host. At once done when it is there and intact; can be repeated at will. On `cancel`,
    /// or when the future is dropped, writing stops soon.
    pub async fn stage(
        &self,
        channel: Channel,
        order: &Order,
        cancel: CancellationToken,
    ) -> Result<Staged, StageError> {
        let started = Instant::now();
        let held = self.clone();
        let held_order = order.clone();
        if let Some(manifest) = blocking(move || held.already_held(&held_order)).await? {
            let took = started.elapsed();
            tracing::info!(op = %order.op, release = %order.release, "release already held");
            return Ok(Staged {
                manifest: Arc::new(manifest),
                bytes_fetched: 0,
                bytes_reused: 0,
                files_shared: 0,
                took,
                already_held: true,
            });
        }
        let fetcher = Fetcher::new(channel, order.release.digest, self.patience.clone(), cancel);
        let result = self.fetch_and_unpack(&fetcher, order).await;
        let cleaner = self.clone();
        let (order_of, staging) = (order.clone(), self.layout.staging_of(&order.op));
        let (manifest, unpacking) = match result {
            Ok(staged) => staged,
            Err(error) => {
                let keep = error.leaves_remains();
                let cleaned = blocking(move || {
                    let ReleaseRef { app, digest, .. } = &order_of.release;
                    let cleaned = match keep {
                        true => remains::keep_or_wipe(&cleaner.layout, &staging, app, digest),
                        false => durable::remove_tree(&staging),
                    };
                    // This may come after what prunes the app, so that older remains would lie in the trash for long.
                    retain::empty_trash(&cleaner.layout);
                    cleaned.map_err(io_error("remove", &staging))
                });
                if let Err(left) = cleaned.await {
                    tracing::warn!(op = %order.op, error = left.reason(), "staging directory left behind");
                }
                return Err(error);
            }
        };
        let staged = Staged {
            manifest,
            bytes_fetched: fetcher.received(),
            bytes_reused: unpacking.reused(),
            files_shared: unpacking.shared(),
            took: started.elapsed(),
            already_held: false,
        };
        tracing::info!(
            op = %order.op,
            release = %order.release,
            bytes_fetched = staged.bytes_fetched,
            bytes_reused = staged.bytes_reused,
            files_shared = staged.files_shared,
            seconds = staged.took.as_secs_f64(),
            "release staged"
        );
        Ok(staged)
    }

    async fn fetch_and_unpack(
        &self,
        fetcher: &Fetcher,
        order: &Order,
    ) -> Result<(Arc<Manifest>, Arc<Unpacking>), StageError> {
        let (this, app) = (self.clone(), order.release.app.clone());
        let base = blocking(move || Ok(this.base(&app))).await?;
        let bytes = fetcher.envelope(base.as_ref().map(Envelope::digest)).await?;
        let this = self.clone();
        let begun = order.clone();
        let (manifest, unpacking) = blocking(move || {
            let envelope = accept::open(&bytes, base.as_ref(), &begun.release)?;
            let verified = accept::believe(&envelope, &this.trust, &begun.release)?;
            accept::accept(&verified, &begun, &this.policy)?;
            this.begin(&begun, &verified, &envelope.encode())
        })
        .await?;
        // A future that is dropped takes its threads with it.
        let _guard = CancelOnDrop(unpacking.clone());
        fetcher.chunks(&unpacking).await.map_err(|error| match error {
            FetchError::Unpack(source) => unpack_error(order, source),
            other => other.into(),
        })?;
        let this = self.clone();
        let finished = order.clone();
        let done = unpacking.clone();
        blocking(move || this.finish(&finished, &done)).await?;
        Ok((manifest, unpacking))
    }

    /// The release's manifest if it is here, intact and still allowed. A damaged one is put away.
    fn already_held(&self, order: &Order) -> Result<Option<Manifest>, StageError> {
        let ReleaseRef { app, digest, .. } = &order.release;
        let dir = self.layout.release(app, digest);
        if !dir.exists() {
            return Ok(None);
        }
        let intact = held::verify(&self.layout, app, digest);
        match (intact, held::envelope(&dir)) {
            (Ok(manifest), Ok(envelope)) => {
                let verified = accept::believe(&envelope, &self.trust, &order.release)?;
                accept::accept(&verified, order, &self.policy)?;
                Ok(Some(manifest))
            }
            (intact, _) => {
                if let Err(error @ HeldError::Flaw { .. }) = &intact {
                    let error: &dyn std::error::Error = error;
                    tracing::warn!(%app, %digest, error, "held release is damaged and is staged again");
                }
                durable::discard(&dir, &self.layout.trash()).map_err(io_error("put away", &dir))?;
                Ok(None)
            }
        }
    }

    /// The envelope of a release of the app that this host has, for the next one to build on.
    fn base(&self, app: &AppName) -> Option<Envelope> {
        let in_use = crate::link::current(&self.layout, app).ok().flatten();
        let base = in_use.or_else(|| held::digests(&self.layout, app).pop())?;
        held::envelope(&self.layout.release(app, &base)).ok()
    }

    fn begin(
        &self,
        order: &Order,
        verified: &Verified,
        envelope: &[u8],
    ) -> Result<(Arc<Manifest>, Arc<Unpacking>), StageError> {
        let manifest = Arc::new(verified.manifest().clone());
        let app = &order.release.app;
        self.layout.create_app(app).map_err(|error| StageError::Io {
            action: "create",
            path: error.path,
            source: error.source,
        })?;
        let staging = self.layout.staging_of(&order.op);
        if staging.exists() {
            let wiped = remains::keep_or_wipe(&self.layout, &staging, app, &order.release.digest);
            wiped.map_err(io_error("clear", &staging))?;
        }
        let sources = self.sources(app);
        let need = need_of(&manifest, &sources, envelope.len());
        room::check(self.layout.state(), need).map_err(io_error("look at", self.layout.state()))??;

        let tree = staging.join(TREE);
        std::fs::create_dir_all(&tree).map_err(io_error("create", &tree))?;
        write_envelope(&staging.join(ENVELOPE), envelope).map_err(io_error("write", &staging))?;
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
        };
        open(&tree, 0o755)
            .and_then(|()| open(&staging, 0o755))
            .map_err(io_error("change the mode of", &tree))?;
        let unpacking = Unpacking::begin(&tree, manifest.clone(), &sources)
            .map_err(|source| unpack_error(order, source))?;
        let mark = staging.join(remains::FETCHING);
        std::fs::File::create(&mark).map_err(io_error("create", &mark))?;
        Ok((manifest, Arc::new(unpacking)))
    }

    /// The app's complete releases, and remains. Other apps seldom share content, and knowing all would cost memory.
    fn sources(&self, app: &AppName) -> Sources {
        let mut sources = Sources::new(self.sharing);
        for digest in held::digests(&self.layout, app) {
            if let Ok(manifest) = held::manifest(&self.layout.release(app, &digest), &digest) {
                sources.add(&self.layout.tree(app, &digest), &manifest);
            }
        }
        for remains in remains::list(&self.layout).into_iter().filter(|remains| remains.app == *app) {
            if let Ok(manifest) = held::manifest(&remains.dir, &remains.digest) {
                sources.add(&remains.dir.join(TREE), &manifest);
            }
        }
        sources
    }

    /// Verifies the tree, makes it durable with one sync, and only then visible.
    fn finish(&self, order: &Order, unpacking: &Unpacking) -> Result<(), StageError> {
        let ReleaseRef { app, digest, .. } = &order.release;
        unpacking.finish().map_err(|source| unpack_error(order, source))?;
        let staging = self.layout.staging_of(&order.op);
        let mark = staging.join(remains::FETCHING);
        std::fs::remove_file(&mark).map_err(io_error("remove", &mark))?;
        failpoint::at(Barrier::StageUnpacked);
        durable::sync_filesystem(&staging).map_err(io_error("sync", &staging))?;
        failpoint::at(Barrier::StageSynced);
        let release = self.layout.release(app, digest);
        durable::rename(&staging, &release).map_err(io_error("create", &release))?;
        if let Err(error) = remains::drop_of(&self.layout, app) {
            tracing::warn!(%app, %error, "remains not removed");
        }
        Ok(())
    }
}

/// The release that a staging directory is for, by its envelope.
pub(crate) fn staged_release(dir: &Path) -> Option<(AppName, windlass_proto::digest::Digest)> {
    let envelope = held::envelope(dir).ok()?;
    Some((envelope.unverified_manifest().ok()?.app, envelope.digest()))
}

struct CancelOnDrop(Arc<Unpacking>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What must be written: all but the files that need no room of their own. Where files are copied, a filesystem may share their
/// blocks all the same; whether it can is known only when it has.
fn need_of(manifest: &Manifest, sources: &Sources, envelope: usize) -> Need {
    let mut need = Need::default();
    need.add(envelope as u64);
    for entry in &manifest.entries {
        match &entry.kind {
            EntryKind::File { executable, size, digest, .. }
                if sources.sharing() == Sharing::Copies || sources.file(digest, *executable).is_none() =>
            {
                need.add(*size);
            }
            EntryKind::File { .. } => {}
            EntryKind::Directory {} => need.add(1),
            EntryKind::Link { .. } => need.add(1),
        }
    }
    need
}

fn write_envelope(path: &Path, envelope: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(ENVELOPE_MODE).open(path)?;
    file.write_all(envelope)
}

fn unpack_error(order: &Order, source: UnpackError) -> StageError {
    StageError::Unpack { release: Box::new(order.release.clone()), source: Box::new(source) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StageError> + Send + 'static,
) -> Result<T, StageError> {
    tokio::task::spawn_blocking(work).await?
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StageError {
    let path = path.to_owned();
    move |source| StageError::Io { action, path, source }
}
