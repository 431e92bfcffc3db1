//! Version numbers of the contract.

use std::fmt;

/// Versions of the agent protocol that a program speaks. New fields and new features need no new version; what an older program
/// would take for something else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    oldest: u32,
    newest: u32,
}

impl Protocols {
    /// Those of this program.
    pub const OURS: Self = Self { oldest: 1, newest: 1 };

    /// Another program's, as it says them: an oldest of 0 is the newest. None for what is no range.
    pub const fn said(oldest: u32, newest: u32) -> Option<Self> {
        let oldest = if oldest == 0 { newest } else { oldest };
        if newest == 0 || oldest > newest { None } else { Some(Self { oldest, newest }) }
    }

    /// The oldest one.
    pub const fn oldest(self) -> u32 {
        self.oldest
    }

    /// The newest one.
    pub const fn newest(self) -> u32 {
        self.newest
    }

    /// Whether this one is spoken.
    pub const fn has(self, version: u32) -> bool {
        self.oldest <= version && version <= self.newest
    }

    /// The newest that both speak.
    pub fn agree(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (self.has(newest) && other.has(newest)).then_some(newest)
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { oldest, newest } = self;
        if oldest == newest { write!(f, "{newest}") } else { write!(f, "{oldest} to {newest}") }
    }
}

/// Newest version of the manifest format. A manifest has the oldest that can say what it says:
/// [`ReleaseSpec::format`](crate::spec::ReleaseSpec::format).
///
/// 1: all but what follows. 2: `release.hooks`.
pub const MANIFEST_FORMAT: u32 = 2;

/// The version of the programs, from the workspace.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_programs_speak_the_newest_version_that_both_know() {
        let said = |oldest, newest| Protocols::said(oldest, newest).unwrap();
        for (one, other, agreed) in [
            ((1, 1), (1, 1), Some(1)),
            ((0, 1), (1, 2), Some(1)),
            ((1, 3), (2, 4), Some(3)),
            ((1, 4), (2, 3), Some(3)),
            ((1, 1), (2, 2), None),
            ((0, 2), (0, 3), None),
        ] {
            let (one, other) = (said(one.0, one.1), said(other.0, other.1));
            assert_eq!(one.agree(other), agreed, "{one} and {other}");
            assert_eq!(other.agree(one), agreed, "{other} and {one}");
        }
    }

    #[test]
    fn what_is_no_range_is_none() {
        assert_eq!(Protocols::said(0, 0), None);
        assert_eq!(Protocols::said(3, 2), None);
        assert_eq!(Protocols::said(0, 2).unwrap().to_string(), "2");
        assert_eq!(Protocols::said(1, 2).unwrap().to_string(), "1 to 2");
    }
}
