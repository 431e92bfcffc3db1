//! An application's output in a file that cannot grow without bound: two files of [`LOG_BYTES`] at most.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use windlass_proto::digest::Digest;

/// Size at which the log is put aside as `.1`, replacing the former one.
pub const LOG_BYTES: u64 = 4 * 1024 * 1024;

/// Longest line shown as one piece of evidence.
const LINE_BYTES: usize = 2048;

/// A log file that puts itself aside when it is full.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    file: File,
    length: u64,
    limit: u64,
}

/// The log of a release's application, in the directory of its logs.
pub fn of(dir: &Path, release: &Digest) -> PathBuf {
    dir.join(format!("{}.log", release.hex()))
}

/// Where the put-aside part of a log lies.
pub fn former(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

impl RotatingLog {
    /// Opens for appending.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, length, limit })
    }

    /// Appends output. When the disk is full the output is lost, not the application.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length > 0 && self.length + bytes.len() as u64 > self.limit {
            fs::rename(&self.path, former(&self.path))?;
            *self = Self::open(&self.path, self.limit)?;
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Hands everything from `source` on until its end.
pub fn pump(mut source: impl Read, mut sink: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return,
            // The pipe must be emptied even when nothing can be written, or the application would hang on it.
            Ok(n) => sink(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// The last lines of a log, at most `count`, together at most `bytes`; nothing when there is no log.
pub fn last_lines(path: &Path, count: usize, bytes: usize) -> Vec<String> {
    let mut tail = tail_of(path, bytes).unwrap_or_default();
    if tail.len() < bytes {
        let mut older = tail_of(&former(path), bytes - tail.len()).unwrap_or_default();
        older.append(&mut tail);
        tail = older;
    }
    let text = String::from_utf8_lossy(&tail);
    let mut lines: Vec<String> = text.lines().rev().take(count).map(cut).collect();
    lines.reverse();
    lines
}

fn cut(line: &str) -> String {
    let mut end = line.len().min(LINE_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].to_owned()
}

fn tail_of(path: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let skip = length.saturating_sub(bytes as u64);
    file.seek(SeekFrom::Start(skip))?;
    let mut tail = Vec::new();
    file.take(bytes as u64).read_to_end(&mut tail)?;
    if skip > 0 {
        // The first line is cut in the middle.
        let first = tail.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
        tail.drain(..first);
    }
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_its_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let mut log = RotatingLog::open(&path, 100).unwrap();
        for n in 0..100 {
            log.write(format!("line {n}\n").as_bytes()).unwrap();
        }
        let total: u64 =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(total <= 200, "{total}");
        assert_eq!(last_lines(&path, 3, 1000), ["line 97", "line 98", "line 99"]);
        assert!(last_lines(&path, 100, 1000).len() > 12);
        assert_eq!(last_lines(&path, 100, 20), ["line 98", "line 99"]);
        assert!(last_lines(&dir.path().join("none"), 3, 1000).is_empty());
    }

    #[test]
    fn pump_ends_with_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let mut log = RotatingLog::open(&path, 100).unwrap();
        pump(&b"one\ntwo\n"[..], |bytes| log.write(bytes).unwrap());
        assert_eq!(last_lines(&path, 9, 99), ["one", "two"]);
    }
}
