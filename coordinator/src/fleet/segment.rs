//! The audit log on disk. Nothing of it is ever removed.
//!
//! It lies in segments, one row each, named by the number of their first record. The newest one is in memory and is written
//! again with each record; the others are read when somebody asks for them, a page at a time. A segment says which head it
//! begins from, so that the chain goes on over its border.

use prost::Message as _;
use windlass_proto::digest::Digest;
use windlass_proto::rpc::AuditRecord;
use windlass_proto::rpc::audit::Head;

use super::log::event;
use super::{Fleet, LoadError};
use crate::store::{COLD, Key, StateStore, StoreError, Write};

/// Most records of a segment: with each record, half of that is written again on average.
const RECORDS: usize = 32;
/// A segment of this size takes no more records; one record has at most a few thousand.
const BYTES: usize = 48 * 1024;
/// Segments read at a time.
const SEGMENTS: usize = 8;
/// Of the row's form.
const VERSION: u32 = 1;
/// The last record, so that a start need not read them all, and finds out when it is gone.
const HEAD: &str = "audit-end";

/// Where segments are kept; a start does not look at them.
fn prefix() -> String {
    format!("{COLD}audit/")
}

fn key(first: u64) -> Result<Key, StoreError> {
    Key::new(format!("{COLD}audit/{first:016x}"))
}

fn first_of(key: &Key) -> u64 {
    let hex = key.as_str().rsplit('/').next().unwrap_or_default();
    u64::from_str_radix(hex, 16).unwrap_or_default()
}

/// Some records one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Segment {
    /// The record before the first.
    begins: Head,
    records: Vec<AuditRecord>,
}

/// A segment as it is kept.
#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    begins: String,
    #[prost(message, repeated, tag = "3")]
    records: Vec<AuditRecord>,
}

impl Segment {
    const fn after(begins: Head) -> Self {
        Self { begins, records: Vec::new() }
    }

    fn is_full(&self) -> bool {
        let bytes = || self.records.iter().map(prost::Message::encoded_len).sum::<usize>();
        self.records.len() >= RECORDS || bytes() >= BYTES
    }

    fn encode(&self) -> Vec<u8> {
        let (begins, records) = (self.begins.to_string(), self.records.clone());
        Row { version: VERSION, begins, records }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let row = Row::decode(bytes).ok().filter(|row| row.version == VERSION && !row.records.is_empty())?;
        Some(Self { begins: row.begins.parse().ok()?, records: row.records })
    }

    /// What a reader gets of a row. Records of one that is not what was written are not, either: no digest is right for the
    /// one that stands for them.
    fn records(key: &Key, bytes: &[u8]) -> Vec<AuditRecord> {
        let changed = || vec![AuditRecord { seq: first_of(key), ..AuditRecord::default() }];
        Self::decode(bytes).map_or_else(changed, |segment| segment.records)
    }
}

/// The end of the log, which is all of it that is in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    head: Head,
    newest: Segment,
}

impl Log {
    /// The last record.
    pub(super) const fn head(&self) -> Head {
        self.head
    }

    /// Makes a record the next one. Gives the row that has to be written.
    pub(super) fn add(&mut self, record: AuditRecord) -> Result<(Key, Vec<u8>), StoreError> {
        if self.newest.is_full() {
            self.newest = Segment::after(self.head);
        }
        self.newest.records.push(self.head.seal(record));
        Ok((key(self.newest.begins.seq + 1)?, self.newest.encode()))
    }

    /// The row that tells which record is the last.
    pub(super) fn head_row(&self) -> Option<Write> {
        Some(Write::Put(Key::new(HEAD).ok()?, self.head.to_string().into_bytes()))
    }

    /// Reads the end of the log. One that is damaged is said to be, and goes on behind the damage: it writes over nothing.
    async fn load(store: &dyn StateStore) -> Result<(Self, Option<String>), StoreError> {
        let head = match store.get(&Key::new(HEAD)?).await? {
            Some(row) => String::from_utf8_lossy(&row.value).parse::<Head>().ok(),
            None => Some(Head::default()),
        };
        let mut broken = head.is_none().then(|| "its head does not parse".to_owned());
        let mut log = Self { head: head.unwrap_or_default(), newest: Segment::default() };
        let mut is_there = log.head.seq == 0;
        let mut next = Some(begin(log.head.seq.saturating_sub(1))?);
        while let Some(at) = next {
            let (rows, more) = rows(store, &at).await?;
            next = more;
            for (_, bytes) in rows {
                let Some(segment) = Segment::decode(&bytes) else { continue };
                for record in &segment.records {
                    is_there |= log.head.seq == record.seq && record.digest == log.head.digest.as_bytes();
                    if record.seq <= log.head.seq {
                        continue;
                    }
                    if let Err(error) = log.head.follow(record) {
                        broken = Some(error.to_string());
                        let digest = Digest::try_from(record.digest.as_slice()).unwrap_or(log.head.digest);
                        log.head = Head { seq: record.seq, digest };
                    }
                }
                log.newest = segment;
            }
        }
        if !is_there {
            broken.get_or_insert_with(|| format!("record {} is gone or was changed", log.head.seq));
        }
        let last = log.newest.records.last();
        let goes_on = last
            .is_some_and(|record| record.seq == log.head.seq && record.digest == log.head.digest.as_bytes());
        if !goes_on {
            log.newest = Segment::after(log.head);
        }
        Ok((log, broken))
    }
}

/// The key behind which the segment lies that has the record after this one.
fn begin(after: u64) -> Result<Key, StoreError> {
    key(after.saturating_sub(RECORDS as u64))
}

/// Some segments behind a key as they are kept, and behind which key the next ones are.
async fn rows(store: &dyn StateStore, after: &Key) -> Result<(Vec<(Key, Vec<u8>)>, Option<Key>), StoreError> {
    let page = store.scan(&prefix(), Some(after), SEGMENTS).await?;
    let next = page.last().map(|(key, _)| key.clone()).filter(|_| page.len() == SEGMENTS);
    Ok((page.into_iter().map(|(key, row)| (key, row.value)).collect(), next))
}

/// Reads the log a page at a time.
#[derive(Debug)]
pub struct AuditPages<'a> {
    store: &'a dyn StateStore,
    after: u64,
    next: Option<Key>,
}

impl<'a> AuditPages<'a> {
    /// All records after a number, in order.
    pub fn after(store: &'a dyn StateStore, after: u64) -> Result<Self, StoreError> {
        Ok(Self { store, after, next: Some(begin(after)?) })
    }

    /// The next records; none, when there are no more.
    pub async fn next(&mut self) -> Result<Option<Vec<AuditRecord>>, StoreError> {
        let Some(at) = self.next.take() else { return Ok(None) };
        let (rows, next) = rows(self.store, &at).await?;
        self.next = next;
        let records = rows.iter().flat_map(|(key, bytes)| Segment::records(key, bytes));
        Ok(Some(records.filter(|record| record.seq > self.after).collect()))
    }
}

/// The digest of a record; none where the log does not have it.
pub async fn audited_then(store: &dyn StateStore, seq: u64) -> Result<Option<Digest>, StoreError> {
    let Some(before) = seq.checked_sub(1) else { return Ok(None) };
    let mut pages = AuditPages::after(store, before)?;
    while let Some(page) = pages.next().await? {
        if let Some(record) = page.iter().find(|record| record.seq >= seq) {
            let found = Some(record).filter(|record| record.seq == seq);
            return Ok(found.and_then(|record| Digest::try_from(record.digest.as_slice()).ok()));
        }
    }
    Ok(None)
}

impl Fleet {
    /// Goes on where the audit log ends. One that is damaged goes on, too: a fleet that nobody can steer would be worse.
    pub(super) async fn load_audit(&mut self, store: &dyn StateStore) -> Result<(), LoadError> {
        let (log, broken) = Log::load(store).await?;
        self.audit_seen.send_replace(log.head());
        self.audit = log;
        if let Some(what) = broken {
            tracing::error!(what, "the audit log is damaged");
            self.log(event("audit.damaged", "coordinator", format!("the audit log is damaged: {what}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
