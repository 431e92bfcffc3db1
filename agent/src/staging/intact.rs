//! Is this tree what its manifest says? Kinds, modes, sizes and link targets always; contents when asked, on the pool.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{FileType, Stat};
use windlass_proto::bundle::{Entry, EntryKind, Manifest};
use windlass_proto::digest::Digest;

use super::beneath::Beneath;
use super::pool;

/// A tree that is not what its manifest says.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// An entry cannot be looked at.
    #[error("{path} cannot be read")]
    Unreadable {
        /// Path in the release.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// An entry is there, but different.
    #[error("{path} has {what} {found}, the manifest says {expected}")]
    Differs {
        /// Path in the release.
        path: String,
        /// Kind, mode, size, target or digest.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Something is there that the manifest does not name.
    #[error("{path} is not in the manifest")]
    Extra {
        /// Path in the release.
        path: String,
    },
}

/// Mode of files: nobody writes to a release.
pub fn file_mode(executable: bool) -> u32 {
    if executable { 0o555 } else { 0o444 }
}

/// Compares kinds, modes, sizes and targets of all entries.
pub fn check_shape(tree: &Beneath, manifest: &Manifest) -> Result<(), Flaw> {
    pool::each(manifest.entries.len(), |index| check_entry(tree, &manifest.entries[index]))
}

/// Also compares the contents of all files.
pub fn check_contents(tree: &Beneath, manifest: &Manifest) -> Result<(), Flaw> {
    pool::each(manifest.entries.len(), |index| {
        let entry = &manifest.entries[index];
        check_entry(tree, entry)?;
        let EntryKind::File { digest, .. } = &entry.kind else { return Ok(()) };
        let path = entry.path.as_str();
        let found = tree.read_file(path).and_then(|mut file| hash(&mut file)).map_err(unreadable(path))?;
        if found == *digest { Ok(()) } else { Err(differs(path, "digest", digest, &found)) }
    })
}

/// Things in the tree that the manifest does not name, at most `most` of them.
pub fn extras(tree: &Beneath, manifest: &Manifest, most: usize) -> Result<Vec<String>, Flaw> {
    let known: HashMap<&str, bool> = manifest
        .entries
        .iter()
        .map(|entry| (entry.path.as_str(), matches!(entry.kind, EntryKind::Directory {})))
        .collect();
    let mut extras = Vec::new();
    let mut open = vec![String::new()];
    while let Some(dir) = open.pop() {
        for item in tree.list(&dir).map_err(unreadable(&dir))? {
            let item = item.map_err(|error| unreadable(&dir)(error.into()))?;
            let name = item.file_name().to_string_lossy();
            if name == "." || name == ".." {
                continue;
            }
            let path = if dir.is_empty() { name.into_owned() } else { format!("{dir}/{name}") };
            match known.get(path.as_str()) {
                Some(true) => open.push(path),
                Some(false) => {}
                None if extras.len() < most => extras.push(path),
                None => return Ok(extras),
            }
        }
    }
    extras.sort();
    Ok(extras)
}

/// BLAKE3 of the rest of a file.
pub fn hash(file: &mut File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_bytes(*hasher.finalize().as_bytes())),
            Ok(count) => {
                hasher.update(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a file of this status is the file that the entry says, contents aside.
pub fn is_file(stat: &Stat, executable: bool, size: u64) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_mode & 0o7777 == file_mode(executable)
        && u64::try_from(stat.st_size) == Ok(size)
}

fn check_entry(tree: &Beneath, entry: &Entry) -> Result<(), Flaw> {
    let path = entry.path.as_str();
    let stat = tree.stat(path).map_err(unreadable(path))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mode = stat.st_mode & 0o7777;
    let (expected_kind, expected_mode) = match &entry.kind {
        EntryKind::Directory {} => (FileType::Directory, Some(0o755)),
        EntryKind::Link { .. } => (FileType::Symlink, None),
        EntryKind::File { executable, .. } => (FileType::RegularFile, Some(file_mode(*executable))),
    };
    if kind != expected_kind {
        return Err(differs(path, "kind", &format!("{expected_kind:?}"), &format!("{kind:?}")));
    }
    if let Some(expected) = expected_mode.filter(|expected| *expected != mode) {
        return Err(differs(path, "mode", &format!("{expected:04o}"), &format!("{mode:04o}")));
    }
    match &entry.kind {
        EntryKind::Directory {} => Ok(()),
        EntryKind::File { size, .. } if u64::try_from(stat.st_size) == Ok(*size) => Ok(()),
        EntryKind::File { size, .. } => Err(differs(path, "size", size, &stat.st_size)),
        EntryKind::Link { target } => {
            let found = tree.read_link(path).map_err(unreadable(path))?;
            if found == target.as_bytes() {
                Ok(())
            } else {
                Err(differs(path, "target", target, &String::from_utf8_lossy(&found)))
            }
        }
    }
}

fn differs(path: &str, what: &'static str, expected: &impl ToString, found: &impl ToString) -> Flaw {
    Flaw::Differs { path: path.to_owned(), what, expected: expected.to_string(), found: found.to_string() }
}

fn unreadable(path: &str) -> impl FnOnce(io::Error) -> Flaw {
    let path = if path.is_empty() { ".".to_owned() } else { path.to_owned() };
    move |source| Flaw::Unreadable { path, source }
}
