//! The host's write-ahead journal: the truth about what is under way (DESIGN 5, reference/RELIABILITY.md 3.1).
//!
//! Two files of 1 MiB, written in full when they are made, so that appending works with no free space. Records go to one
//! of them; when it is full, a checkpoint of everything goes to the other one, which then has the higher generation.
//! [`Journal::append`] returns when the records are on the disk. A record that was half written when the power went is
//! cut off at the next open; damage before the last record is told apart from that and reported.

mod record;
mod segment;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use windlass_proto::id::AppName;

pub use record::{Change, Latest};
use record::{Link, Record};
use segment::{FIRST, SEGMENT, Scan};

use crate::failpoint::{self, Barrier};

/// A journal that cannot be used, or a record that it cannot take.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The filesystem refused.
    #[error("journal {} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent has it.
    #[error("journal {} is in use by another agent; stop it first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A write or sync failed before: what is on the disk is unknown, so nothing is written any more.
    #[error(
        "journal {path} failed earlier and takes no more records; restart the agent after mending the disk"
    )]
    Poisoned {
        /// The file.
        path: PathBuf,
    },
    /// A state that cannot be written down.
    #[error("journal {} cannot take a state that does not encode", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// All states together must fit half a segment.
    #[error("journal {} cannot take {bytes} bytes; all apps together may have {most}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What was to be kept.
        bytes: usize,
        /// What can be kept.
        most: usize,
    },
}

/// What was wrong with the files at open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The last record was not written to its end, as a power cut leaves it. It was cut off; nothing acknowledged is lost.
    TornTail,
    /// Records before the last are damaged, or the chain is broken: acknowledged records may be missing. What could be
    /// read was taken; the caller judges by the links and directories too.
    Middle {
        /// The file.
        path: PathBuf,
        /// Where it breaks.
        offset: usize,
    },
}

/// What the journal said at open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Newest states and floors.
    pub latest: Latest,
    /// What was wrong.
    pub damage: Option<Damage>,
}

/// All states together stay below this, so that a fresh segment has room for as much again.
const MOST: usize = (SEGMENT - FIRST) / 2;
/// A killed agent's lock may outlive it by a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The open journal. There is one per host, and one writer.
#[derive(Debug)]
pub struct Journal {
    paths: [PathBuf; 2],
    files: [File; 2],
    active: usize,
    generation: u64,
    seq: u64,
    end: usize,
    link: Link,
    latest: Latest,
    poisoned: bool,
    /// Writes that still reach the disk.
    #[cfg(test)]
    writes_left: Option<u32>,
}

impl Journal {
    /// Opens the journal in `dir`, or makes it. Waits up to five seconds for another agent's lock.
    pub fn open(dir: &Path) -> Result<(Self, Recovered), JournalError> {
        let paths = [dir.join("journal.0"), dir.join("journal.1")];
        let open = |path: &PathBuf| segment::open(path).map_err(io_error(path));
        let (first, made_first) = open(&paths[0])?;
        lock(&first, &paths[0])?;
        let (second, made_second) = open(&paths[1])?;
        if made_first || made_second {
            crate::durable::sync_parent(&paths[0]).map_err(io_error(&paths[0]))?;
        }
        let files = [first, second];
        let scans = [read(&files[0], &paths[0])?, read(&files[1], &paths[1])?];
        let reading = interpret(&paths, &scans);
        let mut journal = Self {
            paths,
            files,
            active: reading.active,
            generation: reading.generation,
            seq: reading.seq,
            end: scans[reading.active].end,
            link: scans[reading.active].link,
            latest: reading.recovered.latest.clone(),
            poisoned: false,
            #[cfg(test)]
            writes_left: None,
        };
        match &reading.recovered.damage {
            None if reading.generation > 0 => {}
            Some(Damage::TornTail) => journal.cut_tail()?,
            // A new journal, or one whose damaged segment is left behind as it is.
            None | Some(Damage::Middle { .. }) => journal.switch()?,
        }
        Ok((journal, reading.recovered))
    }

    /// What has been written last.
    pub fn latest(&self) -> &Latest {
        &self.latest
    }

    /// What a record carries as an app's state.
    pub fn payload(&self, state: &impl serde::Serialize) -> Result<Vec<u8>, JournalError> {
        serde_json::to_vec(state)
            .map_err(|source| JournalError::Encode { path: self.paths[self.active].clone(), source })
    }

    /// Records an app's new state; returns when it is on the disk.
    pub fn append(&mut self, app: &AppName, payload: Vec<u8>) -> Result<(), JournalError> {
        self.append_all(vec![Change::State { app: app.clone(), payload }])
    }

    /// Records that a release with this counter was seen; lower ones change nothing and cost nothing.
    pub fn raise_floor(&mut self, app: &AppName, counter: u64) -> Result<(), JournalError> {
        if self.latest.floors.get(app).is_some_and(|floor| *floor >= counter) {
            return Ok(());
        }
        self.append_all(vec![Change::Floor { app: app.clone(), counter }])
    }

    /// Records several changes as one: all of them or none are there after a power cut.
    pub fn append_all(&mut self, changes: Vec<Change>) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned { path: self.paths[self.active].clone() });
        }
        let mut next = self.latest.clone();
        for change in &changes {
            next.apply(change);
        }
        let bytes = next.changes().iter().chain(&changes).map(Change::size).sum::<usize>();
        if bytes > MOST {
            let path = self.paths[self.active].clone();
            return Err(JournalError::TooLarge { path, bytes, most: MOST });
        }
        let record = record::encode(self.link, self.generation, self.seq + 1, false, &changes);
        if self.end + record.len() > SEGMENT {
            // The checkpoint carries the changes themselves: one write for both.
            self.latest = next;
            return self.switch();
        }
        self.write(self.active, self.end, &record)?;
        self.advance(&record);
        self.latest = next;
        Ok(())
    }

    /// Starts the other segment with a checkpoint. Its first block is written last, so that a crash in between leaves the
    /// old segment in force.
    fn switch(&mut self) -> Result<(), JournalError> {
        let (to, generation) = (1 - self.active, self.generation + 1);
        let changes = self.latest.changes();
        let record = record::encode(record::root(generation), generation, self.seq + 1, true, &changes);
        self.write(to, 0, &vec![0; SEGMENT])?;
        self.write(to, FIRST, &record)?;
        self.write(to, 0, &segment::first_block(generation))?;
        self.active = to;
        self.generation = generation;
        self.end = FIRST;
        self.advance(&record);
        Ok(())
    }

    fn cut_tail(&mut self) -> Result<(), JournalError> {
        self.write(self.active, self.end, &vec![0; SEGMENT - self.end])
    }

    fn advance(&mut self, record: &[u8]) {
        self.seq += 1;
        self.end += record.len();
        self.link = record::decode(record).map(|record| record.hash).unwrap_or_default();
    }

    /// Writes and syncs. Any failure is final.
    fn write(&mut self, segment: usize, offset: usize, bytes: &[u8]) -> Result<(), JournalError> {
        #[cfg(test)]
        if let Some(left) = &mut self.writes_left {
            let Some(fewer) = left.checked_sub(1) else {
                self.poisoned = true;
                return Err(JournalError::Poisoned { path: self.paths[segment].clone() });
            };
            *left = fewer;
        }
        let file = &self.files[segment];
        let written = file.write_all_at(bytes, offset as u64);
        failpoint::at(Barrier::JournalWritten);
        written.and_then(|()| file.sync_data()).map_err(|source| {
            self.poisoned = true;
            JournalError::Io { path: self.paths[segment].clone(), source }
        })
    }
}

/// Reads the journal in `dir` without changing it, beside a running agent; `None` when there is none.
pub fn peek(dir: &Path) -> Result<Option<Recovered>, JournalError> {
    let paths = [dir.join("journal.0"), dir.join("journal.1")];
    let mut scans = Vec::new();
    for path in &paths {
        match File::open(path) {
            Ok(file) => scans.push(read(&file, path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => scans.push(segment::scan(&[0; SEGMENT])),
            Err(error) => return Err(io_error(path)(error)),
        }
    }
    let Ok(scans) = <[Scan; 2]>::try_from(scans) else { return Ok(None) };
    let reading = interpret(&paths, &scans);
    Ok((reading.generation > 0).then_some(reading.recovered))
}

struct Reading {
    active: usize,
    /// Zero: there is no journal yet.
    generation: u64,
    seq: u64,
    recovered: Recovered,
}

/// The truth in two segments, of which either may be empty, unfinished or damaged.
fn interpret(paths: &[PathBuf; 2], scans: &[Scan; 2]) -> Reading {
    let active = usize::from(scans[1].generation > scans[0].generation);
    let (scan, other) = (&scans[active], &scans[1 - active]);
    let middle = |index: usize| Damage::Middle { path: paths[index].clone(), offset: scans[index].end };

    // A first block may be missing only while a switch is under way: then the segment holds leftovers of an older
    // generation and perhaps the checkpoint. A newer record of another kind says that the block was lost later.
    let newest = scan.records.iter().chain(&scan.beyond).map(|record| record.seq).max().unwrap_or(0);
    let newest = if scan.generation.is_some() { newest } else { 0 };
    let lost = |scan: &Scan| {
        scan.generation.is_none()
            && scan.beyond.iter().any(|record| !record.checkpoint && record.seq > newest)
    };
    let damage = if scan.generation.is_none() {
        (scan.torn || other.torn).then(|| middle(usize::from(!scans[0].torn)))
    } else if lost(other) {
        Some(middle(1 - active))
    } else if scan.records.is_empty() || !scan.beyond.is_empty() {
        Some(middle(active))
    } else {
        scan.torn.then_some(Damage::TornTail)
    };

    let mut latest = Latest::default();
    let all: Vec<&Record> = match &damage {
        Some(Damage::Middle { .. }) => {
            let both = scans.iter().flat_map(|scan| scan.records.iter().chain(&scan.beyond));
            let mut all: Vec<_> = both.collect();
            all.sort_by_key(|record| record.seq);
            all
        }
        _ => scan.records.iter().collect(),
    };
    for change in all.iter().flat_map(|record| &record.changes) {
        latest.apply(change);
    }
    let seq = all.iter().map(|record| record.seq).max().unwrap_or(0);
    let generation = scans.iter().filter_map(|scan| scan.generation).max().unwrap_or(0);
    let generation = all.iter().map(|record| record.generation).max().unwrap_or(0).max(generation);
    Reading { active, generation, seq, recovered: Recovered { latest, damage } }
}

fn read(file: &File, path: &Path) -> Result<Scan, JournalError> {
    segment::read(file).map(|bytes| segment::scan(&bytes)).map_err(io_error(path))
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(std::fs::TryLockError::Error(source)) => return Err(io_error(path)(source)),
            Err(std::fs::TryLockError::WouldBlock) if waited < LOCK_PATIENCE => {
                let pause = Duration::from_millis(50);
                // Opening happens once, before any task runs.
                std::thread::park_timeout(pause);
                waited += pause;
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(JournalError::InUse { path: path.to_owned() });
            }
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { path, source }
}

#[cfg(test)]
mod tests;
