//! The effects on what lies on the disk: links, evidence, releases that nobody needs, rows of the store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, OpId};
use windlass_proto::release::ReleaseRef;

use super::{Brief, Failure, Host, chain};
use crate::ballast;
use crate::clock;
use crate::evidence::{self, Scene};
use crate::failpoint::{self, Barrier};
use crate::file::at;
use crate::held;
use crate::hook;
use crate::link::{self, LinkError};
use crate::pin;
use crate::retain::{self, Candidate};
use crate::runtime::systemd;
use crate::store::{Change, EvidenceRow};

/// Longest that freezing evidence may hold a revert up.
const EVIDENCE_DEADLINE: Duration = Duration::from_secs(5);

/// How long systemd is asked about restarts; the way back waits for it.
const RESTARTS_DEADLINE: Duration = Duration::from_secs(1);

impl Host {
    /// Moves `current`. A release is read in full before it is linked, unless the drain did that a moment ago.
    pub(super) fn switch(
        &self,
        app: &AppName,
        to: Option<&ReleaseRef>,
        drained_for: Option<&ReleaseRef>,
    ) -> Result<(), Failure> {
        let current = link::current(&self.layout, app).ok().flatten();
        match to {
            None => link::clear_current(&self.layout, app)?,
            Some(to) if current == Some(to.digest) => {}
            Some(to) => {
                let fresh = current.is_some() && drained_for.is_some_and(|it| it.digest == to.digest);
                if !fresh {
                    held::verify(&self.layout, app, &to.digest)?;
                }
                link::set_current(&self.layout, app, &to.digest)?;
            }
        }
        Ok(())
    }

    /// The journal has the truth already, and recovery writes the link again; so a few attempts are enough.
    pub(super) async fn write_confirmed(self: &Arc<Self>, app: &AppName, release: Option<ReleaseRef>) {
        for attempt in 0..5_u32 {
            let (host, app_of, release) = (self.clone(), app.clone(), release.clone());
            let written = spawn_blocking(move || host.try_write_confirmed(&app_of, release.as_ref())).await;
            match written {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::error!(%app, attempt, error = chain(&error), "confirmed link not written")
                }
                Err(error) => tracing::error!(%app, attempt, %error, "confirmed link not written"),
            }
            tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
        }
    }

    fn try_write_confirmed(&self, app: &AppName, release: Option<&ReleaseRef>) -> Result<(), LinkError> {
        self.point_confirmed(app, release)?;
        if let Some(row) = release.and_then(|release| held::row(&self.layout, app, &release.digest).ok()) {
            self.remember(vec![Change::Put(row)]);
        }
        Ok(())
    }

    /// Makes the `confirmed` link name this release, or nothing; durable when it returns.
    pub(crate) fn point_confirmed(
        &self,
        app: &AppName,
        release: Option<&ReleaseRef>,
    ) -> Result<(), LinkError> {
        let Some(release) = release else { return link::clear_confirmed(&self.layout, app) };
        if link::confirmed(&self.layout, app).ok().flatten() == Some(release.digest) {
            return Ok(());
        }
        link::set_confirmed(&self.layout, app, &release.digest, clock::wall())
    }

    pub(super) async fn freeze(self: &Arc<Self>, brief: &Brief, op: OpId, release: Digest) {
        let (host, brief) = (self.clone(), brief.clone());
        let app = brief.app.clone();
        let run = self.run_dir(&app);
        let restarts = timeout(RESTARTS_DEADLINE, systemd::restarts(&run)).await.ok().flatten();
        let restarts = restarts.filter(|count| *count > 0);
        let frozen = spawn_blocking(move || {
            let reason = brief.operation.as_ref().map(|operation| operation.reason.clone());
            let mut notes: Vec<String> = reason.into_iter().filter(|reason| !reason.is_empty()).collect();
            notes.extend(restarts.map(|count| format!("systemd has started it again {count} times")));
            let hooks = hook::evidence(&run, &op);
            let operation = brief.operation.as_ref();
            let specs = operation.and_then(|operation| Some((operation.from.as_ref()?, &operation.to)));
            let specs = specs.and_then(|(from, to)| host.launch(from).ok().zip(host.launch(to).ok()));
            let config = specs.map(|(from, to)| evidence::differences(&from.spec, &to.spec));
            let items = evidence::collect(&Scene {
                run: &run,
                release,
                transcripts: brief.transcripts.all(),
                current: link::current_target(&host.layout, &brief.app).ok().flatten(),
                link: brief.contact.clone(),
                config: config.unwrap_or_default(),
                notes,
                hooks,
            });
            let bytes = items.iter().map(|item| item.text.len() as u64).sum();
            ballast::with(&host.layout, || {
                evidence::keep(&host.layout.evidence(), &op, &items).map_err(|error| error.source)
            })
            .map_err(at("keep evidence in", &host.layout.evidence()))?;
            failpoint::at(Barrier::EvidenceWritten);
            let row = EvidenceRow { op: op.clone(), at: clock::wall(), file: format!("{op}.json"), bytes };
            host.remember(vec![Change::Frozen { app: brief.app, row }]);
            Ok::<_, crate::file::FileError>(())
        });
        match timeout(EVIDENCE_DEADLINE, frozen).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%app, error = chain(&error), "evidence not kept"),
            Ok(Err(error)) => tracing::warn!(%app, %error, "evidence not kept"),
            Err(_) => tracing::warn!(%app, "evidence not kept in time"),
        }
    }

    /// Removes what retention lets go. What fails is told and tried again the next time. Blocks.
    pub(crate) fn prune(&self, app: &AppName, keep: &Mutex<Vec<Digest>>) {
        let digests = held::digests(&self.layout, app).into_iter();
        let candidates: Vec<Candidate> = digests.map(|digest| self.candidate(app, digest)).collect();
        let (current, confirmed) =
            match (link::current(&self.layout, app), link::confirmed(&self.layout, app)) {
                (Ok(current), Ok(confirmed)) => (current, confirmed),
                // Links that cannot be read protect everything.
                _ => return,
            };
        // Held to the end: what an operation names from now on must not be among what is removed.
        let keep = keep.lock().unwrap_or_else(PoisonError::into_inner);
        let prunable = retain::to_prune(&candidates, current, confirmed, &keep, self.retention);
        let rows: Vec<_> =
            prunable.iter().filter_map(|digest| held::row(&self.layout, app, digest).ok()).collect();
        if let Err(error) = retain::prune(&self.layout, app, &prunable) {
            tracing::warn!(%app, %error, "releases not pruned");
        }
        let mut logged = keep.clone();
        drop(keep);
        logged.extend(held::digests(&self.layout, app));
        if let Err(error) = retain::prune_logs(&self.layout.app_logs(app), &logged) {
            tracing::warn!(%app, %error, "logs not pruned");
        }
        self.remember(rows.into_iter().map(|row| Change::Remove(row.release)).collect());
        retain::empty_trash(&self.layout);
    }

    fn candidate(&self, app: &AppName, digest: Digest) -> Candidate {
        let dir = self.layout.release(app, &digest);
        // Only where bytes count is it worth reading manifests; one that cannot be read takes no room of others.
        let bytes = self.retention.max_bytes.map(|_| held::row(&self.layout, app, &digest));
        Candidate {
            digest,
            confirmed_at: link::confirmed_at(&dir),
            pinned: pin::is_pinned(&dir),
            bytes: bytes.and_then(Result::ok).map_or(0, |row| row.bytes),
        }
    }

    /// Writes rows. Nothing depends on them, so a failure is only told. Blocks.
    pub fn remember(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.store.apply(changes) {
            tracing::warn!(error = chain(&error), "store not written");
        }
    }
}
