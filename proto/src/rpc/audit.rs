//! The audit log's chain: each record holds the digest of the one before it, so that none can be changed, taken out or put
//! in between unnoticed. Whoever kept an earlier [`Head`] also notices what was cut off the end, or a log made anew.

use std::fmt;
use std::str::FromStr;

use prost::Message as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{AuditHead, AuditRecord, InvalidField};
use crate::digest::{Digest, InvalidDigest};

/// Name of the header under which each answer to a call that is on record carries the [`Head`] as it was then, as text.
pub const HEAD_HEADER: &str = "windlass-audit-head";

/// The last record of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0 before the first.
    pub seq: u64,
    /// Its digest.
    pub digest: Digest,
}

impl Default for Head {
    /// Before the first record.
    fn default() -> Self {
        Self { seq: 0, digest: Digest::from_bytes([0; 32]) }
    }
}

/// Where a chain is not whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The next record is another one.
    #[error("{} missing: {found} comes after {}", between(*wanted, *found), wanted - 1)]
    Missing {
        /// Which should have come.
        wanted: u64,
        /// Which came.
        found: u64,
    },
    /// A record is not what it was when it was written.
    #[error("record {0} was changed")]
    Changed(u64),
    /// A record was written after another one than the one before it here.
    #[error("record {0} does not follow the one before it: that one was changed or replaced")]
    Severed(u64),
}

/// Which records are not where they should be: those up to the one that came, where that is a later one.
fn between(wanted: u64, found: u64) -> String {
    match found.checked_sub(1) {
        Some(last) if last > wanted => format!("records {wanted} to {last} are"),
        _ => format!("record {wanted} is"),
    }
}

impl Head {
    /// Makes a record the next one.
    pub fn seal(&mut self, mut record: AuditRecord) -> AuditRecord {
        record.seq = self.seq + 1;
        record.previous = self.digest.as_bytes().to_vec();
        let digest = digest(&record);
        record.digest = digest.as_bytes().to_vec();
        *self = Self { seq: record.seq, digest };
        record
    }

    /// Goes on to a record that should be the next one.
    pub fn follow(&mut self, record: &AuditRecord) -> Result<(), Broken> {
        let wanted = self.seq + 1;
        if record.seq != wanted {
            return Err(Broken::Missing { wanted, found: record.seq });
        }
        let digest = digest(record);
        if record.digest != digest.as_bytes() {
            return Err(Broken::Changed(record.seq));
        }
        if record.previous != self.digest.as_bytes() {
            return Err(Broken::Severed(record.seq));
        }
        *self = Self { seq: record.seq, digest };
        Ok(())
    }
}

/// All fields but the digest itself count.
fn digest(record: &AuditRecord) -> Digest {
    Digest::of(&AuditRecord { digest: Vec::new(), ..record.clone() }.encode_to_vec())
}

/// `12:b3:…`, as [`FromStr`] reads it.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.digest)
    }
}

impl FromStr for Head {
    type Err = InvalidHead;
    fn from_str(text: &str) -> Result<Self, InvalidHead> {
        let (seq, digest) = text.split_once(':').ok_or(InvalidHead::Form)?;
        Ok(Self { seq: seq.parse().map_err(|_| InvalidHead::Form)?, digest: digest.parse()? })
    }
}

impl From<Head> for AuditHead {
    fn from(head: Head) -> Self {
        Self { seq: head.seq, digest: head.digest.as_bytes().to_vec() }
    }
}

impl TryFrom<AuditHead> for Head {
    type Error = InvalidField;
    fn try_from(wire: AuditHead) -> Result<Self, InvalidField> {
        let digest = Digest::try_from(wire.digest.as_slice());
        Ok(Self { seq: wire.seq, digest: digest.map_err(|error| InvalidField::new("audit.digest", error))? })
    }
}

impl Serialize for Head {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that names no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHead {
    /// Not of the form.
    #[error("expected a record's number, a colon and its digest, as `windlass audit --check` prints them")]
    Form,
    /// The digest is none.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain(records: usize) -> Vec<AuditRecord> {
        let mut head = Head::default();
        let record = |n: usize| AuditRecord {
            at_ms: 1_000 + n as i64,
            who: "operator/ana".into(),
            method: "FleetService/CordonHost".into(),
            about: format!("host web-{n}"),
            request: vec![n as u8; 32],
            outcome: "done".into(),
            ..AuditRecord::default()
        };
        (0..records).map(|n| head.seal(record(n))).collect()
    }

    fn check(records: &[AuditRecord]) -> Result<Head, Broken> {
        let mut head = Head::default();
        records.iter().try_for_each(|record| head.follow(record))?;
        Ok(head)
    }

    #[test]
    fn a_chain_is_whole_and_its_head_is_kept_as_text() {
        let records = chain(5);
        let head = check(&records).unwrap();
        assert_eq!(head.seq, 5);
        assert_eq!(head.to_string().parse(), Ok(head));
        assert_eq!(check(&[]), Ok(Head::default()));
        for wrong in ["", "5", "5:", "x:b3:00", ":b3:", "b3:5"] {
            assert!(wrong.parse::<Head>().is_err(), "{wrong}");
        }
        // What was cut off the end is seen by whoever kept the head.
        assert_ne!(check(&records[..4]).unwrap(), head);
    }

    #[test]
    fn what_is_gone_or_out_of_order_is_named() {
        let records = chain(5);
        let without = [&records[..2], &records[3..]].concat();
        assert_eq!(check(&without), Err(Broken::Missing { wanted: 3, found: 4 }));
        let error = check(&[&records[..1], &records[3..]].concat()).unwrap_err();
        assert_eq!(error.to_string(), "records 2 to 3 are missing: 4 comes after 1");
        let mut exchanged = records.clone();
        exchanged.swap(1, 2);
        assert_eq!(check(&exchanged), Err(Broken::Missing { wanted: 2, found: 3 }));
        let mut changed = records.clone();
        changed[2].outcome = "done by somebody else".into();
        assert_eq!(check(&changed), Err(Broken::Changed(3)));
        // Sealed anew: then the next one does not follow.
        let mut head = check(&records[..2]).unwrap();
        changed[2] = head.seal(changed[2].clone());
        assert_eq!(check(&changed), Err(Broken::Severed(4)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn any_changed_byte_is_noticed(record in 0_usize..6, byte: prop::sample::Index, mask in 1_u8..) {
            let mut records = chain(6);
            let mut bytes = records[record].encode_to_vec();
            let at = byte.index(bytes.len());
            bytes[at] ^= mask;
            // What does not decode, or decodes to the same record, is not a changed record.
            if let Ok(changed) = AuditRecord::decode(&*bytes) && changed != records[record] {
                records[record] = changed;
                prop_assert!(check(&records).is_err());
            }
        }
    }
}
