//! Which releases stay on a host: judged by confirmed history only, so that failed releases never push a good one out.

use std::collections::BTreeSet;
use std::io;

use windlass_proto::digest::Digest;
use windlass_proto::id::AppName;
use windlass_proto::time::Timestamp;

use crate::durable;
use crate::failpoint::{self, Barrier};
use crate::layout::Layout;
use crate::shim::log::former;
use crate::shim::order::RunDir;

/// Confirmed releases kept besides those that must stay.
pub const KEEP: usize = 3;

/// A release as far as retention cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The release.
    pub digest: Digest,
    /// When it was confirmed last on this host, if ever.
    pub confirmed_at: Option<Timestamp>,
}

/// Releases to prune. Never `current`, `confirmed`, the one confirmed before that, or any of `named` (what an operation
/// under way names); beyond those the `keep` last confirmed ones stay.
pub fn to_prune(
    held: &[Candidate],
    current: Option<Digest>,
    confirmed: Option<Digest>,
    named: &[Digest],
    keep: usize,
) -> Vec<Digest> {
    let mut history: Vec<_> = held.iter().filter_map(|it| Some((it.confirmed_at?, it.digest))).collect();
    history.sort_unstable_by(|one, other| other.cmp(one));
    let before = history.iter().map(|(_, digest)| *digest).find(|digest| Some(*digest) != confirmed);
    let mut stays: BTreeSet<Digest> = named.iter().copied().collect();
    stays.extend(current.into_iter().chain(confirmed).chain(before));
    stays.extend(history.iter().take(keep).map(|(_, digest)| *digest));
    held.iter().map(|it| it.digest).filter(|digest| !stays.contains(digest)).collect()
}

/// Moves releases to the trash; [`empty_trash`] deletes them when nothing else is to do.
pub fn prune(layout: &Layout, app: &AppName, digests: &[Digest]) -> io::Result<()> {
    for digest in digests {
        durable::discard(&layout.release(app, digest), &layout.trash())?;
        failpoint::at(Barrier::PruneDiscarded);
        tracing::info!(%app, %digest, "release pruned");
    }
    Ok(())
}

/// Logs that stay of releases that are not here any more: the newest, for whoever asks why they failed.
const LOGS: usize = 4;

/// Removes the logs of all releases but `held` and the [`LOGS`] that were written to last. To be called when no other
/// release runs.
pub fn prune_logs(run: &RunDir, held: &[Digest]) -> io::Result<()> {
    let mut gone = Vec::new();
    for item in std::fs::read_dir(&run.0)? {
        let item = item?;
        let name = item.file_name();
        let hex = name.to_str().and_then(|name| name.strip_suffix(".log"));
        let Some(Ok(digest)) = hex.map(|hex| format!("b3:{hex}").parse::<Digest>()) else { continue };
        if !held.contains(&digest) {
            gone.push((item.metadata()?.modified()?, digest));
        }
    }
    gone.sort_unstable_by(|one, other| other.cmp(one));
    for (_, digest) in gone.into_iter().skip(LOGS) {
        let log = run.log(&digest);
        match std::fs::remove_file(former(&log)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::remove_file(&log)?,
        }
    }
    Ok(())
}

/// Deletes what was discarded. To be called when idle, never just before unpacking (reference/PERFORMANCE.md).
pub fn empty_trash(layout: &Layout) -> io::Result<()> {
    for item in std::fs::read_dir(layout.trash())? {
        let item = item?;
        if item.file_type()?.is_dir() {
            durable::remove_tree(&item.path())?;
        } else {
            std::fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(number: u8) -> Digest {
        Digest::from_bytes([number; 32])
    }

    fn held(items: &[(u8, Option<i64>)]) -> Vec<Candidate> {
        let candidate = |(number, at): &(u8, Option<i64>)| Candidate {
            digest: digest(*number),
            confirmed_at: at.map(Timestamp),
        };
        items.iter().map(candidate).collect()
    }

    #[test]
    fn failed_releases_do_not_count_and_go_first() {
        let held = held(&[(1, Some(10)), (2, Some(20)), (3, None), (4, None), (5, Some(30)), (6, Some(40))]);
        let pruned = to_prune(&held, Some(digest(6)), Some(digest(6)), &[], 3);
        assert_eq!(pruned, [digest(1), digest(3), digest(4)]);
    }

    #[test]
    fn what_is_in_use_stays_whatever_keep_says() {
        let held = held(&[(1, Some(10)), (2, Some(20)), (3, None), (4, None)]);
        assert_eq!(to_prune(&held, Some(digest(3)), Some(digest(2)), &[digest(4)], 0), []);
        assert_eq!(to_prune(&held, Some(digest(1)), Some(digest(1)), &[], 0), [digest(3), digest(4)]);
        assert_eq!(to_prune(&held, None, None, &[], 1), [digest(1), digest(3), digest(4)]);
    }

    #[test]
    fn logs_of_releases_that_are_gone_go_but_for_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir(dir.path().into());
        for number in 0..8 {
            let log = run.log(&digest(number));
            for path in [former(&log), log.clone()] {
                std::fs::write(path, "x").unwrap();
            }
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(number.into());
            std::fs::File::options().write(true).open(&log).unwrap().set_modified(at).unwrap();
        }
        std::fs::write(run.started(), "{}").unwrap();
        prune_logs(&run, &[digest(0)]).unwrap();
        let left: Vec<u8> = (0..8).filter(|number| run.log(&digest(*number)).exists()).collect();
        assert_eq!(left, [0, 4, 5, 6, 7]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2 * left.len() + 1);
    }

    proptest! {
        #[test]
        fn a_way_back_always_stays(
            times in proptest::collection::vec(proptest::option::of(0..100i64), 1..12),
            current in 0..12u8, confirmed in 0..12u8, named in proptest::collection::vec(0..12u8, 0..3), keep in 0..5usize,
        ) {
            let items: Vec<_> = times.iter().enumerate().map(|(n, at)| (n as u8, *at)).collect();
            let held = held(&items);
            let named: Vec<_> = named.into_iter().map(digest).collect();
            let pruned = to_prune(&held, Some(digest(current)), Some(digest(confirmed)), &named, keep);
            prop_assert!(!pruned.contains(&digest(current)) && !pruned.contains(&digest(confirmed)));
            prop_assert!(named.iter().all(|digest| !pruned.contains(digest)));
            let others = items.iter().filter(|(n, at)| *n != confirmed && at.is_some());
            let before = others.max_by_key(|(n, at)| (*at, *n));
            prop_assert!(before.is_none_or(|(n, _)| !pruned.contains(&digest(*n))));
        }
    }
}
