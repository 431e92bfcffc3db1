//! Rules of the release: how the app is run and probed.

use std::collections::BTreeMap;

use super::{Finding, Findings, Level};
use crate::bundle::EntryPath;
use crate::phase::HookName;
use crate::spec::hooks::{HOOK_COMMANDS, HOOK_LONGEST, Hooks};
use crate::spec::variables::{self, Piece, Variable};
use crate::spec::{PortRef, Probe, ProbeKind, ReleaseSpec, Runtime};

impl Findings<'_> {
    pub(super) fn runtime(&mut self, runtime: &Runtime) {
        match runtime {
            Runtime::Process { command, .. } => {
                self.command("release.runtime.command", command, true);
                if runtime.resources().is_some_and(|limits| limits.cpu_quota.is_some()) {
                    self.error(
                        "release.runtime.resources.cpu_quota",
                        "only systemd limits processor time: kind: systemd".into(),
                    );
                }
            }
            Runtime::Systemd { command, unit: None, .. } => {
                self.command("release.runtime.command", command, true);
            }
            Runtime::Systemd { command, unit: Some(unit), user, resources, .. } => {
                if !unit.ends_with(".service") {
                    self.error(
                        "release.runtime.unit",
                        "a file of the bundle whose name ends in .service".into(),
                    );
                } else if let Err(unsafe_path) = EntryPath::new(unit.as_str()) {
                    self.error("release.runtime.unit", unsafe_path.to_string());
                }
                let said = [
                    ("command", !command.is_empty()),
                    ("user", user.is_some()),
                    ("resources", resources.is_some()),
                ];
                for (name, _) in said.into_iter().filter(|(_, is_said)| *is_said) {
                    self.error(
                        &format!("release.runtime.{name}"),
                        format!("your own unit, {unit}, says this"),
                    );
                }
            }
            Runtime::Static { reload } => self.command("release.runtime.reload", reload, false),
        }
        self.surroundings(runtime);
    }

    fn surroundings(&mut self, runtime: &Runtime) {
        if runtime.user().is_some_and(|user| !is_user(user)) {
            self.error("release.runtime.user", "not the name of a user".into());
        }
        for (name, value) in runtime.env() {
            let path = format!("release.runtime.env.{name}");
            if let Some(who) = name.set_by() {
                self.error(&path, format!("is set by {who}; choose another name"));
            }
            if value.contains('\0') {
                self.error(&path, "a value cannot hold NUL".into());
            }
            // It would leave them out without telling anybody who looks.
            if matches!(runtime, Runtime::Systemd { .. }) {
                let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\0');
                if !name.is_plain() {
                    self.error(
                        &path,
                        "systemd hands on only names of letters, digits and underscores".into(),
                    );
                }
                if value.contains(control) {
                    self.error(&path, "systemd hands on no control characters but tab and newline".into());
                }
            }
            self.variables(&path, value);
        }
        let limits = runtime.resources().cloned().unwrap_or_default();
        if limits.memory_max.is_some_and(|size| size.0 < 1 << 20) {
            self.error("release.runtime.resources.memory_max", "less than 1MiB starts nothing".into());
        }
        if limits.open_files.is_some_and(|files| files < 16) {
            self.error("release.runtime.resources.open_files", "fewer than 16 files start nothing".into());
        }
    }

    fn command(&mut self, path: &str, command: &[String], required: bool) {
        let Some(program) = command.first() else {
            if required {
                self.error(
                    path,
                    "empty: the program and its arguments, as in [bin/shop-api, --port, \"8080\"]".into(),
                );
            }
            return;
        };
        let first = format!("{path}.0");
        let inside = !program.starts_with('/') && !program.contains('{');
        if let (true, Err(unsafe_path)) = (inside, EntryPath::new(program.as_str())) {
            let rule = unsafe_path.rule;
            self.error(&first, format!("{program:?} is not a path inside the release: {rule}"));
        }
        for (i, argument) in command.iter().enumerate() {
            if argument.contains('\0') {
                self.error(&format!("{path}.{i}"), "an argument cannot hold NUL".into());
            }
            self.variables(&format!("{path}.{i}"), argument);
        }
    }

    fn variables(&mut self, path: &str, text: &str) {
        match variables::parse(text) {
            Err(invalid) => self.error(path, invalid.to_string()),
            Ok(pieces) => {
                for piece in pieces {
                    if let Piece::Variable(Variable::Port(name)) = piece {
                        self.port_name(path, &name);
                    }
                }
            }
        }
    }

    fn port_name(&mut self, path: &str, name: &str) {
        if self.ports.contains_key(name) {
            return;
        }
        let known: Vec<&str> = self.ports.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "release.ports names none".into()
        } else {
            format!("known: {}", known.join(", "))
        };
        self.error(path, format!("no port is named {name:?} ({known})"));
    }

    pub(super) fn ports(&mut self) {
        let mut seen: BTreeMap<u16, &str> = BTreeMap::new();
        for (name, number) in self.ports {
            let path = format!("release.ports.{name}");
            let named = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if name.is_empty() || !named {
                self.found.push(Finding {
                    path: path.clone(),
                    level: Level::Error,
                    message: "a port's name is made of letters, digits, - and _".into(),
                });
            }
            if *number == 0 {
                self.error(&path, "port 0 cannot be probed; name the port that the app listens on".into());
            } else if let Some(other) = seen.insert(*number, name) {
                self.error(&path, format!("{number} is the port of {other:?} already"));
            }
        }
    }

    pub(super) fn probes(&mut self, spec: &ReleaseSpec) {
        let probes = &spec.probes;
        let named =
            [("startup", &probes.startup), ("readiness", &probes.readiness), ("liveness", &probes.liveness)];
        for (name, probe) in named {
            if let Some(probe) = probe {
                self.probe(&format!("release.probes.{name}"), probe);
            }
        }
        for (i, probe) in spec.smoke.iter().enumerate() {
            self.probe(&format!("release.smoke.{i}"), probe);
        }
        let process = spec.runtime.has_process();
        if process && named.iter().all(|(_, probe)| probe.is_none()) {
            self.error(
                "release.probes",
                "at least one probe is needed: without one a broken release would look healthy".into(),
            );
        } else if process && probes.readiness.is_none() {
            self.warn("release.probes", "no readiness probe: a started app counts as ready".into());
        }
        let path =
            |probe: &Option<Probe>| probe.as_ref().and_then(|p| p.http.as_ref()).map(|h| h.path.clone());
        if let (Some(ready), Some(alive)) = (path(&probes.readiness), path(&probes.liveness))
            && ready == alive
        {
            self.warn(
                "release.probes.liveness.http.path",
                format!("readiness asks {ready} too: an app that is only not ready would be restarted"),
            );
        }
    }

    pub(super) fn hooks(&mut self, hooks: &Hooks) {
        for name in HookName::ALL {
            let path = format!("release.hooks.{name}");
            if hooks.of(*name).len() > HOOK_COMMANDS {
                self.error(&path, format!("more than {HOOK_COMMANDS} commands; let one run the others"));
            }
            for (i, hook) in hooks.of(*name).iter().enumerate() {
                self.command(&format!("{path}.{i}.run"), &hook.run, true);
                let path = format!("{path}.{i}.timeout");
                self.positive(&path, hook.timeout);
                if hook.timeout > HOOK_LONGEST {
                    self.error(&path, format!("{} is longer than {HOOK_LONGEST}", hook.timeout));
                }
            }
        }
    }

    fn probe(&mut self, path: &str, probe: &Probe) {
        match probe.kind() {
            None => {
                let given = [probe.http.is_some(), probe.tcp.is_some(), probe.exec.is_some()];
                let message = match given.into_iter().filter(|g| *g).count() {
                    0 => "says nothing to check: give one of http, tcp or exec",
                    _ => "more than one check: give one of http, tcp or exec",
                };
                self.error(path, message.into());
            }
            Some(ProbeKind::Http(http)) => {
                let at = |field: &str| format!("{path}.http.{field}");
                if !http.path.starts_with('/') {
                    self.error(&at("path"), format!("{:?} must begin with /", http.path));
                }
                if http.path.chars().any(|c| c.is_control() || c == ' ') {
                    self.error(&at("path"), "a path holds no spaces or control characters".into());
                }
                self.variables(&at("path"), &http.path);
                self.port(&at("port"), &http.port);
                if http.expect_status.is_some_and(|status| !(100..=599).contains(&status)) {
                    self.error(&at("expect_status"), "an HTTP status is between 100 and 599".into());
                }
                if let Some(body) = &http.expect_body {
                    self.variables(&at("expect_body"), body);
                }
                for (member, value) in &http.expect_json {
                    self.variables(&at(&format!("expect_json.{member}")), value);
                }
            }
            Some(ProbeKind::Tcp(tcp)) => self.port(&format!("{path}.tcp.port"), &tcp.port),
            Some(ProbeKind::Exec(exec)) => self.command(&format!("{path}.exec.command"), &exec.command, true),
        }
        self.positive(&format!("{path}.period"), probe.period);
        self.positive(&format!("{path}.timeout"), probe.timeout);
        self.bounded(&format!("{path}.initial_delay"), probe.initial_delay);
        if probe.failure_threshold == 0 {
            self.error(&format!("{path}.failure_threshold"), "must be 1 or more".into());
        }
        if probe.success_threshold == 0 {
            self.error(&format!("{path}.success_threshold"), "must be 1 or more".into());
        }
    }

    fn port(&mut self, path: &str, port: &PortRef) {
        match port {
            PortRef::Number(0) => self.error(path, "port 0 cannot be probed".into()),
            PortRef::Number(_) => {}
            PortRef::Name(name) => self.port_name(path, name),
        }
    }
}

fn is_user(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= 32
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}
