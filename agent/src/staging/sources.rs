//! What the host has already: complete releases and the remains of an interrupted staging, searched by file and by chunk.
//!
//! What is found is only a hint; whoever copies or links from here hashes what he got.

use std::collections::HashMap;
use std::path::Path;

use windlass_proto::bundle::{EntryKind, EntryPath, Manifest};
use windlass_proto::digest::Digest;

use super::beneath::Beneath;

/// Trees to copy and link from.
#[derive(Debug, Default)]
pub struct Sources {
    trees: Vec<Beneath>,
    paths: Vec<(usize, EntryPath)>,
    files: HashMap<(Digest, bool), usize>,
    chunks: HashMap<Digest, (usize, u64)>,
}

impl Sources {
    /// Adds a tree; those added first are preferred. A tree that cannot be opened is passed over.
    pub fn add(&mut self, tree: &Path, manifest: &Manifest) {
        let Ok(opened) = Beneath::open(tree) else { return };
        self.trees.push(opened);
        for entry in &manifest.entries {
            let EntryKind::File { executable, digest, chunks, .. } = &entry.kind else { continue };
            let path = self.paths.len();
            self.paths.push((self.trees.len() - 1, entry.path.clone()));
            self.files.entry((*digest, *executable)).or_insert(path);
            let mut offset = 0;
            for chunk in chunks {
                self.chunks.entry(chunk.digest).or_insert((path, offset));
                offset += u64::from(chunk.length);
            }
        }
    }

    /// Where a file with this content and executable bit should be.
    pub fn file(&self, digest: &Digest, executable: bool) -> Option<(&Beneath, &str)> {
        self.files.get(&(*digest, executable)).map(|path| self.path(*path))
    }

    /// Where a chunk should be: the file's number, to be opened by [`Sources::path`], and the offset.
    pub fn chunk(&self, digest: &Digest) -> Option<(usize, u64)> {
        self.chunks.get(digest).copied()
    }

    /// Tree and path of a file's number.
    pub fn path(&self, number: usize) -> (&Beneath, &str) {
        let (tree, path) = &self.paths[number];
        (&self.trees[*tree], path.as_str())
    }
}
