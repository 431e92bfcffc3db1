//! What the host has already: complete releases and the remains of an interrupted staging, searched by file and by chunk.
//!
//! What is found is only a hint; whoever copies or links from here hashes what he got.

use std::collections::HashMap;
use std::path::Path;

use windlass_proto::bundle::{EntryKind, EntryPath, Manifest};
use windlass_proto::digest::Digest;

use super::beneath::Beneath;
use crate::config::HostPolicy;

/// How a file that another release of the app has gets into a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// It is the same file under a second name: applications own no file of a release, and so write into none.
    Links,
    /// It is a file of its own. Applications may be their files' owner, or root, and what one release writes must not be in
    /// the one to go back to.
    Copies,
}

impl Sharing {
    /// What a host's policy allows, for an agent that is root or not.
    pub const fn of(policy: &HostPolicy, agent_is_root: bool) -> Self {
        if agent_is_root && !policy.allow_root { Self::Links } else { Self::Copies }
    }
}

/// Trees to copy and link from.
#[derive(Debug)]
pub struct Sources {
    sharing: Sharing,
    trees: Vec<Beneath>,
    paths: Vec<(usize, EntryPath)>,
    files: HashMap<(Digest, bool), usize>,
    chunks: HashMap<Digest, (usize, u64)>,
}

impl Sources {
    /// None yet.
    pub fn new(sharing: Sharing) -> Self {
        Self { sharing, trees: Vec::new(), paths: Vec::new(), files: HashMap::new(), chunks: HashMap::new() }
    }

    /// How files get out of them.
    pub const fn sharing(&self) -> Sharing {
        self.sharing
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_shared_only_where_no_application_can_write_them() {
        let policy = |allow_root| HostPolicy {
            author_keys: vec![],
            threshold: 1,
            apps: vec![],
            allow_root,
            users: vec![],
        };
        assert_eq!(Sharing::of(&policy(false), true), Sharing::Links);
        assert_eq!(Sharing::of(&policy(true), true), Sharing::Copies);
        // They run as the agent's own user.
        assert_eq!(Sharing::of(&policy(false), false), Sharing::Copies);
        assert_eq!(Sharing::of(&policy(true), false), Sharing::Copies);
    }
}
