//! Files that are written or copied from, one after the other.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use windlass_proto::bundle::Chunk;
use windlass_proto::digest::Digest;

use super::sources::Sources;

/// The file last used, kept open: chunks of one file come one after the other.
#[derive(Debug, Default)]
pub(super) struct Pen(Option<(usize, File)>);

impl Pen {
    /// The file with this number, opened by `open` where another one was held.
    pub(super) fn open(
        &mut self,
        number: usize,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<&mut File> {
        if self.0.as_ref().is_none_or(|(held, _)| *held != number) {
            self.0 = Some((number, open()?));
        }
        self.0.as_mut().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A chunk from what the host has, if it is there and right.
pub(super) fn copy_of(chunk: &Chunk, sources: &Sources, pen: &mut Pen) -> Option<Vec<u8>> {
    let (number, offset) = sources.chunk(&chunk.digest)?;
    let file = pen
        .open(number, || {
            let (tree, path) = sources.path(number);
            tree.read_file(path)
        })
        .ok()?;
    let mut data = vec![0; chunk.length as usize];
    file.read_exact_at(&mut data, offset).ok()?;
    (Digest::of(&data) == chunk.digest).then_some(data)
}
