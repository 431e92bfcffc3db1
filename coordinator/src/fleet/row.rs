//! Rows of the state as bytes: the version of their kind, a space, and the record as JSON, as in `1 {"name":"web-1"}`.
//!
//! A field that older programs may overlook needs no new version. Any other change of a kind gives it one: [`Record::read`] then
//! reads the older ones, too. A golden file holds each version of each kind (`coordinator/tests/golden/rows`).

use serde::Serialize;
use serde::de::DeserializeOwned;
use windlass_proto::fence::Led;
use windlass_proto::phase::AppStatus;
use windlass_proto::version::PROGRAM;
use windlass_rollout::state::Host;

use super::leads::{Deposed, Restored};
use super::persist::RolloutHead;
use super::record::{
    AppRecord, BundleRecord, EnvironmentRecord, EventRecord, GrantRecord, HostRecord, Issued, TokenRecord,
};

/// What a kind of rows holds.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// The first part of their keys.
    const KIND: &'static str;
    /// What is written.
    const VERSION: u32;

    /// Reads one of this version or an older one.
    fn read(version: u32, json: &[u8]) -> serde_json::Result<Self> {
        debug_assert!(version <= Self::VERSION);
        serde_json::from_slice(json)
    }
}

/// Why a row is no record.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A later windlass has written it.
    #[error(
        "it is of version {version}, and windlass {PROGRAM} knows up to {known}: start the windlass that wrote it"
    )]
    Newer {
        /// Its version.
        version: u32,
        /// The newest one that is known.
        known: u32,
    },
    /// It does not begin with a version.
    #[error("it has no version")]
    Unversioned,
    /// What follows is something else.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The row's bytes.
pub(super) fn encode<T: Record>(record: &T) -> serde_json::Result<Vec<u8>> {
    let mut row = format!("{} ", T::VERSION).into_bytes();
    serde_json::to_writer(&mut row, record)?;
    Ok(row)
}

/// What a row says.
pub(super) fn decode<T: Record>(row: &[u8]) -> Result<T, Unreadable> {
    let at = row.iter().position(|byte| *byte == b' ').ok_or(Unreadable::Unversioned)?;
    let version = std::str::from_utf8(&row[..at]).ok().and_then(|text| text.parse().ok());
    match version.ok_or(Unreadable::Unversioned)? {
        0 => Err(Unreadable::Unversioned),
        version if version > T::VERSION => Err(Unreadable::Newer { version, known: T::VERSION }),
        version => Ok(T::read(version, &row[at + 1..])?),
    }
}

#[cfg(test)]
type Again = fn(&[u8]) -> Result<Vec<u8>, Unreadable>;

macro_rules! records {
    ($($kind:literal $version:literal $record:ty,)*) => {
        $(impl Record for $record {
            const KIND: &'static str = $kind;
            const VERSION: u32 = $version;
        })*

        /// Each kind, with its newest version, and with what reads one and writes what it says.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, u32, Again)] = &[
            $(($kind, $version, |row| Ok(encode(&decode::<$record>(row)?)?)),)*
        ];
    };
}

records! {
    "app" 1 AppRecord,
    "bundle" 1 BundleRecord,
    "deposed" 1 Deposed,
    "environment" 1 EnvironmentRecord,
    "event" 1 EventRecord,
    "fence" 1 Led,
    "grant" 1 GrantRecord,
    "host" 1 HostRecord,
    "issued" 1 Issued,
    "restore" 1 Restored,
    "rollout" 1 RolloutHead,
    "rollout-host" 1 Host,
    "status" 1 AppStatus,
    "token" 1 TokenRecord,
}
