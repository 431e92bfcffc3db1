//! Environments of apps: which there are, which one an order means, and to which a host belongs.

use std::collections::BTreeMap;

use windlass_proto::id::{AppName, Environment, HostName, RolloutId};
use windlass_proto::limits::ENVIRONMENTS;
use windlass_proto::rpc::ErrorKind;
use windlass_rollout::Plan;

use super::log::event;
use super::record::EnvironmentRecord;
use super::{Fleet, Host, Refusal};

impl Host {
    /// The environment of the app to which the host belongs.
    pub fn environment(&self, app: &AppName) -> Option<&Environment> {
        self.record.environments.get(app)
    }

    /// Whether the host belongs to this environment of the app; to any where none is given.
    pub fn is_of(&self, app: &AppName, environment: Option<&Environment>) -> bool {
        environment.is_none_or(|environment| self.environment(app) == Some(environment))
    }
}

impl Fleet {
    /// The environments that an app has had rollouts in, by name.
    pub(super) fn environments_of<'a>(
        &'a self,
        app: &'a AppName,
    ) -> impl Iterator<Item = (&'a Environment, &'a EnvironmentRecord)> {
        let all = self.environments.iter();
        all.filter(move |((of, _), _)| of == app).map(|((_, name), record)| (name, record))
    }

    /// The environments of an app, or of all, with how many hosts belong to each.
    pub fn environments(
        &self,
        app: Option<&AppName>,
    ) -> impl Iterator<Item = (&AppName, &Environment, &EnvironmentRecord, usize)> {
        let mut hosts: BTreeMap<(&AppName, &Environment), usize> = BTreeMap::new();
        for of in self.hosts.values().flat_map(|host| &host.record.environments) {
            *hosts.entry(of).or_default() += 1;
        }
        let all = self.environments.iter().filter(move |((of, _), _)| app.is_none_or(|app| app == of));
        all.map(move |((app, name), record)| {
            (app, name, record, hosts.get(&(app, name)).copied().unwrap_or_default())
        })
    }

    /// An environment of an app, or of any, by name.
    ///
    /// # Errors
    /// It is none, with what may have been meant.
    fn known_environment(&self, app: Option<&AppName>, name: &str) -> Result<Environment, Refusal> {
        let known = || {
            let all = self.environments.keys().filter(|(of, _)| app.is_none_or(|app| app == of));
            all.map(|(_, name)| name)
        };
        if let Some(environment) = known().find(|known| known.as_str() == name) {
            return Ok(environment.clone());
        }
        let what = app.map_or_else(|| "environment".to_owned(), |app| format!("environment of {app}"));
        let mut refusal = Refusal::unknown(&what, name, known().map(Environment::as_str));
        let mut all: Vec<_> = known().map(Environment::as_str).collect();
        all.sort_unstable();
        all.dedup();
        let all = if all.is_empty() { "none yet".to_owned() } else { all.join(", ") };
        refusal.message.push_str(&format!("; there are: {all}"));
        Err(refusal)
    }

    /// The environment whose things are shown; none, where none is named, for those of all.
    pub fn shown_environment(
        &self,
        app: Option<&AppName>,
        name: &str,
    ) -> Result<Option<Environment>, Refusal> {
        match name {
            "" => Ok(None),
            name => self.known_environment(app, name).map(Some),
        }
    }

    /// Which environment is meant by who names none: the only one.
    fn only_environment(&self, app: &AppName) -> Result<Environment, Refusal> {
        let all: Vec<_> = self.environments_of(app).map(|(name, _)| name).collect();
        match all.as_slice() {
            [] => Ok(Environment::default()),
            [one] => Ok((*one).clone()),
            several => {
                let names: Vec<_> = several.iter().map(|name| name.as_str()).collect();
                let message =
                    format!("{app} has several environments: say which with --env: {}", names.join(", "));
                Err(Refusal::invalid(message))
            }
        }
    }

    /// The environment in which an order acts that needs one that there is.
    pub fn acting_in(&self, app: &AppName, name: &str) -> Result<Environment, Refusal> {
        self.known_app(app)?;
        match name {
            "" => self.only_environment(app),
            name => self.known_environment(Some(app), name),
        }
    }

    /// The environment of a deploy, whose spec may be the first to name it.
    pub(super) fn deployed_to(&self, app: &AppName, name: &str) -> Result<Environment, Refusal> {
        match name {
            "" => self.only_environment(app),
            name => Environment::new(name).map_err(|error| Refusal::invalid(error.to_string())),
        }
    }

    /// The environment whose hosts an order may take.
    pub(super) fn taken_from(
        &self,
        app: &AppName,
        own: &Environment,
        name: &str,
    ) -> Result<Option<Environment>, Refusal> {
        match name {
            name if name == own.as_str() => {
                Err(Refusal::invalid(format!("--take-from {name} is the environment that is rolled out to")))
            }
            name => self.shown_environment(Some(app), name),
        }
    }

    /// Refuses one environment more than an app may have.
    pub(super) fn room_for(&self, app: &AppName, environment: &Environment) -> Result<(), Refusal> {
        let all: Vec<_> = self.environments_of(app).map(|(name, _)| name.as_str()).collect();
        if all.len() < ENVIRONMENTS || all.contains(&environment.as_str()) {
            return Ok(());
        }
        let message = format!(
            "{environment} is one environment of {app} too many: at most {ENVIRONMENTS} are kept, use one of {}",
            all.join(", ")
        );
        Err(Refusal::new(ErrorKind::TooMuch, message))
    }

    /// The hosts that take part belong to the plan's environment from now on.
    pub(super) fn take_hosts(&mut self, who: &str, plan: &Plan, rollout: &RolloutId) {
        let (app, environment) = (&plan.order.app, &plan.order.environment);
        let taken: Vec<HostName> = plan.batches.iter().flatten().chain(&plan.unchanged).cloned().collect();
        for name in taken {
            let Some(id) = self.names.get(&name).cloned() else { continue };
            let Some(host) = self.hosts.get_mut(&id) else { continue };
            let before = host.record.environments.insert(app.clone(), environment.clone());
            if before.as_ref() == Some(environment) {
                continue;
            }
            self.keep(&id);
            if let Some(before) = before {
                let message = format!("{name} was taken from {app} in {before}, for {environment}");
                let mut record = event("host.moved", who, message);
                (record.app, record.host) = (app.to_string(), name.to_string());
                record.rollout = rollout.to_string();
                self.log(record);
            }
        }
    }
}
