mod coordinator;
mod hostile;
mod on_the_way;
mod whole;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use windlass_proto::bundle::{
    AuthorKey, Chunk, Chunker, Compressor, Entry, EntryKind, EntryPath, Envelope, Manifest,
};
use windlass_proto::digest::Digest;
use windlass_proto::grant::Leave;
use windlass_proto::id::{AppName, OpId, ReleaseVersion};
use windlass_proto::release::ReleaseRef;

use super::{Order, Patience, StageError, Staged, Stager};
use crate::config::HostPolicy;
use crate::layout::Layout;
use coordinator::Coordinator;

/// A bundle as a coordinator holds it.
#[derive(Clone)]
struct Bundle {
    release: ReleaseRef,
    envelope: Vec<u8>,
    chunks: HashMap<Digest, Vec<u8>>,
}

/// Content of an entry.
enum Item {
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(&'static str),
    Dir,
}

fn app() -> AppName {
    AppName::new("shop").unwrap()
}

fn key() -> AuthorKey {
    AuthorKey::generate().unwrap()
}

/// A manifest and its chunks.
fn content(version: &str, counter: u64, items: &[(&str, Item)]) -> (Manifest, HashMap<Digest, Vec<u8>>) {
    let mut chunks = HashMap::new();
    let mut compressor = Compressor::new().unwrap();
    let mut entries = Vec::new();
    for (path, item) in items {
        let kind = match item {
            Item::Dir => EntryKind::Directory {},
            Item::Link(target) => EntryKind::Link { target: (*target).to_owned() },
            Item::File(data) | Item::Program(data) => {
                let mut list = Vec::new();
                Chunker::default()
                    .cut::<std::io::Error>(&mut data.as_slice(), |piece: &[u8]| {
                        let digest = Digest::of(piece);
                        list.push(Chunk { digest, length: piece.len() as u32 });
                        chunks.insert(digest, compressor.compress(piece).unwrap());
                        Ok(())
                    })
                    .unwrap();
                let executable = matches!(item, Item::Program(_));
                EntryKind::File {
                    executable,
                    size: data.len() as u64,
                    digest: Digest::of(data),
                    chunks: list,
                }
            }
        };
        entries.push(Entry { path: EntryPath::new(*path).unwrap(), kind });
    }
    let release = serde_json::from_str(r#"{"runtime":{"kind":"static"}}"#).unwrap();
    let version = ReleaseVersion::new(version).unwrap();
    (Manifest { format: 1, app: app(), version, counter, release, entries }, chunks)
}

fn seal(manifest: &Manifest, chunks: HashMap<Digest, Vec<u8>>, keys: &[&AuthorKey]) -> Bundle {
    let mut envelope = Envelope::new(manifest);
    keys.iter().for_each(|key| envelope.sign(key));
    Bundle { release: manifest.release_ref(), envelope: envelope.encode(), chunks }
}

/// Bytes that neither repeat nor compress, always the same for a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut reader = blake3::Hasher::new_keyed(&[7; 32]).update(&seed.to_le_bytes()).finalize_xof();
    let mut data = vec![0; length];
    reader.fill(&mut data);
    data
}

/// One host.
struct Host {
    _dir: tempfile::TempDir,
    layout: Layout,
    stager: Stager,
}

impl Host {
    fn new(keys: &[&AuthorKey]) -> Self {
        Self::with(keys, |_| {})
    }

    fn with(keys: &[&AuthorKey], change: impl FnOnce(&mut HostPolicy)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"), dir.path().join("run")).unwrap();
        layout.create().unwrap();
        let mut policy = HostPolicy {
            author_keys: keys.iter().map(|key| key.public().to_string()).collect(),
            threshold: 1,
            apps: vec!["*".into()],
            allow_root: true,
            users: Vec::new(),
        };
        change(&mut policy);
        let patience = Patience {
            stall: Duration::from_millis(500),
            attempts: 4,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(5),
            total: Duration::from_secs(60),
        };
        let stager = Stager::new(layout.clone(), policy, patience).unwrap();
        Self { _dir: dir, layout, stager }
    }

    async fn stage(&self, coordinator: &Coordinator, release: &ReleaseRef) -> Result<Staged, StageError> {
        self.stage_order(coordinator, &order(release)).await
    }

    async fn stage_order(&self, coordinator: &Coordinator, order: &Order) -> Result<Staged, StageError> {
        self.stager.stage(coordinator.channel(), order, CancellationToken::new()).await
    }

    fn tree(&self, release: &ReleaseRef) -> PathBuf {
        self.layout.tree(&release.app, &release.digest)
    }

    /// Everything below the state directory but the app's empty directories.
    fn leavings(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for dir in
            [self.layout.staging(), self.layout.chunks(), self.layout.trash(), self.layout.releases(&app())]
        {
            if let Ok(items) = std::fs::read_dir(dir) {
                found.extend(items.map(|item| item.unwrap().path()));
            }
        }
        found
    }
}

fn order(release: &ReleaseRef) -> Order {
    let op = OpId::new("op-1").unwrap();
    Order { op, release: release.clone(), leave: Leave::Newest, seen: 0 }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
