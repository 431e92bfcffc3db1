//! Lists what a directory would put into a bundle, refusing what a bundle cannot hold. Reads no contents.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::EntryPath;
use super::ignore::{FILE_NAME, Ignore};
use super::tree::BuildError;
use crate::limits::{BUNDLE_BYTES, BUNDLE_ENTRIES};

/// One thing found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: EntryPath,
    pub(super) kind: FoundKind,
}

#[derive(Debug)]
pub(super) enum FoundKind {
    Directory,
    Link { target: String },
    File { source: PathBuf, executable: bool, size: u64 },
}

/// Everything beneath `root`, sorted by path. `root` may also be one file, which is then the whole bundle.
pub(super) fn walk(root: &Path) -> Result<Vec<Found>, BuildError> {
    // The root itself may be a link: it is the user's word for where the tree is, not part of the tree.
    let metadata = fs::metadata(root).map_err(|source| BuildError::read(root, source))?;
    let mut found = Vec::new();
    if metadata.is_dir() {
        let ignore = read_ignore(root)?;
        let mut walker = Walker { ignore, found: &mut found, bytes: 0 };
        walker.directory(root, "")?;
    } else {
        let name = root.file_name().unwrap_or(root.as_os_str());
        let name = name.to_str().ok_or_else(|| BuildError::NotUtf8 { path: root.to_owned() })?;
        let mut walker = Walker { ignore: Ignore::default(), found: &mut found, bytes: 0 };
        walker.entry(root, name.to_owned(), &metadata)?;
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn read_ignore(root: &Path) -> Result<Ignore, BuildError> {
    let path = root.join(FILE_NAME);
    match fs::read_to_string(&path) {
        Ok(text) => Ignore::parse(&text).map_err(|source| BuildError::Ignore { path, source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ignore::default()),
        Err(source) => Err(BuildError::Read { path, source }),
    }
}

struct Walker<'a> {
    ignore: Ignore,
    found: &'a mut Vec<Found>,
    bytes: u64,
}

impl Walker<'_> {
    fn directory(&mut self, directory: &Path, inside: &str) -> Result<(), BuildError> {
        let entries = fs::read_dir(directory).map_err(|source| BuildError::read(directory, source))?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(|source| BuildError::read(directory, source))?.file_name());
        }
        // In order, so that the first thing refused is the same each time.
        names.sort_unstable();
        for name in names {
            let disk = directory.join(&name);
            let Some(name) = name.to_str() else { return Err(BuildError::NotUtf8 { path: disk }) };
            let path = if inside.is_empty() { name.to_owned() } else { format!("{inside}/{name}") };
            let metadata = fs::symlink_metadata(&disk).map_err(|source| BuildError::read(&disk, source))?;
            if path != FILE_NAME && !self.ignore.leaves_out(&path, metadata.is_dir()) {
                self.entry(&disk, path, &metadata)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, disk: &Path, path: String, metadata: &Metadata) -> Result<(), BuildError> {
        let path = EntryPath::new(path)?;
        if self.found.len() == BUNDLE_ENTRIES {
            return Err(BuildError::TooManyEntries);
        }
        if metadata.is_dir() {
            self.found.push(Found { path: path.clone(), kind: FoundKind::Directory });
            return self.directory(disk, path.as_str());
        }
        let kind = if metadata.is_symlink() {
            let target = fs::read_link(disk).map_err(|source| BuildError::read(disk, source))?;
            let target = target
                .into_os_string()
                .into_string()
                .map_err(|_| BuildError::NotUtf8 { path: disk.to_owned() })?;
            path.check_link(&target)?;
            FoundKind::Link { target }
        } else {
            self.file(disk, metadata)?
        };
        self.found.push(Found { path, kind });
        Ok(())
    }

    fn file(&mut self, disk: &Path, metadata: &Metadata) -> Result<FoundKind, BuildError> {
        let path = disk.to_owned();
        let file_type = metadata.file_type();
        let what = match () {
            () if file_type.is_file() => None,
            () if file_type.is_fifo() => Some("a fifo"),
            () if file_type.is_socket() => Some("a socket"),
            () => Some("a device"),
        };
        if let Some(what) = what {
            return Err(BuildError::Special { path, what });
        }
        let mode = metadata.permissions().mode();
        let bits = [(0o4000, "setuid"), (0o2000, "setgid"), (0o1000, "sticky")];
        if let Some((_, bit)) = bits.iter().find(|(bit, _)| mode & bit != 0) {
            return Err(BuildError::ModeBit { path, bit });
        }
        self.bytes = self.bytes.saturating_add(metadata.len());
        if self.bytes > BUNDLE_BYTES {
            return Err(BuildError::TooManyBytes);
        }
        Ok(FoundKind::File { source: path, executable: mode & 0o100 != 0, size: metadata.len() })
    }
}
