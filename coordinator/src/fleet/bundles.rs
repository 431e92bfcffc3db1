//! The index of bundles: which releases can be rolled out.

use std::collections::{BTreeMap, BTreeSet};

use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, HostId};
use windlass_proto::release::ReleaseRef;
use windlass_proto::rpc::ErrorKind;

use super::log::event;
use super::record::BundleRecord;
use super::{Fleet, ROW, Refusal, persist};

impl Fleet {
    /// Bundles of an app, or all, oldest counter first.
    pub fn bundles(&self, app: Option<&AppName>) -> Vec<&BundleRecord> {
        let mut bundles: Vec<_> =
            self.bundles.values().filter(|bundle| app.is_none_or(|app| bundle.release.app == *app)).collect();
        bundles.sort_by(|a, b| {
            let key = |bundle: &BundleRecord| {
                (bundle.release.app.clone(), bundle.release.counter, bundle.pushed_at)
            };
            key(a).cmp(&key(b))
        });
        bundles
    }

    /// A bundle by digest.
    pub fn bundle(&self, digest: &Digest) -> Option<&BundleRecord> {
        self.bundles.get(digest)
    }

    /// Takes a bundle into the index. The same bundle again is fine; the same version with other bytes is not.
    pub fn add_bundle(&mut self, record: BundleRecord) -> Result<BundleRecord, Refusal> {
        let release = &record.release;
        if let Some(known) = self.bundles.get(&release.digest) {
            return Ok(known.clone());
        }
        self.version_is_free(release)?;
        // It goes into the store, whose rows are bounded: one that does not fit would end the coordinator.
        let size = serde_json::to_vec(&record).map_or(usize::MAX, |row| row.len());
        if size > ROW {
            return Err(Refusal::new(
                ErrorKind::TooMuch,
                format!(
                    "the release part of the spec of {} takes {size} bytes; at most {ROW} are kept: move large values \
                     into files of the bundle",
                    record.release
                ),
            ));
        }
        let mut entry = event("bundle.pushed", &record.pushed_by, record.release.to_string());
        entry.app = record.release.app.to_string();
        self.changes.put(persist::bundle_key(&record.release.digest), &record);
        self.bundles.insert(record.release.digest, record.clone());
        self.log(entry);
        Ok(record)
    }

    /// Refuses a release whose version is that of a bundle with other bytes.
    pub(super) fn version_is_free(&self, release: &ReleaseRef) -> Result<(), Refusal> {
        let other = self.bundles.values().map(|bundle| &bundle.release).find(|known| {
            known.app == release.app && known.version == release.version && known.digest != release.digest
        });
        other.map_or(Ok(()), |other| {
            Err(Refusal::new(
                ErrorKind::Exists,
                format!(
                    "{} {} is stored already with other contents ({}, this one is {}); a version is never changed: \
                     give this one a version of its own with --version",
                    release.app,
                    release.version,
                    other.digest.short(),
                    release.digest.short()
                ),
            ))
        })
    }

    /// Stored releases that hosts have of an app, the most widely held first.
    pub fn held(&self, app: &AppName) -> Vec<Digest> {
        let mut count: BTreeMap<Digest, usize> = BTreeMap::new();
        for status in self.hosts.values().filter_map(|host| host.statuses.get(app)) {
            let named = [&status.current, &status.confirmed].into_iter().flatten().map(|named| &named.digest);
            let held: BTreeSet<&Digest> = status.held.iter().chain(named).collect();
            for digest in held.into_iter().filter(|digest| self.bundles.contains_key(*digest)) {
                *count.entry(*digest).or_default() += 1;
            }
        }
        let mut held: Vec<Digest> = count.keys().copied().collect();
        held.sort_by_key(|digest| {
            std::cmp::Reverse((count[digest], self.bundle(digest).map(|bundle| bundle.release.counter)))
        });
        held
    }

    /// A release as the bundle with its digest says it, where that is stored: a host that says otherwise of its version or
    /// counter is not believed.
    pub(super) fn as_stored(&self, said: ReleaseRef) -> ReleaseRef {
        self.bundle(&said.digest).map_or(said, |bundle| bundle.release.clone())
    }

    /// Whether hosts have taken a bundle, which they do only when authors that they trust have signed it. The coordinator knows
    /// no author, so that this is all that it can say of the worth of signatures.
    pub fn is_accepted(&self, release: &ReleaseRef) -> bool {
        let digest = &release.digest;
        let failed = self.apps.get(&release.app).is_some_and(|app| app.failures.failed.contains_key(digest));
        let mut environments = self.environments_of(&release.app);
        failed
            || environments.any(|(_, record)| record.releases.succeeded.contains(digest))
            || self.hosts.values().filter_map(|host| host.statuses.get(&release.app)).any(|status| {
                let named = [&status.current, &status.confirmed].into_iter().flatten();
                status.held.contains(digest) || named.into_iter().any(|named| named.digest == *digest)
            })
    }

    /// A bundle by digest or a prefix of it (`b3:07ad4e`), or by version where the app is known.
    pub fn find_bundle(&self, app: Option<&AppName>, text: &str) -> Result<&BundleRecord, Refusal> {
        let candidates = || self.bundles.values().filter(|b| app.is_none_or(|app| b.release.app == *app));
        let by_version = candidates().find(|b| app.is_some() && b.release.version.as_str() == text);
        if let Some(bundle) = by_version {
            return Ok(bundle);
        }
        let hex = text.strip_prefix("b3:").unwrap_or(text);
        let is_prefix = hex.len() >= 4 && hex.len() <= 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let found: Vec<_> = match is_prefix {
            true => candidates().filter(|b| b.release.digest.hex().starts_with(hex)).collect(),
            false => Vec::new(),
        };
        match found.as_slice() {
            [bundle] => Ok(bundle),
            [] => Err(self.no_bundle(app, text)),
            several => {
                let names: Vec<_> = several.iter().take(5).map(|b| b.release.to_string()).collect();
                Err(Refusal::invalid(format!(
                    "digest prefix {text} is ambiguous: {}; give more digits",
                    names.join(", ")
                )))
            }
        }
    }

    fn no_bundle(&self, app: Option<&AppName>, text: &str) -> Refusal {
        let Some(app) = app else {
            let known: Vec<_> = self.bundles.keys().map(Digest::short).collect();
            return Refusal::unknown("bundle", text, known.iter().map(String::as_str));
        };
        let versions: Vec<_> =
            self.bundles(Some(app)).iter().map(|b| b.release.version.as_str().to_owned()).collect();
        if versions.is_empty()
            && let Err(unknown) = self.known_app(app)
        {
            return unknown;
        }
        Refusal::unknown(&format!("release of {app}"), text, versions.iter().map(String::as_str))
    }

    /// Refuses an app that nothing is known of.
    pub fn known_app(&self, app: &AppName) -> Result<(), Refusal> {
        let apps: BTreeSet<&str> = self
            .apps
            .keys()
            .chain(self.environments.keys().map(|(app, _)| app))
            .chain(self.bundles.values().map(|b| &b.release.app))
            .chain(self.hosts.values().flat_map(|host| host.statuses.keys()))
            .map(AppName::as_str)
            .collect();
        if apps.contains(app.as_str()) {
            return Ok(());
        }
        Err(Refusal::unknown("app", app.as_str(), apps.into_iter()))
    }

    /// Whether a host has business with a bundle: a rollout that is open, or that the host still works for, names it for
    /// the host, or the host says that it has it and some rollout of that app was ever for the host. A host's word alone
    /// opens no other app's releases.
    pub fn may_fetch(&self, id: &HostId, digest: &Digest) -> Result<(), Refusal> {
        let host = self.enrolled(id)?;
        let name = &host.record.name;
        let app = self.bundles.get(digest).map(|bundle| &bundle.release.app);
        let works_for =
            |id| host.statuses.values().any(|s| s.rollout.as_ref() == Some(id) && s.outcome.is_none());
        let has = host.statuses.values().any(|status| {
            let named = [&status.current, &status.confirmed];
            named.into_iter().flatten().any(|release| release.digest == *digest)
        });
        let assigned = self.rollouts.values().map(|entry| &entry.rollout).any(|rollout| {
            let part = rollout.hosts.get(name).filter(|_| Some(&rollout.app) == app);
            part.is_some_and(|part| {
                let former = part.former.as_ref().map(|former| former.digest);
                let names = rollout.to.digest == *digest || former == Some(*digest);
                has || (names && (!rollout.ended() || works_for(&rollout.id)))
            })
        });
        if assigned {
            return Ok(());
        }
        let message = format!("bundle {} is not assigned to host {name}", digest.short());
        Err(Refusal::new(ErrorKind::NotAllowed, message))
    }
}
