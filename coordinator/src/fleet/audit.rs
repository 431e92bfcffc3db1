//! What operators ask for, on record together with what comes of it.

use windlass_proto::digest::Digest;
use windlass_proto::rpc::AuditRecord;
use windlass_proto::rpc::audit::Head;

use super::hosts::{TEXT, cut};
use super::{Fleet, Refusal};

/// A call that changes something: who asks for what.
#[derive(Debug, Clone, Default)]
pub struct Act {
    /// `operator/ana`.
    pub who: String,
    /// Serial number of the certificate that says so; empty without one.
    pub certificate: String,
    /// Where the call comes from.
    pub address: String,
    /// `FleetService/CordonHost`.
    pub method: String,
    /// What it is about: `host web-1`.
    pub about: String,
    /// Of all that was asked for.
    pub request: Option<Digest>,
}

impl Fleet {
    /// Puts on record what was asked for, and why it was refused. It is committed before anything else of the same command,
    /// and that before anything is sent or answered.
    pub fn record(&mut self, act: Act, refused: Option<&Refusal>) {
        let outcome = refused.map_or_else(|| "done".to_owned(), |refusal| cut(refusal.message.clone(), TEXT));
        let record = self.audit.seal(AuditRecord {
            at_ms: self.now.0,
            who: act.who,
            certificate: act.certificate,
            address: act.address,
            method: act.method,
            about: cut(act.about, TEXT),
            request: act.request.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
            outcome,
            ..AuditRecord::default()
        });
        self.changes.put_audit(&record);
    }

    /// The last record.
    pub const fn audited(&self) -> Head {
        self.audit
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use windlass_proto::fence::LeaderId;
    use windlass_proto::time::Timestamp;

    use super::*;
    use crate::fleet::{EventFilter, audit_records};
    use crate::store::{Fence, Key, Member, MemoryStore, Rise, StateStore, Txn, Write};

    struct Disk {
        store: MemoryStore,
        fence: Fence,
    }

    impl Disk {
        async fn new() -> Self {
            let store = MemoryStore::default();
            let member = Member { id: "a".into(), address: "here".into() };
            let fence = store.campaign(&member, Rise::ONE).await.unwrap().fence;
            Self { store, fence }
        }

        async fn commit(&self, writes: Vec<Write>) {
            self.store.commit(&self.fence, Txn { conditions: vec![], writes }).await.unwrap();
        }

        async fn load(&self) -> Fleet {
            let mut fleet = Fleet::new("test".into(), self.fence, Timestamp(2_000));
            fleet.load(&self.store).await.unwrap();
            fleet
        }

        async fn records(&self) -> Vec<AuditRecord> {
            audit_records(&self.store, 0, 100).await.unwrap()
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
        assert_eq!(keys[..3], ["audit/0000000000000001", "audit/0000000000000002", "audit-head"]);
        assert!(keys.contains(&"token/t0"), "{keys:?}");
        disk.commit(writes).await;
        let records = disk.records().await;
        let told = records.iter().map(|record| (record.about.as_str(), record.outcome.as_str()));
        assert!(told.eq([("token t0", "done"), ("host web-9", "unknown host \"web-9\"")]));
        assert!(fleet.take_changes().0.is_empty(), "nothing is written where nothing was asked for");
        assert_eq!(disk.load().await.audit, fleet.audit);
    }

    #[tokio::test]
    async fn it_goes_on_where_it_ended_and_damage_is_said() {
        let (disk, mut fleet) = (Disk::new().await, fleet());
        for n in 0..3 {
            fleet.record(asked(&format!("host web-{n}")), None);
        }
        disk.commit(fleet.take_changes().0).await;
        let put = |key: &str, value: Vec<u8>| vec![Write::Put(Key::new(key).unwrap(), value)];
        // A crash between two transactions: the records are there, their head is an older one.
        let mut first = Head::default();
        first.follow(&disk.records().await[0]).unwrap();
        disk.commit(put("audit-head", first.to_string().into_bytes())).await;
        let read = disk.load().await;
        assert_eq!((read.audit, damage(&read)), (fleet.audit, vec![]));
        disk.commit(put("audit-head", fleet.audit.to_string().into_bytes())).await;

        for change in [
            put("audit/0000000000000003", b"nonsense".to_vec()),
            vec![Write::Delete(Key::new("audit/0000000000000003").unwrap())],
        ] {
            disk.commit(change).await;
            let mut read = disk.load().await;
            assert_eq!(damage(&read), ["the audit log is damaged: record 3 is gone or was changed"]);
            // It goes on behind the gap and writes over nothing.
            read.record(asked("host web-9"), None);
            assert_eq!(read.audit.seq, 4);
        }
        disk.commit(put("audit-head", b"nonsense".to_vec())).await;
        let read = disk.load().await;
        assert_eq!(damage(&read), ["the audit log is damaged: its head does not parse"]);
        assert_eq!(read.audit.seq, 2);
    }
}
