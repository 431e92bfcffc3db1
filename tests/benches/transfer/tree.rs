//! The release of PERFORMANCE.md, made from a seed: about 5,000 files, 197 MB, one binary of 60 MB; zstd -3 halves it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use windlass_tests::dice::Dice;

/// Both versions on disk.
pub(crate) struct Release {
    /// Directory with windlass.yaml and `files/` of v1.
    pub(crate) v1: PathBuf,
    /// The same of v2.
    pub(crate) v2: PathBuf,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) changed_files: usize,
    pub(crate) changed_bytes: u64,
}

const SMALL_FILES: u64 = 4_999;
const BINARY: usize = 60_000_000;
/// Parts of the binary that differ in v2, and how long each is.
const PATCHES: usize = 6;
const PATCH: usize = 256 * 1024;

const SPEC: &str = r#"apiVersion: windlass/v1
app: bench
release:
  files: ./files
  runtime: { kind: static }
rollout:
  targets: { selector: "role=app" }
  strategy: { type: all_at_once, max_unavailable: 100%, min_healthy_time: 0s }
"#;

pub(crate) fn make(base: &Path) -> Release {
    let (v1, v2) = (base.join("v1"), base.join("v2"));
    let mut release = Release { v1, v2, files: 0, bytes: 0, changed_files: 0, changed_bytes: 0 };
    let words = Words::new();
    for version in [&release.v1, &release.v2] {
        fs::create_dir_all(version.join("files/bin")).unwrap();
        fs::write(version.join("windlass.yaml"), SPEC).unwrap();
    }
    let mut binary = words.fill(1, BINARY, 40);
    release.put("bin/server", &binary);
    for patch in 0..PATCHES {
        let at = BINARY / PATCHES * patch + 12_345;
        binary[at..at + PATCH].copy_from_slice(&words.fill(1_000 + patch as u64, PATCH, 40));
    }
    // Code moves: everything behind these places is somewhere else.
    for at in [BINARY / 3, BINARY / 2] {
        binary.splice(at..at, words.fill(at as u64, 104, 40));
    }
    release.replace("bin/server", &binary, (PATCHES * PATCH) as u64);
    for number in 0..SMALL_FILES {
        let mut random = Dice(number.wrapping_mul(77) + 5);
        let size =
            if random.below(10) == 0 { 20_000 + random.below(342_000) } else { 200 + random.below(19_800) };
        let path = format!("share/d{:02}/f{number:04}", number % 100);
        let data = words.fill(10_000 + number, size as usize, 33);
        release.put(&path, &data);
        if number % 50 == 7 {
            release.replace(&path, &words.fill(20_000 + number, size as usize, 33), size);
        }
    }
    release
}

impl Release {
    fn put(&mut self, path: &str, data: &[u8]) {
        write(&self.v1.join("files").join(path), data, 1_000_000);
        write(&self.v2.join("files").join(path), data, 1_000_000);
        self.files += 1;
        self.bytes += data.len() as u64;
    }

    fn replace(&mut self, path: &str, data: &[u8], changed: u64) {
        write(&self.v2.join("files").join(path), data, 2_000_000);
        self.changed_files += 1;
        self.changed_bytes += changed;
    }
}

/// rsync takes files of equal size and time as equal, so times are set.
fn write(path: &Path, data: &[u8], seconds: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, data).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

/// What compresses: a vocabulary of 64 words of 16 bytes, little enough to be found in a small file.
struct Words(Vec<u8>);

impl Words {
    fn new() -> Self {
        let mut random = Dice(42);
        Self((0..64 * 2).flat_map(|_| random.next().to_le_bytes()).collect())
    }

    /// `noise` percent of the bytes are random, the rest is words.
    fn fill(&self, seed: u64, length: usize, noise: u64) -> Vec<u8> {
        let mut random = Dice(seed);
        let mut data = Vec::with_capacity(length + 16);
        while data.len() < length {
            if random.below(100) < noise {
                data.extend(random.next().to_le_bytes());
                data.extend(random.next().to_le_bytes());
            } else {
                let word = random.below(64) as usize * 16;
                data.extend_from_slice(&self.0[word..word + 16]);
            }
        }
        data.truncate(length);
        data
    }
}
