//! What the machine gives: FastCDC, BLAKE3 and zstd -3 over the release on all cores, files read but nothing written.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use windlass_proto::bundle::{Chunker, Compressor};
use windlass_proto::digest::Digest;

use crate::report::Report;
use crate::timed;
use crate::tree::Release;

pub(crate) fn measure(release: &Release, report: &mut Report) {
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    let mut open = vec![release.v1.join("files")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => open.push(entry.path()),
                metadata => files.push((metadata.len(), entry.path())),
            }
        }
    }
    files.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut chunker, mut compressor) = (Chunker::default(), Compressor::new().unwrap());
        while let Some((_, path)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let each = |data: &[u8]| {
                std::hint::black_box((Digest::of(data), compressor.compress(data)?));
                Ok::<_, std::io::Error>(())
            };
            chunker.cut(File::open(path).unwrap(), each).unwrap();
        }
    };
    let took = timed(|| {
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().unwrap().get() {
                scope.spawn(work);
            }
        });
    });
    report.time("cut, hash and compress", took);
}
