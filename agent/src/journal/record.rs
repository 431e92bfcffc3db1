//! One record of the journal as bytes: `len | crc | prev | generation | seq | body`, padded to eight bytes.
//!
//! A record is written whole by one call and believed whole or not at all; `prev` is the hash of the record before it.

use std::collections::BTreeMap;

use windlass_proto::id::AppName;

/// Bytes before the body.
pub(super) const HEAD: usize = 40;
/// First bytes of the BLAKE3 of the record before.
pub(super) type Link = [u8; 16];

/// One change that a record carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The newest state of an app.
    State {
        /// The app.
        app: AppName,
        /// Its state; the journal does not look inside.
        payload: Vec<u8>,
    },
    /// The highest release counter seen for an app.
    Floor {
        /// The app.
        app: AppName,
        /// The counter.
        counter: u64,
    },
    /// Nothing of an app is here any more. Its floor stays.
    Gone {
        /// The app.
        app: AppName,
    },
}

impl Change {
    /// Bytes that the change takes in a record.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::State { app, payload } => 6 + app.as_str().len() + payload.len(),
            Self::Floor { app, .. } => 14 + app.as_str().len(),
            Self::Gone { app } => 6 + app.as_str().len(),
        }
    }
}

/// What all records together say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latest {
    /// The newest state of each app.
    pub states: BTreeMap<AppName, Vec<u8>>,
    /// The highest release counter seen for each app.
    pub floors: BTreeMap<AppName, u64>,
}

impl Latest {
    /// Takes one change over what was there.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::State { app, payload } => {
                self.states.insert(app.clone(), payload.clone());
            }
            Change::Floor { app, counter } => {
                let floor = self.floors.entry(app.clone()).or_default();
                *floor = (*floor).max(*counter);
            }
            Change::Gone { app } => drop(self.states.remove(app)),
        }
    }

    /// The changes that make this from nothing.
    pub(super) fn changes(&self) -> Vec<Change> {
        let states = self.states.iter();
        let states =
            states.map(|(app, payload)| Change::State { app: app.clone(), payload: payload.clone() });
        let floors = self.floors.iter();
        let floors = floors.map(|(app, counter)| Change::Floor { app: app.clone(), counter: *counter });
        states.chain(floors).collect()
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) prev: Link,
    pub(super) generation: u64,
    pub(super) seq: u64,
    /// True for the first record of a segment, which holds everything.
    pub(super) checkpoint: bool,
    pub(super) changes: Vec<Change>,
    /// Bytes in the segment, with padding.
    pub(super) size: usize,
    /// The link that the next record must carry.
    pub(super) hash: Link,
}

/// The link that the first record of a generation carries.
pub(super) fn root(generation: u64) -> Link {
    link_of(&[b"windlass journal".as_slice(), &generation.to_le_bytes()].concat())
}

/// Encodes a record.
pub(super) fn encode(prev: Link, generation: u64, seq: u64, checkpoint: bool, changes: &[Change]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend_from_slice(&prev);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.push(u8::from(checkpoint));
    for change in changes {
        let (tag, app, payload) = match change {
            Change::State { app, payload } => (1, app, payload.clone()),
            Change::Floor { app, counter } => (2, app, counter.to_le_bytes().to_vec()),
            Change::Gone { app } => (3, app, Vec::new()),
        };
        // An app name has at most 63 bytes and a record less than a segment, so neither length can be cut.
        bytes.extend_from_slice(&[tag, app.as_str().len() as u8]);
        bytes.extend_from_slice(app.as_str().as_bytes());
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&payload);
    }
    let length = (bytes.len() - HEAD) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&bytes);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// Decodes the record at the beginning of `bytes`; `None` when there is none that can be believed.
pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
    let length = u32_at(bytes, 0)? as usize;
    let end = HEAD.checked_add(length)?;
    let frame = bytes.get(..end)?;
    if length == 0 || u32_at(frame, 4)? != checksum(frame) {
        return None;
    }
    let mut record = Record {
        prev: frame[8..24].try_into().ok()?,
        generation: u64::from_le_bytes(frame[24..32].try_into().ok()?),
        seq: u64::from_le_bytes(frame[32..40].try_into().ok()?),
        checkpoint: frame[HEAD] == 1,
        changes: Vec::new(),
        size: end.next_multiple_of(8),
        hash: link_of(frame),
    };
    let mut rest = &frame[HEAD + 1..];
    while let [tag, name, tail @ ..] = rest {
        let app = AppName::new(std::str::from_utf8(tail.get(..usize::from(*name))?).ok()?).ok()?;
        let tail = &tail[usize::from(*name)..];
        let payload = tail.get(4..)?.get(..u32_at(tail, 0)? as usize)?;
        rest = &tail[4 + payload.len()..];
        record.changes.push(match tag {
            1 => Change::State { app, payload: payload.to_vec() },
            2 => Change::Floor { app, counter: u64::from_le_bytes(payload.try_into().ok()?) },
            3 if payload.is_empty() => Change::Gone { app },
            _ => return None,
        });
    }
    rest.is_empty().then_some(record)
}

fn link_of(bytes: &[u8]) -> Link {
    let mut link = Link::default();
    link.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    link
}

/// CRC-32 of everything but the CRC itself.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..4]);
    hasher.update(&frame[8..]);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = Change> {
        let app = "[a-z]{1,20}".prop_map(|name| AppName::new(name).unwrap());
        prop_oneof![
            (app.clone(), proptest::collection::vec(any::<u8>(), 0..300))
                .prop_map(|(app, payload)| Change::State { app, payload }),
            (app.clone(), any::<u64>()).prop_map(|(app, counter)| Change::Floor { app, counter }),
            app.prop_map(|app| Change::Gone { app }),
        ]
    }

    proptest! {
        #[test]
        fn records_round_trip_and_flips_are_seen(
            changes in proptest::collection::vec(change(), 0..5), seq: u64, flip: prop::sample::Index, bit in 0..8u8,
        ) {
            let bytes = encode(root(3), 3, seq, false, &changes);
            let record = decode(&bytes).unwrap();
            prop_assert_eq!(&record.changes, &changes);
            prop_assert_eq!((record.seq, record.generation, record.size), (seq, 3, bytes.len()));
            let mut bad = bytes.clone();
            let padding_from = HEAD + u32_at(&bytes, 0).unwrap() as usize;
            bad[flip.index(padding_from)] ^= 1 << bit;
            prop_assert_eq!(decode(&bad), None);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
