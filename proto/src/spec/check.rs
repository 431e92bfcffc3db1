//! Rules across the fields of a spec: everything that `validate` finds offline, and `plan` again against the fleet.
//!
//! A finding names its field by a path (`release.probes.readiness.http.port`, list entries by number), so that the CLI
//! can point at its line. All rules are checked; none hides another.

use std::collections::BTreeMap;
use std::fmt;

use super::selector::Selector;
use super::variables::{self, Piece, Variable};
use super::{
    Amount, Drain, OnDrainTimeout, PortRef, Probe, ProbeKind, Ratio, ReleaseSpec, RolloutSpec, Runtime,
    Strategy, StrategyType,
};
use crate::bundle::EntryPath;
use crate::time::Span;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It works, but is probably not what was meant.
    Warn,
    /// It cannot work.
    Error,
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field, from the top of windlass.yaml.
    pub path: String,
    /// How bad it is.
    pub level: Level,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Signals that `release.stop.signal` may name.
pub const STOP_SIGNALS: [&str; 9] =
    ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGWINCH", "SIGPWR"];

/// Longest that anything in a spec may take: a typing error, not a wish.
const LONGEST: Span = Span::secs(7 * 86_400);

/// Checks the release, the rollout, and the two together.
pub fn all(release: &ReleaseSpec, rollout: &RolloutSpec) -> Vec<Finding> {
    let mut findings = self::release(release);
    findings.extend(self::rollout(rollout));
    findings.extend(together(release, rollout));
    findings
}

/// Checks the release part.
pub fn release(spec: &ReleaseSpec) -> Vec<Finding> {
    let mut check = Findings { found: Vec::new(), ports: &spec.ports };
    check.runtime(&spec.runtime);
    check.ports();
    check.probes(spec);
    if !STOP_SIGNALS.contains(&spec.stop.signal.as_str()) {
        let known = STOP_SIGNALS.join(", ");
        check.error(
            "release.stop.signal",
            format!("unknown signal {:?}: use one of {known}", spec.stop.signal),
        );
    }
    check.positive("release.stop.grace", spec.stop.grace);
    check.bounded("release.drain.delay", spec.drain.delay);
    check.bounded("release.drain.timeout", spec.drain.timeout);
    if spec.drain.timeout == Span(0) && spec.drain.on_timeout == OnDrainTimeout::Abort {
        check.error(
            "release.drain.timeout",
            "0s with on_timeout: abort gives up at every drain; give connections time to end".into(),
        );
    }
    check.found
}

/// Checks the rollout part.
pub fn rollout(spec: &RolloutSpec) -> Vec<Finding> {
    let ports = BTreeMap::new();
    let mut check = Findings { found: Vec::new(), ports: &ports };
    check.targets(spec);
    check.strategy(&spec.strategy);
    check.positive("rollout.host.confirm_timeout", spec.host.confirm_timeout);
    check.positive("rollout.host.permit_ttl", spec.host.permit_ttl);
    check.bounded("rollout.host.watch.window", spec.host.watch.window);
    check.amount_above_zero("rollout.failure.rollback.max_parallel", spec.failure.rollback.max_parallel);
    check.positive("rollout.failure.rollback.deadline", spec.failure.rollback.deadline);
    if spec.failure.poison_after == 0 {
        check.error("rollout.failure.poison_after", "0 would poison every release; use 1 or more".into());
    }
    if spec.failure.error_threshold == Amount::Percent(Ratio(10_000)) {
        check.warn(
            "rollout.failure.error_threshold",
            "100% means that no failure ever ends the rollout".into(),
        );
    }
    check.found
}

/// Checks what only both parts together show: the sums of times.
pub fn together(release: &ReleaseSpec, rollout: &RolloutSpec) -> Vec<Finding> {
    let ports = BTreeMap::new();
    let mut check = Findings { found: Vec::new(), ports: &ports };
    let deadline = rollout.strategy.healthy_deadline;
    let (least, most) = healthy_after(release, rollout.strategy.min_healthy_time);
    let path = "rollout.strategy.healthy_deadline";
    if least > deadline && deadline != Span(0) {
        check.error(
            path,
            format!(
                "{deadline} can never be met: drain delay, probes' first passes and min_healthy_time take {least} at least"
            ),
        );
    } else if most > deadline && deadline != Span(0) {
        check.warn(
            path,
            format!("a host may need {most} when drain, stop and startup take as long as they may, and then counts as failed after {deadline}"),
        );
    }
    check.found
}

/// Time from permit to healthy: the least that it takes, and the most that the spec's own limits allow.
fn healthy_after(release: &ReleaseSpec, min_healthy: Span) -> (Span, Span) {
    let Drain { delay, timeout, .. } = release.drain;
    let first_pass =
        |p: &Probe| p.initial_delay + p.period * u64::from(p.success_threshold.saturating_sub(1));
    let probes = &release.probes;
    let least = [&probes.startup, &probes.readiness]
        .into_iter()
        .flatten()
        .fold(Span(0), |sum, p| sum + first_pass(p));
    let startup = probes.startup.as_ref().map_or(Span(0), |p| {
        p.initial_delay + p.period * u64::from(p.failure_threshold.saturating_sub(1)) + p.timeout
    });
    let readiness = probes.readiness.as_ref().map_or(Span(0), |p| first_pass(p) + p.timeout);
    let smoke = release.smoke.iter().fold(Span(0), |sum, p| sum + p.initial_delay + p.timeout);
    (
        delay + least + min_healthy,
        delay + timeout + release.stop.grace + startup + readiness + smoke + min_healthy,
    )
}

struct Findings<'a> {
    found: Vec<Finding>,
    ports: &'a BTreeMap<String, u16>,
}

impl Findings<'_> {
    fn add(&mut self, level: Level, path: &str, message: String) {
        self.found.push(Finding { path: path.to_owned(), level, message });
    }

    fn error(&mut self, path: &str, message: String) {
        self.add(Level::Error, path, message);
    }

    fn warn(&mut self, path: &str, message: String) {
        self.add(Level::Warn, path, message);
    }

    fn positive(&mut self, path: &str, span: Span) {
        if span == Span(0) {
            self.error(path, "must be longer than 0s".into());
        }
        self.bounded(path, span);
    }

    fn bounded(&mut self, path: &str, span: Span) {
        if span > LONGEST {
            self.error(path, format!("{span} is longer than {LONGEST}"));
        }
    }

    fn amount_above_zero(&mut self, path: &str, amount: Amount) {
        if matches!(amount, Amount::Count(0) | Amount::Percent(Ratio(0))) {
            self.error(path, format!("{amount} would let no host move; use 1 or more"));
        }
    }

    fn runtime(&mut self, runtime: &Runtime) {
        match runtime {
            Runtime::Process { command, user, env, resources } => {
                self.command("release.runtime.command", command, true);
                if user.as_deref().is_some_and(|u| !is_user(u)) {
                    self.error("release.runtime.user", "not the name of a user".into());
                }
                for (name, value) in env {
                    let path = format!("release.runtime.env.{name}");
                    if name.is_empty() || name.contains(['=', '\0']) {
                        self.error(&path, format!("{name:?} cannot name an environment variable"));
                    }
                    if name.starts_with("WINDLASS_") {
                        self.error(&path, "names that begin with WINDLASS_ are set by the agent".into());
                    }
                    self.variables(&path, value);
                }
                let memory = resources.as_ref().and_then(|r| r.memory_max);
                if memory.is_some_and(|size| size.0 < 1 << 20) {
                    self.error(
                        "release.runtime.resources.memory_max",
                        "less than 1MiB starts nothing".into(),
                    );
                }
                if resources.as_ref().and_then(|r| r.open_files).is_some_and(|n| n < 16) {
                    self.error(
                        "release.runtime.resources.open_files",
                        "fewer than 16 files start nothing".into(),
                    );
                }
            }
            Runtime::Static { reload } => self.command("release.runtime.reload", reload, false),
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

    fn ports(&mut self) {
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

    fn probes(&mut self, spec: &ReleaseSpec) {
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
        let process = matches!(spec.runtime, Runtime::Process { .. });
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

    fn targets(&mut self, spec: &RolloutSpec) {
        let targets = &spec.targets;
        if targets.selector.trim().is_empty() {
            self.error(
                "rollout.targets.selector",
                "empty, and empty never means all hosts; name them, as in \"role=api,env=production\"".into(),
            );
        } else if let Err(invalid) = targets.selector.parse::<Selector>() {
            self.error("rollout.targets.selector", invalid.to_string());
        }
        if let Some(expect) = &targets.expect_hosts {
            if expect.max.is_some_and(|max| max < expect.min) {
                self.error("rollout.targets.expect_hosts", "max is smaller than min".into());
            }
            if expect.max == Some(0) {
                self.error("rollout.targets.expect_hosts.max", "0 hosts are nothing to roll out to".into());
            }
        }
        if targets.failure_domain.as_deref().is_some_and(|label| label.trim().is_empty()) {
            self.error("rollout.targets.failure_domain", "empty: name a label, as in rack".into());
        }
    }

    fn strategy(&mut self, strategy: &Strategy) {
        let at = |field: &str| format!("rollout.strategy.{field}");
        if strategy.batches.is_some() && strategy.max_parallel.is_some() {
            self.error(&at("max_parallel"), "batches and max_parallel exclude each other: keep one".into());
        }
        if strategy.kind == StrategyType::AllAtOnce {
            for (field, given) in
                [("batches", strategy.batches.is_some()), ("max_parallel", strategy.max_parallel.is_some())]
            {
                if given {
                    self.error(
                        &at(field),
                        "all_at_once has one batch; remove this or use type: rolling".into(),
                    );
                }
            }
        }
        if let Some(ramp) = &strategy.batches {
            self.ramp(ramp);
        }
        if let Some(parallel) = strategy.max_parallel {
            self.amount_above_zero(&at("max_parallel"), parallel);
        }
        self.amount_above_zero(&at("max_unavailable"), strategy.max_unavailable);
        self.positive(&at("healthy_deadline"), strategy.healthy_deadline);
        self.positive(&at("progress_deadline"), strategy.progress_deadline);
        self.bounded(&at("min_healthy_time"), strategy.min_healthy_time);
        self.bounded(&at("pause_between"), strategy.pause_between);
        if strategy.progress_deadline < strategy.healthy_deadline && strategy.progress_deadline > Span(0) {
            self.warn(
                &at("progress_deadline"),
                format!(
                    "shorter than healthy_deadline ({}): the rollout may end while its host still has time",
                    strategy.healthy_deadline
                ),
            );
        }
    }

    fn ramp(&mut self, ramp: &[Amount]) {
        let path = "rollout.strategy.batches";
        for (i, amount) in ramp.iter().enumerate() {
            self.amount_above_zero(&format!("{path}.{i}"), *amount);
        }
        for (i, pair) in ramp.windows(2).enumerate() {
            let falls = match (pair[0], pair[1]) {
                (Amount::Count(a), Amount::Count(b)) => b <= a,
                (Amount::Percent(a), Amount::Percent(b)) => b <= a,
                // Which is more depends on the fleet; plan knows.
                _ => false,
            };
            if falls {
                self.error(
                    &format!("{path}.{}", i + 1),
                    format!("{} after {}: the ramp is cumulative and must rise", pair[1], pair[0]),
                );
            }
        }
        match ramp.last() {
            None => self.error(path, "empty: give the ramp, as in [1, 10%, 50%, 100%]".into()),
            Some(Amount::Percent(Ratio(10_000))) => {}
            Some(last @ Amount::Percent(_)) => self.error(
                &format!("{path}.{}", ramp.len() - 1),
                format!("the ramp ends at {last} and would leave hosts behind; end it with 100%"),
            ),
            Some(last @ Amount::Count(_)) => self.warn(
                &format!("{path}.{}", ramp.len() - 1),
                format!("the ramp ends at {last} hosts; end it with 100% so that it fits any fleet"),
            ),
        }
    }
}

fn is_user(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= 32
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(release: serde_json::Value, rollout: serde_json::Value) -> Vec<String> {
        let release = serde_json::from_value(release).unwrap();
        let rollout = serde_json::from_value(rollout).unwrap();
        all(&release, &rollout).into_iter().map(|f| format!("{:?} {f}", f.level)).collect()
    }

    fn good_release() -> serde_json::Value {
        serde_json::json!({
            "files": "./dist",
            "runtime": {"kind": "process", "command": ["bin/x", "{host.address}:{port.http}"]},
            "ports": {"http": 8080},
            "probes": {"readiness": {"http": {"path": "/ready", "port": "http"}}}
        })
    }

    fn good_rollout() -> serde_json::Value {
        serde_json::json!({ "targets": {"selector": "role=api"}, "strategy": {"batches": [1, "10%", "100%"]} })
    }

    /// Sets one member by its path.
    fn with(mut value: serde_json::Value, path: &str, to: serde_json::Value) -> serde_json::Value {
        let mut at = &mut value;
        for key in path.split('.') {
            at = &mut at[key];
        }
        *at = to;
        value
    }

    #[test]
    fn a_good_spec_has_no_findings() {
        assert_eq!(spec(good_release(), good_rollout()), Vec::<String>::new());
    }

    #[test]
    fn each_release_rule_names_its_field() {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for (path, to, says) in [
            ("runtime.command", "[]", "release.runtime.command: empty"),
            ("runtime.command", r#"["../x"]"#, "release.runtime.command.0: \"../x\" is not a path inside"),
            (
                "runtime.command",
                r#"["x", "{hots.name}"]"#,
                "release.runtime.command.1: unknown variable {hots.name}",
            ),
            ("runtime.command", r#"["x", "{port.grpc}"]"#, "no port is named \"grpc\" (known: http)"),
            ("runtime.env", r#"{"WINDLASS_APP": "x"}"#, "release.runtime.env.WINDLASS_APP: names that begin"),
            ("runtime.user", r#""a b""#, "release.runtime.user"),
            ("ports", r#"{"http": 80, "other": 80}"#, "release.ports.other: 80 is the port of \"http\""),
            ("ports.http", "0", "port 0"),
            ("probes", "{}", "at least one probe"),
            ("probes.readiness", "{}", "says nothing to check"),
            ("probes.readiness.tcp", r#"{"port": 1}"#, "more than one check"),
            (
                "probes.readiness.http.port",
                r#""web""#,
                "release.probes.readiness.http.port: no port is named",
            ),
            ("probes.readiness.http.path", r#""ready""#, "must begin with /"),
            ("probes.readiness.period", r#""0s""#, "release.probes.readiness.period: must be longer"),
            ("probes.readiness.timeout", r#""30d""#, "longer than 7d"),
            ("probes.readiness.failure_threshold", "0", "must be 1 or more"),
            (
                "probes.liveness",
                r#"{"http": {"path": "/ready", "port": "http"}}"#,
                "Warn release.probes.liveness.http.path",
            ),
            ("smoke", r#"[{"exec": {"command": []}}]"#, "release.smoke.0.exec.command: empty"),
            ("stop", r#"{"signal": "SIGTREM"}"#, "unknown signal \"SIGTREM\""),
            ("stop", r#"{"grace": "0s"}"#, "release.stop.grace"),
            ("drain", r#"{"timeout": "0s", "on_timeout": "abort"}"#, "release.drain.timeout"),
            ("drain", r#"{"delay": "10m"}"#, "can never be met"),
        ] {
            let found = spec(with(good_release(), path, json(to)), good_rollout());
            assert!(found.iter().any(|f| f.contains(says)), "{path}={to}: {found:?}");
        }
    }

    #[test]
    fn each_rollout_rule_names_its_field() {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for (path, to, says) in [
            ("targets.selector", r#""""#, "never means all"),
            ("targets.selector", r#""role in""#, "rollout.targets.selector"),
            ("targets.expect_hosts", r#"{"min": 5, "max": 2}"#, "max is smaller than min"),
            ("strategy.batches", r#"["50%", "10%", "100%"]"#, "rollout.strategy.batches.1: 10% after 50%"),
            ("strategy.batches", r#"[1, "50%"]"#, "end it with 100%"),
            ("strategy.batches", "[]", "rollout.strategy.batches: empty"),
            ("strategy.batches", r#"[0, "100%"]"#, "rollout.strategy.batches.0: 0 would let no host move"),
            ("strategy.max_parallel", "2", "exclude each other"),
            ("strategy.type", r#""all_at_once""#, "one batch"),
            ("strategy.max_unavailable", "0", "would let no host move"),
            ("strategy.healthy_deadline", r#""0s""#, "must be longer"),
            ("strategy.min_healthy_time", r#""10m""#, "can never be met"),
            ("strategy.progress_deadline", r#""10s""#, "Warn rollout.strategy.progress_deadline"),
            ("host", r#"{"confirm_timeout": "0s"}"#, "rollout.host.confirm_timeout"),
            ("failure", r#"{"poison_after": 0}"#, "rollout.failure.poison_after"),
            ("failure", r#"{"rollback": {"max_parallel": 0}}"#, "rollout.failure.rollback.max_parallel"),
        ] {
            let found = spec(good_release(), with(good_rollout(), path, json(to)));
            assert!(found.iter().any(|f| f.contains(says)), "{path}={to}: {found:?}");
        }
    }

    #[test]
    fn a_static_release_needs_no_probe() {
        let release = serde_json::json!({"files": "x", "runtime": {"kind": "static"}});
        assert_eq!(spec(release, good_rollout()), Vec::<String>::new());
    }
}
