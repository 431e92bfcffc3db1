//! The last record of the coordinator's audit log that this host has heard of, so that a log that was rewritten, or a state
//! that was restored from an older copy, shows. The host goes on working: what it makes of it, it says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::rpc::audit::Head;
use windlass_proto::rpc::{InvalidField, Welcome};
use windlass_proto::time::Timestamp;

use crate::clock;
use crate::file::{self, FileError};
use crate::layout::Layout;

/// Of the file's form.
const VERSION: u32 = 1;
/// Largest such file.
const BYTES: u64 = 4096;

/// What a coordinator says of its audit log when it welcomes the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Its epoch.
    epoch: u64,
    /// The last record.
    head: Head,
    /// The digest of the record that the host has asked for; none where the log does not have it.
    then: Option<Digest>,
    /// What was led below this epoch has ended with a restore.
    restored_below: u64,
}

impl Told {
    /// From a welcome; `None` from a coordinator that says nothing of it.
    pub fn from_welcome(welcome: &Welcome) -> Result<Option<Self>, InvalidField> {
        let Some(head) = welcome.audit.clone() else { return Ok(None) };
        let head = Head::try_from(head).map_err(|error| error.within("welcome"))?;
        let then =
            Some(welcome.audit_then.as_slice()).filter(|bytes| !bytes.is_empty()).map(Digest::try_from);
        let then = then.transpose().map_err(|error| InvalidField::new("welcome.audit_then", error))?;
        Ok(Some(Self { epoch: welcome.epoch, head, then, restored_below: welcome.restored_below }))
    }
}

/// What the host has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSeen {
    version: u32,
    /// Under which epoch.
    epoch: u64,
    /// The last record then.
    head: Head,
    /// When.
    at: Timestamp,
    /// The log that does not have that record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other: Option<Other>,
}

/// A log that is not the one that was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Other {
    /// Its last record.
    head: Head,
    /// When it was first heard of.
    at: Timestamp,
}

impl AuditSeen {
    /// What is known after a coordinator has told of its log. Its log has to have the record that was its last before, unless
    /// its operators have said since that it leads after a restore.
    fn after(known: Option<Self>, told: Told, now: Timestamp) -> Self {
        let fresh = Self { version: VERSION, epoch: told.epoch, head: told.head, at: now, other: None };
        let Some(known) = known.filter(|known| known.head.seq > 0) else { return fresh };
        let is_restored = known.epoch < told.restored_below && told.restored_below <= told.epoch;
        let has_it = told.then == Some(known.head.digest) && told.head.seq >= known.head.seq;
        if has_it && known.other.is_none() && told.head == known.head {
            return known;
        }
        if has_it || is_restored {
            return fresh;
        }
        let at = known.other.map_or(now, |other| other.at);
        Self { other: Some(Other { head: told.head, at }), ..known }
    }

    /// What is wrong, in a sentence.
    fn problem(&self) -> Option<String> {
        let other = self.other?;
        let Head { seq, digest } = self.head;
        let now = match other.head.seq < seq {
            true => format!("it ends with record {}", other.head.seq),
            false => format!("record {seq} is another one"),
        };
        Some(format!(
            "the coordinator's audit log is not the one that this host has seen: its last record was {seq} ({}), and now {now}. Either \
             the log was rewritten, or the state is an older copy; where that was meant, start the coordinator once with --after-restore",
            digest.short()
        ))
    }
}

/// Keeps it, one file.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    seen: Option<AuditSeen>,
}

impl Keeper {
    /// Reads what is kept. What cannot be read is told in the log, and dropped. Blocks.
    pub fn open(layout: &Layout) -> Self {
        let path = layout.audit_seen();
        let seen = read(&path).unwrap_or_else(|why| {
            tracing::error!(path = %path.display(), why, "what was seen of the audit log is lost");
            None
        });
        Self { path, seen }
    }

    /// Number of the record that the host has heard of; 0: of none.
    pub fn seq(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.head.seq)
    }

    /// What is wrong, in a sentence.
    pub fn problem(&self) -> Option<String> {
        self.seen.and_then(|seen| seen.problem())
    }

    /// Hears what a coordinator tells, and keeps it. What cannot be kept is told in the log: the next welcome brings it again.
    pub async fn hear(&mut self, told: Told) {
        let seen = AuditSeen::after(self.seen, told, clock::wall());
        if self.seen == Some(seen) {
            return;
        }
        self.seen = Some(seen);
        if let Some(problem) = seen.problem() {
            tracing::error!("{problem}");
        }
        let path = self.path.clone();
        let kept = tokio::task::spawn_blocking(move || file::replace_json(&path, &seen, 0o600)).await;
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let cause: &dyn std::error::Error = &error.source;
                tracing::warn!(%error, cause, "what was seen of the audit log is not kept");
            }
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

fn read(path: &std::path::Path) -> Result<Option<AuditSeen>, String> {
    let text = match file::read_bounded(path, BYTES) {
        Ok(text) => text,
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.source.to_string()),
    };
    let seen: AuditSeen = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    match seen.version {
        VERSION => Ok(Some(seen)),
        other => Err(format!("it is of version {other}, this agent knows {VERSION}")),
    }
}

/// What a host says is wrong with the audit log, from its files. Blocks.
pub fn problem_in(layout: &Layout) -> Option<String> {
    read(&layout.audit_seen()).ok().flatten().and_then(|seen| seen.problem())
}

/// Forgets what was seen, and takes whatever log comes next. Blocks.
pub fn forget(layout: &Layout) -> Result<(), FileError> {
    file::remove(&layout.audit_seen())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64, log: &str) -> Head {
        Head { seq, digest: Digest::of(format!("{log} {seq}").as_bytes()) }
    }

    /// What a coordinator with this log tells a host that has seen `of`.
    fn told(epoch: u64, seq: u64, log: &str, of: u64) -> Told {
        let then = (1..=seq).contains(&of).then(|| head(of, log).digest);
        Told { epoch, head: head(seq, log), then, restored_below: 0 }
    }

    fn seen(epoch: u64, seq: u64, log: &str) -> AuditSeen {
        AuditSeen::after(None, told(epoch, seq, log, 0), Timestamp(1))
    }

    #[test]
    fn a_log_goes_on_or_it_is_another_one() {
        let known = seen(3, 10, "a");
        let after = |told| AuditSeen::after(Some(known), told, Timestamp(2));
        // It grew, or nothing happened, also under a later leadership.
        for (epoch, seq) in [(3, 10), (3, 15), (4, 10), (9, 99)] {
            let after = after(told(epoch, seq, "a", 10));
            assert_eq!((after.head, after.problem()), (head(seq, "a"), None));
        }
        assert_eq!(after(told(3, 10, "a", 10)), known, "nothing new is written down");
        // Older, other, and other but longer by now.
        for (told, words) in [
            (told(3, 7, "a", 10), "now it ends with record 7"),
            (told(4, 0, "a", 10), "now it ends with record 0"),
            (told(3, 10, "b", 10), "now record 10 is another one"),
            (told(4, 12, "b", 10), "now record 10 is another one"),
            (Told { then: None, ..told(3, 12, "b", 10) }, "now record 10 is another one"),
            // Somebody who knows the digest and not the log.
            (Told { head: head(9, "a"), ..told(3, 10, "a", 10) }, "now it ends with record 9"),
        ] {
            let after = after(told);
            let problem = after.problem().unwrap();
            assert!(problem.contains(words) && problem.contains("last record was 10"), "{problem}");
            assert_eq!((after.epoch, after.head), (3, head(10, "a")), "what was seen stays");
            // It stays until the log is back, however the other one goes on.
            let later = Told { head: head(50, "b"), then: Some(head(10, "b").digest), ..told };
            let later = AuditSeen::after(Some(after), later, Timestamp(9));
            assert_eq!(later.other.map(|other| other.at), Some(Timestamp(2)));
            let back = AuditSeen::after(Some(after), self::told(3, 10, "a", 10), Timestamp(3));
            assert_eq!((back.head, back.problem()), (head(10, "a"), None));
        }
        // Nothing was seen, or nothing was on record.
        assert_eq!(AuditSeen::after(Some(seen(3, 0, "a")), told(3, 5, "b", 0), Timestamp(2)).problem(), None);
    }

    #[test]
    fn a_restore_that_was_said_is_no_other_log() {
        let known = seen(3, 10, "a");
        let after = |told| AuditSeen::after(Some(known), told, Timestamp(2));
        let restored = |epoch, below| Told { restored_below: below, ..told(epoch, 7, "a", 10) };
        assert_eq!(after(restored(1027, 1027)).problem(), None);
        assert_eq!(after(restored(1028, 1027)).head, head(7, "a"), "also later");
        assert!(after(restored(3, 3)).problem().is_some(), "a restore from before it was seen");
        assert!(after(restored(4, 1027)).problem().is_some(), "a restore that is still to come");
    }

    #[tokio::test]
    async fn what_was_seen_survives_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), dir.path()).unwrap();
        let mut keeper = Keeper::open(&layout);
        assert_eq!((keeper.seq(), keeper.problem()), (0, None));
        keeper.hear(told(3, 10, "a", 0)).await;
        keeper = Keeper::open(&layout);
        assert_eq!((keeper.seq(), keeper.problem(), problem_in(&layout)), (10, None, None));
        keeper.hear(told(3, 7, "a", 10)).await;
        let problem = Keeper::open(&layout).problem();
        assert!(problem.is_some());
        assert_eq!((problem_in(&layout), Keeper::open(&layout).seq()), (problem, 10));
        std::fs::write(layout.audit_seen(), b"nonsense").unwrap();
        assert_eq!(Keeper::open(&layout).seq(), 0);
        for _ in 0..2 {
            forget(&layout).unwrap();
            assert!(!layout.audit_seen().exists());
        }
    }
}
