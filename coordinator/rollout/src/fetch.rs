//! How much of a release a host must fetch: the chunks that none of its releases holds.

use std::collections::BTreeMap;

use windlass_proto::digest::Digest;

/// Bytes of the target's chunks, counted by which of some known releases hold them already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetch {
    /// The known releases; bit `n` of a set is the `n`-th.
    releases: Vec<Digest>,
    /// Bytes of the chunks that exactly this set of releases holds.
    bytes: BTreeMap<u64, u64>,
}

impl Fetch {
    /// Most releases that can be told apart; further ones count as unknown.
    pub const RELEASES: usize = 64;

    /// Nothing is known of what hosts hold: they fetch all of it.
    pub fn whole(bytes: u64) -> Self {
        Self { releases: Vec::new(), bytes: BTreeMap::from([(0, bytes)]) }
    }

    /// Counts the target's different chunks, given with what each takes on the wire. `holds` says whether the `n`-th
    /// release holds a chunk.
    pub fn count(
        chunks: impl IntoIterator<Item = (Digest, u64)>,
        mut releases: Vec<Digest>,
        holds: impl Fn(usize, &Digest) -> bool,
    ) -> Self {
        releases.truncate(Self::RELEASES);
        let mut bytes = BTreeMap::new();
        for (chunk, size) in chunks {
            let set = (0..releases.len()).filter(|n| holds(*n, &chunk)).fold(0_u64, |set, n| set | 1 << n);
            *bytes.entry(set).or_default() += size;
        }
        Self { releases, bytes }
    }

    /// Bytes that a host with these releases must fetch.
    pub fn lacking<'a>(&self, held: impl IntoIterator<Item = &'a Digest>) -> u64 {
        let known = held.into_iter().filter_map(|held| self.releases.iter().position(|known| known == held));
        let has = known.fold(0_u64, |set, n| set | 1 << n);
        self.bytes.iter().filter(|(set, _)| **set & has == 0).map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    #[test]
    fn chunks_that_any_held_release_has_are_not_fetched() {
        // Chunk 10 is in both releases, 11 and 12 in one each, 13 in none.
        let holds = [vec![digest(10), digest(11)], vec![digest(10), digest(12)]];
        let chunks = [(digest(10), 1), (digest(11), 10), (digest(12), 100), (digest(13), 1000)];
        let fetch = Fetch::count(chunks, vec![digest(1), digest(2)], |n, chunk| holds[n].contains(chunk));
        let table: [(&[u8], u64); 6] =
            [(&[], 1111), (&[9], 1111), (&[1], 1100), (&[2], 1010), (&[1, 2], 1000), (&[2, 9, 1, 1], 1000)];
        for (held, bytes) in table {
            let held: Vec<Digest> = held.iter().copied().map(digest).collect();
            assert_eq!(fetch.lacking(&held), bytes, "{held:?}");
        }
        assert_eq!(Fetch::whole(7).lacking(&[digest(1)]), 7);
    }

    #[test]
    fn releases_beyond_the_bound_are_unknown() {
        let many: Vec<Digest> = (0..=Fetch::RELEASES).map(|n| digest(u8::try_from(n).unwrap())).collect();
        let fetch = Fetch::count([(digest(200), 5)], many.clone(), |_, _| true);
        assert_eq!((fetch.lacking(&many[63..64]), fetch.lacking(&many[64..])), (0, 5));
    }
}
