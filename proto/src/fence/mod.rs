//! Who may lead a host: fences, what a host has obeyed, and what a coordinator's state knows. Pure.
//!
//! A campaign raises the epoch and draws a leader: that pair is a [`Fence`]. Two coordinators that were started from copies
//! of one state can draw the same epoch, never the same leader. A host remembers under which fence it last accepted a
//! signed release, and how far in that leadership ([`Led`]); a coordinator remembers the same of its own state, its
//! [`Lineage`]. What each of them concludes from what the other shows is decided here, because both must agree:
//!
//! * [`may_lead`] is the host's decision, [`Lineage::judge`] the coordinator's.
//! * The mark is there for copies of a running coordinator's state: such a copy has the fence that hosts obey, but not all
//!   that was ordered under it. It is not signed, so that all a host can do with a false one is to keep itself out.

mod lineage;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use lineage::{LINEAGE, Lineage, Restore, Shown, Verdict};

/// How far the epoch may rise at once in the eyes of a host. Starts of a coordinator raise it by one each, so that no fleet
/// ever comes near; and so many jumps lead to the end of the numbers that nobody gets there either.
pub const JUMP: u64 = 1 << 32;

/// How far a coordinator leads above what it finds after a restore, so that what was lost does not come near.
pub const RESTORE_STEP: u64 = 1 << 10;

/// A random number that only one leadership has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderId(pub [u8; 16]);

/// A text that is no leader id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid leader id {0:?}: expected 32 lowercase hex digits")]
pub struct InvalidLeaderId(String);

impl LeaderId {
    /// Its first digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for LeaderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl FromStr for LeaderId {
    type Err = InvalidLeaderId;
    fn from_str(text: &str) -> Result<Self, InvalidLeaderId> {
        let bytes = from_hex(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| InvalidLeaderId(text.chars().take(80).collect()))
    }
}

impl Serialize for LeaderId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LeaderId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One leadership: its number, and which of all that may have that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// Higher than those of all leaderships that the state had before.
    pub epoch: u64,
    /// Whose it is.
    pub leader: LeaderId,
}

/// `epoch 7 of leader 0a1b2c3d`.
impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of leader {}", self.epoch, self.leader.short())
    }
}

/// A fence with the signature of the key that the fleet's coordinators have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedFence {
    /// The fence.
    pub fence: Fence,
    /// The signature; see `tls::seal`.
    #[serde(serialize_with = "write_hex", deserialize_with = "read_hex")]
    pub signature: Vec<u8>,
}

/// A leadership, and how far in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Led {
    /// The leadership.
    pub fence: Fence,
    /// The number of the newest assignment made, or taken, under it.
    pub mark: u64,
}

/// What a host has obeyed: journalled with the first signed release that it accepted under the fence, and with each later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obeyed {
    /// The fence, with what proves that it is no invention of the host.
    pub signed: SignedFence,
    /// The number of the newest assignment that was taken under it.
    #[serde(default)]
    pub mark: u64,
}

impl Obeyed {
    /// Without the proof.
    pub const fn led(&self) -> Led {
        Led { fence: self.signed.fence, mark: self.mark }
    }
}

/// What a coordinator shows a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Under which it leads.
    pub signed: SignedFence,
    /// The entry of its lineage with the host's fence, if it has one.
    pub follows: Option<Led>,
}

/// Why a host does not obey a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its time is over.
    #[error("it leads epoch {given}, this host has obeyed {obeyed}")]
    Lower {
        /// Its epoch.
        given: u64,
        /// The host's.
        obeyed: u64,
    },
    /// The same number, drawn by somebody else.
    #[error(
        "it leads {given}, this host has obeyed {obeyed}: one of them was started from a copy of the state"
    )]
    OtherLeader {
        /// Its fence.
        given: Fence,
        /// The host's.
        obeyed: Fence,
    },
    /// Its state lacks what the host has obeyed.
    #[error(
        "it leads {given}, but its state does not know {obeyed} as far as this host has obeyed it: it was started from an old copy"
    )]
    OutsideLineage {
        /// Its fence.
        given: Fence,
        /// The host's.
        obeyed: Fence,
    },
    /// A number that no coordinator of this fleet can have come to.
    #[error(
        "it leads epoch {given}, further above {obeyed} than this host believes; `windlass-agent reset-fence` accepts it"
    )]
    TooFar {
        /// Its epoch.
        given: u64,
        /// The host's.
        obeyed: u64,
    },
    /// It is older than fences.
    #[error(
        "it shows no fence, and this host has obeyed {obeyed}; upgrade the coordinator, or `windlass-agent reset-fence`"
    )]
    Unfenced {
        /// The host's.
        obeyed: Fence,
    },
}

/// Whether a host obeys who makes this offer. `highest` is the highest epoch of any order that it has obeyed: all that is known
/// of hosts whose agent was older than fences.
pub fn may_lead(obeyed: Option<Led>, highest: u64, offer: &Offer) -> Result<(), Unfit> {
    let given = offer.signed.fence;
    let floor = obeyed.map_or(highest, |led| led.fence.epoch.max(highest));
    if given.epoch < floor {
        return Err(Unfit::Lower { given: given.epoch, obeyed: floor });
    }
    if given.epoch - floor > JUMP {
        return Err(Unfit::TooFar { given: given.epoch, obeyed: floor });
    }
    let Some(obeyed) = obeyed else { return Ok(()) };
    if given == obeyed.fence {
        return Ok(());
    }
    if given.epoch == obeyed.fence.epoch {
        return Err(Unfit::OtherLeader { given, obeyed: obeyed.fence });
    }
    match offer.follows {
        Some(follows) if follows.fence == obeyed.fence && follows.mark >= obeyed.mark => Ok(()),
        _ => Err(Unfit::OutsideLineage { given, obeyed: obeyed.fence }),
    }
}

/// The same for a coordinator older than fences, which says its epoch and no more.
pub fn may_lead_unfenced(obeyed: Option<Led>, highest: u64, epoch: u64) -> Result<(), Unfit> {
    match obeyed {
        Some(led) => Err(Unfit::Unfenced { obeyed: led.fence }),
        None if epoch < highest => Err(Unfit::Lower { given: epoch, obeyed: highest }),
        None if epoch - highest > JUMP => Err(Unfit::TooFar { given: epoch, obeyed: highest }),
        None => Ok(()),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

fn write_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_hex(bytes))
}

fn read_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    from_hex(&text).ok_or_else(|| serde::de::Error::custom("a signature is written in lowercase hex digits"))
}

#[cfg(test)]
mod tests;
