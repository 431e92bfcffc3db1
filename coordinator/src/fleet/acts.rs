//! What operators do to hosts: label, cordon, release, remove, ask.

use std::collections::BTreeMap;

use windlass_proto::id::{AppName, HostId};
use windlass_proto::phase::Phase;
use windlass_proto::rpc::{self, ErrorKind, coordinator_message::Kind as Message};

use super::hosts::{TEXT, check_labels, cut};
use super::log::event;
use super::record::Cordon;
use super::{Fleet, Host, Refusal, persist};

/// Which host an operator removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// One that is gone.
    Gone,
    /// Also one that is connected, as one may be whose key somebody has stolen: its session ends with it.
    EvenConnected,
}

/// How quarantines of a host are to end.
#[derive(Debug, Clone, Default)]
pub struct Unquarantine {
    /// Only this app's.
    pub app: Option<AppName>,
    /// Without starting what was confirmed last.
    pub leave_down: bool,
    /// Why.
    pub reason: String,
}

impl Fleet {
    /// Sets and removes labels.
    pub fn label(
        &mut self,
        who: &str,
        name: &str,
        set: BTreeMap<String, String>,
        remove: &[String],
    ) -> Result<&Host, Refusal> {
        check_labels(&set)?;
        let host = self.host_mut(name)?;
        let mut labels = host.record.labels.clone();
        for key in remove {
            if labels.remove(key).is_none() {
                let known = host.record.labels.keys().map(String::as_str);
                return Err(Refusal::unknown(&format!("label of host {name}"), key, known));
            }
        }
        labels.extend(set);
        check_labels(&labels)?;
        host.record.labels = labels;
        let words: Vec<_> = host.record.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        self.host_changed(who, name, "host.labelled", format!("{name} has labels {}", words.join(",")))
    }

    /// Keeps a host out of rollouts, or lets it in again.
    pub fn cordon(&mut self, who: &str, name: &str, cordon: Option<String>) -> Result<&Host, Refusal> {
        let at = self.now;
        let host = self.host_mut(name)?;
        let (kind, message) = match &cordon {
            Some(reason) if reason.is_empty() => ("host.cordoned", format!("{name} is kept out of rollouts")),
            Some(reason) => ("host.cordoned", format!("{name} is kept out of rollouts: {reason}")),
            None => ("host.uncordoned", format!("{name} takes part in rollouts again")),
        };
        if host.record.cordon.is_some() == cordon.is_some() {
            return self.host(name);
        }
        host.record.cordon =
            cordon.map(|reason| Cordon { by: who.to_owned(), reason: cut(reason, TEXT), at });
        self.host_changed(who, name, kind, message)
    }

    /// Lets quarantined apps of a host take part again: the named one, or all. Gives those that the host is told of; none where
    /// none is quarantined.
    pub fn release_host(
        &mut self,
        who: &str,
        name: &str,
        release: &Unquarantine,
    ) -> Result<Vec<AppName>, Refusal> {
        let now = self.now;
        let host = self.host(name)?;
        if let Some(app) = release.app.as_ref().filter(|app| !host.statuses.contains_key(*app)) {
            let known = host.statuses.keys().map(AppName::as_str);
            return Err(Refusal::unknown(&format!("app of host {name}"), app.as_str(), known));
        }
        let meant = |app: &AppName| release.app.as_ref().is_none_or(|only| only == app);
        let quarantined = host.statuses.values().filter(|status| status.phase == Phase::Quarantined);
        let apps: Vec<_> = quarantined.map(|status| status.app.clone()).filter(meant).collect();
        if apps.is_empty() {
            return Ok(apps);
        }
        if host.session.is_none() || host.is_silent(now) {
            return Err(Refusal::wrong_state(format!(
                "host {name} is not connected; release it when it is back"
            )));
        }
        let id = host.record.id.clone();
        let names = apps.iter().map(AppName::as_str).collect::<Vec<_>>().join(", ");
        let how = if release.leave_down { "take part again, without starting it" } else { "take part again" };
        let mut message = format!("{name} lets {names} {how}");
        if !release.reason.is_empty() {
            message = cut(format!("{message}: {}", release.reason), TEXT);
        }
        self.lead_on(false);
        let epoch = self.fence().epoch;
        for app in &apps {
            let (app, reason) = (app.to_string(), cut(release.reason.clone(), TEXT));
            let order = rpc::ReleaseQuarantine { app, reason, epoch, leave_down: release.leave_down };
            self.changes.sends.push((id.clone(), Message::ReleaseQuarantine(order)));
        }
        self.host_changed(who, name, "host.released", message)?;
        Ok(apps)
    }

    /// The hosts of these names, or all that have the app, in one environment or in any: their ids and names.
    pub fn hosts_with(
        &self,
        app: &AppName,
        environment: &str,
        names: &[String],
    ) -> Result<Vec<(HostId, String)>, Refusal> {
        self.known_app(app)?;
        let environment = self.shown_environment(Some(app), environment)?;
        let named = |host: &Host| (host.record.id.clone(), host.record.name.to_string());
        if names.is_empty() {
            let of = self.hosts().filter(|host| host.is_of(app, environment.as_ref()));
            return Ok(of.filter(|host| host.statuses.contains_key(app)).map(named).collect());
        }
        let hosts = names.iter().map(|name| {
            let host = self.host(name)?;
            match &environment {
                Some(environment) if !host.is_of(app, Some(environment)) => Err(Refusal::invalid(format!(
                    "host {name} is not of {app} in {environment}; see `windlass versions {app}`"
                ))),
                _ => Ok(named(host)),
            }
        });
        hosts.collect()
    }

    /// Asks a host for what an app wrote last.
    pub fn read_log(&mut self, id: &HostId, read: rpc::ReadLog) -> Result<(), Refusal> {
        let host = self.enrolled(id)?;
        if host.session.is_none() || host.is_silent(self.now) {
            return Err(Refusal::wrong_state("the host is not connected"));
        }
        self.changes.sends.push((id.clone(), Message::ReadLog(read)));
        Ok(())
    }

    /// Removes a host for good.
    pub fn remove_host(&mut self, who: &str, name: &str, removal: Removal) -> Result<Host, Refusal> {
        let now = self.now;
        let host = self.host(name)?;
        if removal == Removal::Gone && host.session.is_some() && !host.is_silent(now) {
            return Err(Refusal::wrong_state(format!(
                "host {name} is connected; stop its agent first, cordon it with `windlass host cordon {name}`, or close its session \
                 with `windlass host rm {name} --force`"
            )));
        }
        let (id, host_name) = (host.record.id.clone(), host.record.name.clone());
        if let Some(rollout) = self.open_with(&host_name).first() {
            return Err(Refusal::new(
                ErrorKind::Busy,
                format!("host {name} takes part in rollout {rollout}; abort it or wait for its end"),
            ));
        }
        let apps: Vec<_> = host.statuses.keys().cloned().collect();
        for app in apps {
            self.changes.delete(persist::status_key(&id, &app));
        }
        self.changes.delete(persist::host_key(&id));
        self.names.remove(&host_name);
        let mut record = event("host.removed", who, format!("{host_name} left the fleet"));
        record.host = host_name.to_string();
        self.log(record);
        self.hosts.remove(&id).ok_or_else(|| Refusal::new(ErrorKind::Internal, "the host is gone already"))
    }

    fn host_changed(&mut self, who: &str, name: &str, kind: &str, message: String) -> Result<&Host, Refusal> {
        let (id, host) = {
            let host = self.host(name)?;
            (host.record.id.clone(), host.record.name.to_string())
        };
        self.keep(&id);
        let mut record = event(kind, who, message);
        record.host = host;
        self.log(record);
        self.host(name)
    }
}
