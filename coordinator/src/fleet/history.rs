//! What succeeded and what failed: where a rollback leads, what is offered to no host, and why something failed.

use std::collections::BTreeMap;

use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, Environment, HostName, RolloutId};
use windlass_proto::phase::{Fault, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::Timestamp;
use windlass_rollout::failures::Parole;
use windlass_rollout::plan::Poisoned;
use windlass_rollout::state::Host as Part;
use windlass_rollout::way_back::Question;
use windlass_rollout::{Rollout, State, WayBack};

use super::hosts::{TEXT, cut};
use super::log::event;
use super::record::{AppRecord, EnvironmentRecord};
use super::{Fleet, Host, Refusal, persist};

/// The cause of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The host; none where the rollout failed as a whole.
    pub host: Option<HostName>,
    /// The rollout.
    pub rollout: Option<RolloutId>,
    /// Whose fault.
    pub fault: Option<Fault>,
    /// In words.
    pub cause: String,
}

impl Cause {
    /// What a rollout's book has of a host, in the words of `rollout show`.
    fn of(rollout: &Rollout, name: &HostName, part: &Part) -> Self {
        let fault = part.first_cause().and_then(|cause| cause.fault);
        let (host, rollout) = (Some(name.clone()), Some(rollout.id.clone()));
        Self { host, rollout, fault, cause: part.story() }
    }
}

impl Fleet {
    /// What is kept of an app.
    pub(super) fn app(&self, app: &AppName) -> AppRecord {
        self.apps.get(app).cloned().unwrap_or_default()
    }

    pub(super) fn keep_app(&mut self, app: &AppName, record: AppRecord) {
        self.changes.put(persist::app_key(app), &record);
        self.apps.insert(app.clone(), record);
    }

    /// What is kept of an environment of an app.
    pub(super) fn environment(&self, app: &AppName, environment: &Environment) -> EnvironmentRecord {
        self.environments.get(&(app.clone(), environment.clone())).cloned().unwrap_or_default()
    }

    pub(super) fn keep_environment(&mut self, app: &AppName, name: &Environment, record: EnvironmentRecord) {
        self.changes.put(persist::environment_key(app, name), &record);
        self.environments.insert((app.clone(), name.clone()), record);
    }

    /// Draws the conclusions from a rollout that has just ended, or, where `again`, from what its hosts said after that.
    pub(super) fn conclude(&mut self, id: &RolloutId, again: bool) {
        let Some(entry) = self.rollouts.get(id) else { return };
        let rollout = &entry.rollout;
        let (name, environment) = (rollout.app.clone(), rollout.environment.clone());
        let (mut app, mut record) = (self.app(&name), self.environment(&name, &environment));
        match again {
            false => {
                app.failures.conclude(rollout);
                record.releases.conclude(rollout);
            }
            true => {
                app.failures.revise(rollout);
                record.releases.revise(rollout);
            }
        }
        if app != self.app(&name) {
            self.keep_app(&name, app);
        }
        self.keep_environment(&name, &environment, record);
    }

    /// Lets a poisoned release be tried once more. Gives it, and where it had failed.
    pub fn parole(
        &mut self,
        who: &str,
        app: &AppName,
        release: &str,
        reason: &str,
    ) -> Result<(ReleaseRef, Poisoned), Refusal> {
        self.known_app(app)?;
        if reason.trim().is_empty() {
            return Err(Refusal::invalid("a parole needs a reason, which goes on record"));
        }
        let release = self.find_bundle(Some(app), release)?.release.clone();
        let mut record = self.app(app);
        let poisoned = record.failures.poisoned(u32::MAX).into_iter().find(|it| it.digest == release.digest);
        let poisoned = poisoned.ok_or_else(|| {
            Refusal::wrong_state(format!("{release} is not poisoned and needs no parole; deploy it as it is"))
        })?;
        let reason = cut(reason.to_owned(), TEXT);
        let hosts = poisoned.hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("{release} may be tried once more, though it failed on {hosts}: {reason}");
        let parole = Parole { by: who.to_owned(), reason, at: self.now };
        record.failures.paroled.insert(release.digest, parole);
        self.keep_app(app, record);
        let mut record = event("release.paroled", who, cut(message, TEXT));
        record.app = app.to_string();
        self.log(record);
        Ok((release, poisoned))
    }

    /// Digests of an app that failed on at least `after` hosts.
    pub(super) fn poisoned(&self, app: &AppName, after: u32) -> Vec<Poisoned> {
        self.apps.get(app).map(|record| record.failures.poisoned(after)).unwrap_or_default()
    }

    /// The release that a rollback leads to: the named one, or the one before the current where that is certain.
    pub(super) fn rollback_target(
        &self,
        app: &AppName,
        environment: &Environment,
        target: &str,
    ) -> Result<ReleaseRef, Refusal> {
        self.known_app(app)?;
        let record = self.environment(app, environment).releases;
        let (whole, flagged) = (environment.of(app), environment.flagged(app));
        if !target.is_empty() {
            let bundle = self.find_bundle(Some(app), target)?;
            if !record.succeeded.contains(&bundle.release.digest) {
                return Err(Refusal::wrong_state(format!(
                    "{} has never succeeded {}, so there is nothing to roll back to; to go there, run `windlass deploy --bundle {}`",
                    bundle.release,
                    if environment.is_default() { "here".to_owned() } else { format!("in {environment}") },
                    bundle.release.digest.short()
                )));
            }
            return Ok(bundle.release.clone());
        }
        match self.way_back(app, environment) {
            WayBack::To(release) => Ok(release),
            WayBack::Ask(question) => {
                let Question { candidates, .. } = &question;
                let ways = candidates.iter().map(|candidate| &candidate.release.version);
                let ways: Vec<_> =
                    ways.map(|version| format!("`windlass rollback {flagged} --to {version}`")).collect();
                Err(Refusal::wrong_state(format!("{question}; {}", ways.join(" or "))))
            }
            WayBack::OnlyOne(current) => Err(Refusal::wrong_state(format!(
                "{whole} has no earlier good release: {current} is the only one; see `windlass rollout history {flagged}`"
            ))),
            WayBack::NoneYet => Err(Refusal::wrong_state(format!(
                "{whole} has no good release yet; nothing was ever rolled out to its end"
            ))),
        }
    }

    /// Where a rollback in an environment of an app leads that names no release.
    pub fn way_back(&self, app: &AppName, environment: &Environment) -> WayBack {
        let mut attested: BTreeMap<Digest, u32> = BTreeMap::new();
        let own = self.hosts().filter(|host| host.environment(app) == Some(environment));
        for status in own.filter(|host| !host.is_silent(self.now)).filter_map(|host| host.statuses.get(app)) {
            if let Some(digest) = status.attested.digest.filter(|_| status.attested.ok) {
                *attested.entry(digest).or_default() += 1;
            }
        }
        let releases = self.environment(app, environment).releases;
        releases.way_back(self.last_rollout(app, environment), &attested, |digest| {
            self.bundles.contains_key(digest)
        })
    }

    /// The newest rollout of an environment.
    pub(super) fn last_rollout(&self, app: &AppName, environment: &Environment) -> Option<&Rollout> {
        let all = self.rollouts.values().map(|entry| &entry.rollout);
        let own = all.filter(|rollout| rollout.app == *app && rollout.environment == *environment);
        own.max_by_key(|rollout| (rollout.started_at, rollout.revision))
    }

    /// The first cause of a rollout's failure, or of a host's newest one, in one environment or, where that is empty, in any.
    pub fn why(&self, subject: &str, environment: &str) -> Result<Cause, Refusal> {
        let of = self.shown_environment(None, environment)?;
        let meant = |rollout: &Rollout| of.as_ref().is_none_or(|of| rollout.environment == *of);
        if let Ok(rollout) = self.rollout(subject) {
            if !meant(rollout) {
                let own = &rollout.environment;
                return Err(Refusal::invalid(format!("rollout {subject} is of {own}, not of {environment}")));
            }
            return self.why_rollout(rollout);
        }
        let host = self.host(subject).map_err(|_| {
            let hosts = self.names.keys().map(HostName::as_str);
            let rollouts = self.rollouts.keys().map(RolloutId::as_str);
            Refusal::unknown("host or rollout", subject, hosts.chain(rollouts))
        })?;
        let name = &host.record.name;
        let parts = self.rollouts.values().map(|entry| &entry.rollout).filter(|rollout| meant(rollout));
        let parts = parts.filter_map(|rollout| Some((rollout, rollout.hosts.get(name)?)));
        let newest = parts.filter_map(|(rollout, part)| Some((part.first_cause()?.at, rollout, part)));
        if let Some((at, rollout, part)) = newest.max_by_key(|(at, ..)| *at) {
            let mut cause = Cause::of(rollout, name, part);
            if let Some(release) = self.confirmed_after(host, rollout, at) {
                cause.cause = format!("{}; since then {release} was confirmed there", cause.cause);
            }
            return Ok(cause);
        }
        let bad = |phase| matches!(phase, Phase::Failed | Phase::Reverted | Phase::Quarantined);
        let own = host.statuses.values().filter(|status| host.is_of(&status.app, of.as_ref()));
        let status = own.filter(|s| bad(s.phase)).max_by_key(|s| s.since);
        if let Some(status) = status {
            return Ok(Cause {
                host: Some(name.clone()),
                rollout: status.rollout.clone(),
                fault: status.fault,
                cause: status.reason.clone(),
            });
        }
        if let Some(foreign) = &host.record.foreign {
            return Ok(Cause {
                host: Some(name.clone()),
                rollout: None,
                fault: Some(Fault::Policy),
                cause: format!("{name} is not led: {}", foreign.words(self.fence())),
            });
        }
        if host.is_silent(self.now) {
            let cause = match host.last_seen() {
                Some(seen) => {
                    format!("{name} has not been heard of for {}", self.now.since(seen).whole_secs())
                }
                None => format!("{name} has never connected"),
            };
            return Ok(Cause {
                host: Some(name.clone()),
                rollout: None,
                fault: Some(Fault::Transport),
                cause,
            });
        }
        // Stopped, or never begun, because of what happened elsewhere in the newest rollout.
        let newest = self
            .rollouts
            .values()
            .map(|entry| &entry.rollout)
            .filter(|r| r.hosts.contains_key(name) && meant(r));
        if let Some(rollout) = newest.max_by_key(|r| r.started_at).filter(|r| r.state != State::Succeeded)
            && let Ok(cause) = self.why_rollout(rollout)
        {
            return Ok(cause);
        }
        Err(Refusal::wrong_state(format!("host {name} has no failure on record")))
    }

    /// What the host confirmed of the same app after it had failed: at a later try, or in a later rollout.
    fn confirmed_after<'a>(&self, host: &'a Host, failed: &Rollout, at: Timestamp) -> Option<&'a ReleaseRef> {
        let status = host.statuses.get(&failed.app).filter(|status| status.phase == Phase::Confirmed)?;
        let rollout = &self.rollouts.get(status.rollout.as_ref()?)?.rollout;
        let is_later = rollout.id == failed.id || rollout.started_at >= at;
        status.confirmed.as_ref().filter(|_| is_later)
    }

    fn why_rollout(&self, rollout: &Rollout) -> Result<Cause, Refusal> {
        // An abort makes hosts go back as well, and after the end those that still fetched find nothing to fetch: consequences,
        // not causes.
        let first = rollout.hosts.iter().filter_map(|(name, part)| {
            let cause = part.first_cause()?;
            let is_late = rollout.ended_at.is_some_and(|ended| ended < cause.at);
            Some(((is_late, cause.fault == Some(Fault::Policy), cause.at), name, part))
        });
        if let Some((_, name, part)) = first.min_by_key(|(order, ..)| *order) {
            return Ok(Cause::of(rollout, name, part));
        }
        let whole =
            |cause: String| Cause { host: None, rollout: Some(rollout.id.clone()), fault: None, cause };
        if !rollout.failure.is_empty() {
            return Ok(whole(rollout.failure.clone()));
        }
        let waits = rollout.view().waiting_for;
        if !waits.is_empty() {
            return Ok(whole(format!("rollout {} has not failed; it waits for {waits}", rollout.id)));
        }
        Err(Refusal::wrong_state(format!(
            "rollout {} has no failure on record: it is {}",
            rollout.id,
            rollout.state.word()
        )))
    }
}
