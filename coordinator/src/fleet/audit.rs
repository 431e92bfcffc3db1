//! What operators ask for, on record together with what comes of it.

use tokio::sync::watch;
use windlass_proto::digest::Digest;
use windlass_proto::rpc::AuditRecord;
use windlass_proto::rpc::audit::Head;
use windlass_proto::time::Timestamp;

use super::hosts::{TEXT, cut};
use super::log::event;
use super::{Fleet, Refusal, persist, record};
use crate::issued::Issued;

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
        self.record_at(self.now, act, refused);
    }

    fn record_at(&mut self, at: Timestamp, act: Act, refused: Option<&Refusal>) {
        let outcome = refused.map_or_else(|| "done".to_owned(), |refusal| cut(refusal.message.clone(), TEXT));
        let segment = self.audit.add(AuditRecord {
            at_ms: at.0,
            who: act.who,
            certificate: act.certificate,
            address: act.address,
            method: act.method,
            about: cut(act.about, TEXT),
            request: act.request.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
            outcome,
            ..AuditRecord::default()
        });
        self.changes.put_audit(segment);
    }

    /// Puts on record that an operator's certificate was issued beside this coordinator; once, until [`Self::forget_issued`].
    pub fn record_issued(&mut self, issued: &Issued) {
        if !self.issued.insert(issued.serial.clone()) {
            return;
        }
        self.changes.put(persist::issued_key(&issued.serial), &record::Issued {});
        let Issued { serial, operator, days, by, at, .. } = issued;
        let act = Act {
            who: format!("local/{by}"),
            method: "issue-operator".to_owned(),
            about: format!("operator {operator}, certificate {serial}, for {days} days"),
            ..Act::default()
        };
        self.record_at(*at, act, None);
    }

    /// What was issued is on record, and nothing says it again.
    pub fn forget_issued(&mut self, serial: &str) {
        if self.issued.remove(serial) {
            self.changes.delete(persist::issued_key(serial));
        }
    }

    /// Something that should be on record is not understood.
    pub fn note_unread(&mut self, message: String) {
        self.log(event("audit.unread", "coordinator", message));
    }

    /// Changes whenever a record is on disk.
    pub fn follow_audit(&self) -> watch::Receiver<Head> {
        self.audit_seen.subscribe()
    }

    /// The last record.
    pub const fn audited(&self) -> Head {
        self.audit.head()
    }
}
