//! The log on disk: what a start and a reader load of it, and that damage is named.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use windlass_proto::fence::LeaderId;
use windlass_proto::time::Timestamp;

use super::*;
use crate::fleet::{Act, EventFilter, Refusal};
use crate::issued::Issued;
use crate::store::{CommitError, Fence, Leadership, Member, MemoryStore, Revision, Rise, Txn, Versioned};

/// A store that counts what is read of it.
#[derive(Debug, Default)]
struct Counting {
    store: MemoryStore,
    rows: AtomicUsize,
    most_at_once: AtomicUsize,
}

#[async_trait::async_trait]
impl StateStore for Counting {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.rows.fetch_add(1, Ordering::Relaxed);
        self.store.get(key).await
    }
    async fn scan(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let rows = self.store.scan(prefix, after, limit).await?;
        self.rows.fetch_add(rows.len(), Ordering::Relaxed);
        self.most_at_once.fetch_max(rows.len(), Ordering::Relaxed);
        Ok(rows)
    }
    async fn commit(&self, fence: &Fence, txn: Txn) -> Result<Revision, CommitError> {
        self.store.commit(fence, txn).await
    }
    async fn campaign(&self, me: &Member, rise: Rise) -> Result<Leadership, StoreError> {
        self.store.campaign(me, rise).await
    }
    async fn leader(&self) -> Result<Option<Member>, StoreError> {
        self.store.leader().await
    }
}

struct Disk {
    store: Counting,
    fence: Fence,
}

impl Disk {
    async fn new() -> Self {
        let store = Counting::default();
        let member = Member { id: "a".into(), address: "here".into() };
        let fence = store.campaign(&member, Rise::ONE).await.unwrap().fence;
        Self { store, fence }
    }

    /// With a log of this many records, none of which was committed alone.
    async fn with(records: usize) -> (Self, Fleet) {
        let (disk, mut fleet) = (Self::new().await, fleet());
        for n in 1..=records {
            fleet.record(asked(&format!("host web-{n}")), None);
            if n % 500 == 0 || n == records {
                disk.commit(fleet.take_changes().0).await;
            }
        }
        (disk, fleet)
    }

    async fn commit(&self, writes: Vec<Write>) {
        for part in writes.chunks(crate::store::MAX_OPS) {
            let txn = Txn { conditions: vec![], writes: part.to_vec() };
            self.store.commit(&self.fence, txn).await.unwrap();
        }
    }

    async fn put(&self, key: &str, value: Vec<u8>) {
        self.commit(vec![Write::Put(Key::new(key).unwrap(), value)]).await;
    }

    async fn row(&self, first: u64) -> Vec<u8> {
        self.store.get(&key(first).unwrap()).await.unwrap().unwrap().value
    }

    async fn load(&self) -> Fleet {
        let mut fleet = Fleet::new("test".into(), self.fence, Timestamp(2_000));
        fleet.load(&self.store).await.unwrap();
        fleet
    }

    async fn records_after(&self, after: u64) -> Vec<AuditRecord> {
        let mut pages = AuditPages::after(&self.store, after).unwrap();
        let mut records = Vec::new();
        while let Some(page) = pages.next().await.unwrap() {
            records.extend(page);
        }
        records
    }

    /// What `windlass audit --check` says.
    async fn check(&self) -> Result<Head, String> {
        let mut head = Head::default();
        for record in self.records_after(0).await {
            head.follow(&record).map_err(|broken| broken.to_string())?;
        }
        Ok(head)
    }
}

fn fleet() -> Fleet {
    let fence = Fence { epoch: 1, leader: LeaderId([1; 16]) };
    Fleet::new("test".into(), fence, Timestamp(1_000))
}

fn asked(about: &str) -> Act {
    Act { who: "operator/ana".into(), method: "M".into(), about: about.into(), ..Act::default() }
}

fn damage(fleet: &Fleet) -> Vec<String> {
    let events = fleet.events(0, &EventFilter::default(), 100, false).into_iter();
    events.filter(|event| event.kind == "audit.damaged").map(|event| event.message).collect()
}

#[tokio::test]
async fn what_is_asked_for_is_committed_before_what_it_changes() {
    let (disk, mut fleet) = (Disk::new().await, fleet());
    let kept = ("t0".to_owned(), Digest::of(b"secret"));
    fleet.create_token("operator/ana", kept, BTreeMap::new(), None, None).unwrap();
    fleet.record(asked("token t0"), None);
    let refused = fleet.cordon("operator/ana", "web-9", None).unwrap_err();
    fleet.record(asked("host web-9"), Some(&refused));
    let (writes, _) = fleet.take_changes();
    let keys = writes.iter().map(|write| match write {
        Write::Put(key, _) | Write::Delete(key) => key.as_str(),
    });
    let keys: Vec<&str> = keys.collect();
    assert_eq!(keys[..2], ["cold/audit/0000000000000001", "audit-end"], "one row for both");
    assert!(keys.contains(&"token/t0"), "{keys:?}");
    disk.commit(writes).await;
    let records = disk.records_after(0).await;
    let told = records.iter().map(|record| (record.about.as_str(), record.outcome.as_str()));
    assert!(told.eq([("token t0", "done"), ("host web-9", "unknown host \"web-9\"")]));
    assert!(fleet.take_changes().0.is_empty(), "nothing is written where nothing was asked for");
    assert_eq!(disk.load().await.audit, fleet.audit);
}

/// Neither a start nor a reader ever has more than a page of it, however long the log is.
#[tokio::test]
async fn a_log_of_a_hundred_thousand_records_is_read_a_page_at_a_time() {
    const ALL: usize = 100_000;
    let (disk, mut fleet) = Disk::with(ALL).await;
    assert!(fleet.audit.newest.records.len() <= RECORDS);
    disk.store.rows.store(0, Ordering::Relaxed);
    let read = disk.load().await;
    assert_eq!((&read.audit, damage(&read)), (&fleet.audit, vec![]));
    let loaded = disk.store.rows.load(Ordering::Relaxed);
    assert!(loaded < 10, "a start loads {loaded} rows");

    let (mut head, mut most) = (Head::default(), 0);
    let mut pages = AuditPages::after(&disk.store, 0).unwrap();
    while let Some(page) = pages.next().await.unwrap() {
        most = most.max(page.len());
        page.iter().for_each(|record| head.follow(record).unwrap());
    }
    assert_eq!(head, fleet.audited());
    assert_eq!(head.seq, ALL as u64);
    assert!(most <= SEGMENTS * RECORDS, "{most} records in a page");
    assert!(disk.store.most_at_once.load(Ordering::Relaxed) <= SEGMENTS);

    // From anywhere, also from inside a segment, without reading what is before.
    for after in [0, 1, 31, 32, 33, 64, 99_967, 99_968, 99_999, 100_000, 200_000] {
        disk.store.rows.store(0, Ordering::Relaxed);
        let mut pages = AuditPages::after(&disk.store, after).unwrap();
        let first = pages.next().await.unwrap().unwrap().first().map(|record| record.seq);
        assert_eq!(first, (after < ALL as u64).then_some(after + 1));
        assert!(disk.store.rows.load(Ordering::Relaxed) <= SEGMENTS);
    }
    let then = audited_then(&disk.store, ALL as u64).await.unwrap();
    assert_eq!(then, Some(fleet.audited().digest));
    assert_eq!(audited_then(&disk.store, 0).await.unwrap(), None);
    assert_eq!(audited_then(&disk.store, ALL as u64 + 1).await.unwrap(), None);

    // It goes on over the border of what was loaded.
    for _ in 0..RECORDS {
        fleet.record(asked("host web-1"), None);
    }
    disk.commit(fleet.take_changes().0).await;
    assert_eq!(disk.check().await, Ok(fleet.audited()));
}

#[tokio::test]
async fn a_segment_that_is_gone_changed_or_elsewhere_is_named() {
    let size = RECORDS as u64;
    let (disk, fleet) = Disk::with(4 * RECORDS + 3).await;
    assert_eq!(disk.check().await, Ok(fleet.audited()));
    let (two, three) = (size + 1, 2 * size + 1);
    let (second, third) = (disk.row(two).await, disk.row(three).await);
    assert_eq!(Segment::decode(&second).unwrap().begins.seq, size, "it says what it begins from");

    disk.commit(vec![Write::Delete(key(two).unwrap())]).await;
    let gone = format!("records {two} to {} are missing: {three} comes after {size}", 2 * size);
    assert_eq!(disk.check().await, Err(gone));
    let put = async |first: u64, row: &[u8]| disk.put(key(first).unwrap().as_str(), row.to_vec()).await;
    put(two, b"nonsense").await;
    assert_eq!(disk.check().await, Err(format!("record {two} was changed")));
    let mut changed = Segment::decode(&second).unwrap();
    changed.records[4].outcome = "done by somebody else".into();
    put(two, &changed.encode()).await;
    assert_eq!(disk.check().await, Err(format!("record {} was changed", two + 4)));
    put(two, &third).await;
    put(three, &second).await;
    let found = format!("records {two} to {} are missing: {three} comes after {size}", 2 * size);
    assert_eq!(disk.check().await, Err(found));
    let newer = Row { version: VERSION + 1, ..Row::decode(&*second).unwrap() };
    put(two, &newer.encode_to_vec()).await;
    assert_eq!(disk.check().await, Err(format!("record {two} was changed")));
    put(two, &second).await;
    put(three, &third).await;
    assert_eq!(disk.check().await, Ok(fleet.audited()));
}

#[tokio::test]
async fn large_records_end_a_segment_early() {
    let (disk, mut fleet) = (Disk::new().await, fleet());
    for _ in 0..3 * RECORDS {
        fleet.record(asked(&"x".repeat(5000)), None);
        assert!(fleet.audit.newest.encode().len() < BYTES + 5000);
    }
    disk.commit(fleet.take_changes().0).await;
    assert_eq!(disk.check().await, Ok(fleet.audited()));
    assert!(disk.load().await.audit == fleet.audit);
}

/// README says what it takes on disk, which is half as much again.
#[test]
fn a_record_is_some_hundred_bytes_and_never_more_than_five_thousand() {
    let mut fleet = fleet();
    let long = "x".repeat(100_000);
    let usual = Act {
        who: "operator/ana".into(),
        certificate: "4a".repeat(16),
        address: "198.51.100.17:50000".into(),
        method: "RolloutService/Start".into(),
        about: "app shop-api".into(),
        request: Some(Digest::of(b"request")),
    };
    fleet.record(usual.clone(), None);
    let refused = Refusal::invalid(long.clone());
    fleet.record(Act { about: long, who: format!("operator/{}", "x".repeat(63)), ..usual }, Some(&refused));
    let sizes: Vec<usize> = fleet.audit.newest.records.iter().map(prost::Message::encoded_len).collect();
    assert!((200..300).contains(&sizes[0]) && (4000..5000).contains(&sizes[1]), "{sizes:?}");
}

#[tokio::test]
async fn it_goes_on_where_it_ended_and_damage_is_said() {
    let (disk, fleet) = Disk::with(3).await;
    // A crash between two transactions: the records are there, their head is an older one.
    let mut first = Head::default();
    first.follow(&disk.records_after(0).await[0]).unwrap();
    disk.put("audit-end", first.to_string().into_bytes()).await;
    let read = disk.load().await;
    assert_eq!((&read.audit, damage(&read)), (&fleet.audit, vec![]));
    disk.put("audit-end", fleet.audited().to_string().into_bytes()).await;

    let whole = disk.row(1).await;
    let mut cut = Segment::decode(&whole).unwrap();
    cut.records.pop();
    for row in [b"nonsense".to_vec(), cut.encode()] {
        disk.put(key(1).unwrap().as_str(), row.clone()).await;
        let mut read = disk.load().await;
        assert_eq!(damage(&read), ["the audit log is damaged: record 3 is gone or was changed"]);
        // It goes on behind the gap and writes over nothing.
        read.record(asked("host web-9"), None);
        assert_eq!(read.audited().seq, 4);
        let keys = read.take_changes().0;
        assert!(matches!(&keys[0], Write::Put(at, _) if *at == key(4).unwrap()), "{keys:?}");
    }
    disk.commit(vec![Write::Delete(key(1).unwrap())]).await;
    let read = disk.load().await;
    assert_eq!(damage(&read), ["the audit log is damaged: record 3 is gone or was changed"]);
    disk.put(key(1).unwrap().as_str(), whole).await;
    disk.put("audit-end", b"nonsense".to_vec()).await;
    let read = disk.load().await;
    assert_eq!(damage(&read), ["the audit log is damaged: its head does not parse"]);
    assert_eq!(read.audit, fleet.audit);
}

/// Whatever comes between its being on record and its file's removal.
#[tokio::test]
async fn what_was_issued_is_on_record_once() {
    let (disk, mut fleet) = (Disk::new().await, fleet());
    let issued = Issued::now("4a01".into(), "ana".parse().unwrap(), 30);
    for _ in 0..2 {
        fleet.record_issued(&issued);
        disk.commit(fleet.take_changes().0).await;
        fleet = disk.load().await;
    }
    let records = disk.records_after(0).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].about, "operator ana, certificate 4a01, for 30 days");
    assert_eq!(records[0].at_ms, issued.at.0, "when it was issued");
    fleet.forget_issued("4a01");
    disk.commit(fleet.take_changes().0).await;
    assert!(disk.load().await.issued.is_empty());
}
