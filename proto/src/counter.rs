//! How a release's counter may rise. Pure; each of author, coordinator and host judges by it for himself.
//!
//! Hosts never go below the highest counter that they have seen, so that a counter near the end of the numbers would be the
//! last one of its app. Nobody comes there: who has seen a counter believes only [`JUMP`] more at once, and authors' tools
//! make none above [`FIRST`] out of nothing.

/// The highest counter that authors' tools make for an app of which they know no other. Time in any unit down to
/// nanoseconds is below it.
pub const FIRST: u64 = 1 << 62;

/// The highest counter that a host believes that has seen none of the app. A fleet that began at [`FIRST`] comes there after
/// 16,384 of the longest jumps.
const UNSEEN: u64 = 1 << 63;

/// How far a counter may rise at once above the highest seen: nine years of microseconds, or of anything coarser.
pub const JUMP: u64 = 1 << 48;

/// A counter too far above the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("counter {given} is too far above {seen}, the highest known; after it {most} is the most: use {} if in doubt", .seen.saturating_add(1))]
pub struct TooFar {
    /// It.
    pub given: u64,
    /// The highest that is known; 0: none.
    pub seen: u64,
    /// The most that would do.
    pub most: u64,
}

/// Whether a host, or a coordinator for it, believes `given` after `seen`, the highest so far; 0: none. Lower ones are not
/// its matter.
pub const fn may_follow(seen: u64, given: u64) -> Result<(), TooFar> {
    within(if seen == 0 { UNSEEN } else { seen.saturating_add(JUMP) }, seen, given)
}

/// Whether an author's tool that knows no other counter makes a release with this one.
pub const fn may_begin(given: u64) -> Result<(), TooFar> {
    within(FIRST, 0, given)
}

const fn within(most: u64, seen: u64, given: u64) -> Result<(), TooFar> {
    if given <= most { Ok(()) } else { Err(TooFar { given, seen, most }) }
}

/// The highest of an app's counters that can be come to from the lowest without a jump too far; 0: there is none.
pub fn highest(counters: impl IntoIterator<Item = u64>) -> u64 {
    let mut counters: Vec<u64> = counters.into_iter().collect();
    counters.sort_unstable();
    counters.into_iter().fold(0, |seen, counter| {
        let fits = if seen == 0 { may_begin(counter) } else { may_follow(seen, counter) };
        if fits.is_ok() { counter } else { seen }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn jumps_are_bounded() {
        for (seen, given, fits) in [
            (0, 0, true),
            (0, FIRST + 1, true),
            (0, UNSEEN, true),
            (0, UNSEEN + 1, false),
            (0, u64::MAX, false),
            (1, 1, true),
            (7, 3, true),
            (7, 7 + JUMP, true),
            (7, 8 + JUMP, false),
            (7, u64::MAX - 2, false),
            (FIRST, FIRST + 1, true),
            // Whoever is there already is not shut out.
            (u64::MAX - 1, u64::MAX, true),
        ] {
            assert_eq!(may_follow(seen, given).is_ok(), fits, "{given} after {seen}");
        }
        assert_eq!(may_begin(FIRST), Ok(()));
        let far = may_begin(u64::MAX).unwrap_err();
        assert_eq!(far, TooFar { given: u64::MAX, seen: 0, most: FIRST });
        let text = may_follow(7, u64::MAX).unwrap_err().to_string();
        assert!(text.contains("above 7") && text.contains("use 8"), "{text}");
    }

    #[test]
    fn nanoseconds_of_this_century_are_a_beginning() {
        assert_eq!(may_begin(4_102_444_800_000_000_000), Ok(()));
    }

    proptest! {
        /// Whatever somebody adds beyond reach, the next counter stays what it was, and hosts that have seen the others take it.
        #[test]
        fn nobody_ends_the_numbers_of_an_app(
            known in proptest::collection::vec(1..=JUMP, 1..20),
            poison in proptest::collection::vec(JUMP * 2 + 1..=u64::MAX, 0..20),
        ) {
            let before = highest(known.iter().copied());
            prop_assert_eq!(before, known.iter().copied().max().unwrap());
            let after = highest(known.into_iter().chain(poison));
            prop_assert_eq!(after, before);
            prop_assert_eq!(may_follow(before, after + 1), Ok(()));
        }

        /// A host believes what authors' tools come to next, also one that has seen nothing yet.
        #[test]
        fn what_is_highest_can_be_followed(counters in proptest::collection::vec(any::<u64>(), 0..20)) {
            let seen = highest(counters.iter().copied());
            prop_assert!(seen == 0 || counters.contains(&seen));
            prop_assert!(seen < u64::MAX);
            prop_assert_eq!(may_follow(seen, seen + 1), Ok(()));
        }
    }
}
