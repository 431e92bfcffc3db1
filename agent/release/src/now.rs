//! Time on this boot, and contact with the coordinator, as the shell saw them.

use serde::{Deserialize, Serialize};
use windlass_proto::time::{Span, Timestamp};

/// No drain starts unless the coordinator answered within this time.
pub const LEASE_FRESH: Span = Span::secs(10);

/// Milliseconds of `CLOCK_BOOTTIME`: goes on in suspend, unmoved by clock changes, meaningless after a reboot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(pub u64);

impl BootTime {
    /// This point and `span` more.
    pub const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Time since `earlier`; zero when that is in the future.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// What the shell knows at the moment of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The clock that deadlines run on.
    pub boot: BootTime,
    /// The wall clock; for people only, decides nothing.
    pub wall: Timestamp,
    /// When a lease was last renewed on this boot by this process.
    pub contact: Option<BootTime>,
}

impl Now {
    /// Whether the coordinator answered within [`LEASE_FRESH`].
    pub fn in_contact(&self) -> bool {
        self.contact.is_some_and(|at| self.boot.since(at) < LEASE_FRESH)
    }
}
