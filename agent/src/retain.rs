//! Which releases stay on a host: judged by confirmed history only, so that failed releases never push a good one out.
//!
//! It happens when an operation ends and every now and then besides. Removing is a rename, which a full disk allows, and
//! nothing waits for it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use windlass_proto::digest::Digest;
use windlass_proto::id::AppName;
use windlass_proto::time::{Span, Timestamp};

use crate::durable;
use crate::failpoint::{self, Barrier};
use crate::layout::Layout;
use crate::shim::log::{self, former};

/// Which releases of an application stay besides those that must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// So many of those that were confirmed last.
    pub keep: usize,
    /// As long as they all take no more than so many bytes, as if no two shared a file.
    pub max_bytes: Option<u64>,
    /// Between two looks.
    pub every: Span,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep: 3, max_bytes: None, every: Span::secs(600) }
    }
}

/// A release as far as retention cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The release.
    pub digest: Digest,
    /// When it was confirmed last on this host, if ever.
    pub confirmed_at: Option<Timestamp>,
    /// Whether somebody wants it to stay.
    pub pinned: bool,
    /// Its size.
    pub bytes: u64,
}

/// Releases to prune. Never `current`, `confirmed`, the one confirmed before that, a pinned one, or any of `named` (what an
/// operation under way names); beyond those as [`Retention`] says, the newest first.
pub fn to_prune(
    held: &[Candidate],
    current: Option<Digest>,
    confirmed: Option<Digest>,
    named: &[Digest],
    retention: Retention,
) -> Vec<Digest> {
    let mut history: Vec<&Candidate> = held.iter().filter(|it| it.confirmed_at.is_some()).collect();
    history.sort_unstable_by_key(|it| std::cmp::Reverse((it.confirmed_at, it.digest)));
    let before = history.iter().map(|it| it.digest).find(|digest| Some(*digest) != confirmed);
    let mut stays: BTreeSet<Digest> = named.iter().copied().collect();
    stays.extend(current.into_iter().chain(confirmed).chain(before));
    stays.extend(held.iter().filter(|it| it.pinned).map(|it| it.digest));
    let must: u64 = held.iter().filter(|it| stays.contains(&it.digest)).map(|it| it.bytes).sum();
    let mut room = retention.max_bytes.unwrap_or(u64::MAX).saturating_sub(must);
    for it in history.into_iter().take(retention.keep) {
        if stays.contains(&it.digest) {
            continue;
        }
        let Some(left) = room.checked_sub(it.bytes) else { break };
        room = left;
        stays.insert(it.digest);
    }
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
pub fn prune_logs(logs: &Path, held: &[Digest]) -> io::Result<()> {
    let mut gone = Vec::new();
    let items = match std::fs::read_dir(logs) {
        // Nothing was ever started.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        items => items?,
    };
    for item in items {
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
        let log = log::of(logs, &digest);
        match std::fs::remove_file(former(&log)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::remove_file(&log)?,
        }
    }
    Ok(())
}

/// Deletes what was discarded; what fails is told and tried again the next time. To be called when idle, never just before
/// unpacking (reference/PERFORMANCE.md).
pub fn empty_trash(layout: &Layout) {
    if let Err(error) = delete_discarded(layout) {
        tracing::warn!(%error, "trash not emptied");
    }
}

fn delete_discarded(layout: &Layout) -> io::Result<()> {
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
            pinned: false,
            bytes: 10,
        };
        items.iter().map(candidate).collect()
    }

    const fn keep(keep: usize) -> Retention {
        Retention { keep, max_bytes: None, every: Span(0) }
    }

    #[test]
    fn what_is_pinned_stays_and_bytes_are_bounded() {
        let mut held =
            held(&[(1, Some(10)), (2, Some(20)), (3, Some(30)), (4, Some(40)), (5, None), (6, None)]);
        let current = Some(digest(4));
        let within = |held: &[Candidate], max| {
            to_prune(held, current, current, &[], Retention { max_bytes: Some(max), ..keep(9) })
        };
        assert_eq!(within(&held, 40), [digest(5), digest(6)]);
        assert_eq!(within(&held, 39), [digest(1), digest(5), digest(6)]);
        assert_eq!(within(&held, 29), [digest(1), digest(2), digest(5), digest(6)]);
        // The way back stays whatever it takes.
        assert_eq!(within(&held, 0), [digest(1), digest(2), digest(5), digest(6)]);
        held[4].pinned = true;
        assert_eq!(within(&held, 0), [digest(1), digest(2), digest(6)]);
        // An older one does not stay in place of a newer one that has no room.
        held[1].bytes = 100;
        assert_eq!(within(&held, 60), [digest(1), digest(2), digest(6)]);
    }

    #[test]
    fn failed_releases_do_not_count_and_go_first() {
        let held = held(&[(1, Some(10)), (2, Some(20)), (3, None), (4, None), (5, Some(30)), (6, Some(40))]);
        let pruned = to_prune(&held, Some(digest(6)), Some(digest(6)), &[], keep(3));
        assert_eq!(pruned, [digest(1), digest(3), digest(4)]);
    }

    #[test]
    fn what_is_in_use_stays_whatever_keep_says() {
        let held = held(&[(1, Some(10)), (2, Some(20)), (3, None), (4, None)]);
        assert_eq!(to_prune(&held, Some(digest(3)), Some(digest(2)), &[digest(4)], keep(0)), []);
        assert_eq!(to_prune(&held, Some(digest(1)), Some(digest(1)), &[], keep(0)), [digest(3), digest(4)]);
        assert_eq!(to_prune(&held, None, None, &[], keep(1)), [digest(1), digest(3), digest(4)]);
    }

    #[test]
    fn logs_of_releases_that_are_gone_go_but_for_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..8 {
            let log = log::of(dir.path(), &digest(number));
            for path in [former(&log), log.clone()] {
                std::fs::write(path, "x").unwrap();
            }
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(number.into());
            std::fs::File::options().write(true).open(&log).unwrap().set_modified(at).unwrap();
        }
        std::fs::write(dir.path().join("other"), "{}").unwrap();
        prune_logs(dir.path(), &[digest(0)]).unwrap();
        let left: Vec<u8> = (0..8).filter(|number| log::of(dir.path(), &digest(*number)).exists()).collect();
        assert_eq!(left, [0, 4, 5, 6, 7]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2 * left.len() + 1);
    }

    proptest! {
        #[test]
        fn a_way_back_always_stays(
            times in proptest::collection::vec(proptest::option::of(0..100i64), 1..12),
            current in 0..12u8, confirmed in 0..12u8, named in proptest::collection::vec(0..12u8, 0..3), most in 0..5usize,
            max_bytes in proptest::option::of(0..100u64), pinned in 0..12u8,
        ) {
            let items: Vec<_> = times.iter().enumerate().map(|(n, at)| (n as u8, *at)).collect();
            let mut held = held(&items);
            for it in held.iter_mut().filter(|it| it.digest == digest(pinned)) {
                it.pinned = true;
            }
            let named: Vec<_> = named.into_iter().map(digest).collect();
            let pruned = to_prune(&held, Some(digest(current)), Some(digest(confirmed)), &named, Retention { max_bytes, ..keep(most) });
            prop_assert!(!pruned.contains(&digest(current)) && !pruned.contains(&digest(confirmed)));
            prop_assert!(!pruned.contains(&digest(pinned)));
            prop_assert!(named.iter().all(|digest| !pruned.contains(digest)));
            let others = items.iter().filter(|(n, at)| *n != confirmed && at.is_some());
            let before = others.max_by_key(|(n, at)| (*at, *n));
            prop_assert!(before.is_none_or(|(n, _)| !pruned.contains(&digest(*n))));
        }
    }
}
