//! One of the journal's two files: a block with magic and generation, then records, then zeros.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::record::{self, Link, Record};

/// Size of a segment: written in full when it is made, so that it needs no free space ever after.
pub(super) const SEGMENT: usize = 1 << 20;
/// Where records begin: the block before is written once per generation.
pub(super) const FIRST: usize = 4096;
const MAGIC: &[u8; 8] = b"WLJRNL01";

/// Opens or makes a segment; true when it had to be made or was not whole.
pub(super) fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let short = file.metadata()?.len() < SEGMENT as u64;
    if short {
        // What a shorter file holds stays: it may be a damaged journal.
        let length = file.metadata()?.len() as usize;
        file.write_all_at(&vec![0; SEGMENT - length], length as u64)?;
        file.sync_all()?;
    }
    Ok((file, short))
}

/// Everything in a segment.
pub(super) fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SEGMENT];
    let mut filled = 0;
    while filled < SEGMENT {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(bytes)
}

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// From the first block, if it can be believed.
    pub(super) generation: Option<u64>,
    /// Unbroken records from the beginning.
    pub(super) records: Vec<Record>,
    /// Where the next record goes.
    pub(super) end: usize,
    /// The link that it must carry.
    pub(super) link: Link,
    /// Bytes other than zero after `end`.
    pub(super) torn: bool,
    /// Believable records after a broken place: the end was not torn, the middle is damaged.
    pub(super) beyond: Vec<Record>,
}

/// Reads records until they end, and tells why they end.
pub(super) fn scan(bytes: &[u8]) -> Scan {
    let generation = header(bytes);
    let mut scan = Scan {
        generation,
        records: Vec::new(),
        end: FIRST,
        link: record::root(generation.unwrap_or(0)),
        torn: false,
        beyond: Vec::new(),
    };
    if let Some(generation) = generation {
        while let Some(record) = record::decode(&bytes[scan.end..]) {
            let follows = scan.records.last().is_none_or(|last: &Record| last.seq + 1 == record.seq);
            if record.prev != scan.link || record.generation != generation || !follows {
                break;
            }
            scan.end += record.size;
            scan.link = record.hash;
            scan.records.push(record);
        }
    }
    scan.torn = bytes[scan.end..].iter().any(|byte| *byte != 0);
    if scan.torn {
        // Records begin at multiples of eight, so a record after a damaged length is found again.
        let mut at = scan.end;
        while at + record::HEAD < bytes.len() {
            match record::decode(&bytes[at..]) {
                Some(record) => {
                    at += record.size;
                    scan.beyond.push(record);
                }
                None => at += 8,
            }
        }
    }
    scan
}

/// The first block of a segment.
pub(super) fn first_block(generation: u64) -> Vec<u8> {
    let mut block = vec![0; FIRST];
    block[..8].copy_from_slice(MAGIC);
    block[8..16].copy_from_slice(&generation.to_le_bytes());
    let crc = crc32fast::hash(&block[..16]);
    block[16..20].copy_from_slice(&crc.to_le_bytes());
    block
}

fn header(bytes: &[u8]) -> Option<u64> {
    let generation = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (bytes.get(..FIRST)? == first_block(generation)).then_some(generation)
}
