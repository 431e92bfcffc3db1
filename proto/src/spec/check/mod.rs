//! Rules across the fields of a spec: everything that `validate` finds offline, and `plan` again against the fleet.
//!
//! A finding names its field by a path (`release.probes.readiness.http.port`, list entries by number), so that the CLI
//! can point at its line. All rules are checked; none hides another.

mod release;
mod rollout;
mod worst;

use std::collections::BTreeMap;
use std::fmt;

use super::{Amount, OnDrainTimeout, Ratio, ReleaseSpec, RolloutSpec};
use crate::id::AppName;
use crate::time::Span;

pub use worst::{Worst, leaving};

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

/// Most findings that one error tells, and most letters of each.
const TOLD: (usize, usize) = (4, 300);

/// A spec that breaks rules: what it asks for is refused, whoever signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsound(Vec<Finding>);

impl std::error::Error for Unsound {}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (most, letters) = TOLD;
        for (i, finding) in self.0.iter().take(most).enumerate() {
            let told: String = finding.to_string().chars().take(letters).collect();
            write!(f, "{}{told}", if i == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(most) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Refuses a release whose spec breaks any rule, as `validate` would: for programs that are handed a signed manifest, of
/// which nobody knows what has made it.
pub fn sound(name: &AppName, spec: &ReleaseSpec) -> Result<(), Unsound> {
    let mut broken = self::release(spec);
    broken.extend(app(name));
    broken.retain(|finding| finding.level == Level::Error);
    if broken.is_empty() { Ok(()) } else { Err(Unsound(broken)) }
}

/// Checks the release, the rollout, and the two together.
pub fn all(release: &ReleaseSpec, rollout: &RolloutSpec) -> Vec<Finding> {
    let mut findings = self::release(release);
    findings.extend(self::rollout(rollout));
    findings.extend(together(release, rollout));
    findings
}

/// Checks the app's name. Not part of [`AppName`], so that what a host has of such an app goes on.
pub fn app(name: &AppName) -> Option<Finding> {
    // A directory of drop-ins whose name ends so is systemd's for every unit whose name begins so.
    name.as_str().ends_with('-').then(|| Finding {
        path: "app".into(),
        level: Level::Error,
        message: format!("{name} ends with a dash: systemd would apply what it reads for it to other apps"),
    })
}

/// Checks the release part.
pub fn release(spec: &ReleaseSpec) -> Vec<Finding> {
    let mut check = Findings { found: Vec::new(), ports: &spec.ports };
    check.runtime(&spec.runtime);
    check.ports();
    check.probes(spec);
    check.hooks(&spec.hooks);
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
    if let Some(availability) = &spec.availability {
        check.period("rollout.availability.period", availability.period);
    }
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
    let worst = Worst::of(release, rollout);
    if deadline < worst.total() && deadline != Span(0) {
        check.error(
            "rollout.strategy.healthy_deadline",
            format!(
                "{deadline} is shorter than the release allows itself: {worst}; raise it to {} or shorten those",
                worst.total()
            ),
        );
    }
    // What runs now is not known here; this release will have to leave one day.
    let (progress, leaving) = (rollout.strategy.progress_deadline, leaving(release));
    if progress > deadline && progress <= leaving + deadline {
        check.error(
            "rollout.strategy.progress_deadline",
            format!(
                "{progress} must be longer than drain and stop ({leaving}) and healthy_deadline ({deadline}) together; raise \
                 it above {}",
                leaving + deadline
            ),
        );
    }
    check.found
}

struct Findings<'a> {
    found: Vec<Finding>,
    ports: &'a BTreeMap<String, u16>,
}

impl Findings<'_> {
    fn add(&mut self, level: Level, path: &str, message: String) {
        self.found.push(Finding { path: path.to_owned(), level, message });
    }

    pub(super) fn error(&mut self, path: &str, message: String) {
        self.add(Level::Error, path, message);
    }

    pub(super) fn warn(&mut self, path: &str, message: String) {
        self.add(Level::Warn, path, message);
    }

    pub(super) fn positive(&mut self, path: &str, span: Span) {
        if span == Span(0) {
            self.error(path, "must be longer than 0s".into());
        }
        self.bounded(path, span);
    }

    pub(super) fn bounded(&mut self, path: &str, span: Span) {
        if span > LONGEST {
            self.error(path, format!("{span} is longer than {LONGEST}"));
        }
    }

    pub(super) fn amount_above_zero(&mut self, path: &str, amount: Amount) {
        if matches!(amount, Amount::Count(0) | Amount::Percent(Ratio(0))) {
            self.error(path, format!("{amount} would let no host move; use 1 or more"));
        }
    }
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
            (
                "runtime.env",
                r#"{"WINDLASS_APP": "x"}"#,
                "release.runtime.env.WINDLASS_APP: is set by the agent",
            ),
            ("runtime.env", r#"{"MAINPID": "1"}"#, "release.runtime.env.MAINPID: is set by systemd"),
            ("runtime.env", r#"{"A": "x\u0000"}"#, "release.runtime.env.A: a value cannot hold NUL"),
            (
                "runtime",
                r#"{"kind": "systemd", "command": ["x"], "env": {"A.B": "x"}}"#,
                "release.runtime.env.A.B: systemd hands on",
            ),
            (
                "runtime",
                r#"{"kind": "systemd", "command": ["x"], "env": {"A": "\u001b[0m"}}"#,
                "release.runtime.env.A: systemd hands on no control characters",
            ),
            ("runtime", r#"{"kind": "systemd", "unit": "../../x.service"}"#, "release.runtime.unit"),
            ("runtime", r#"{"kind": "systemd", "unit": "x.service\n"}"#, "release.runtime.unit"),
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
            ("drain", r#"{"delay": "10m"}"#, "must be longer than drain and stop"),
            (
                "hooks",
                r#"{"before_install": [{"run": ["../x"]}]}"#,
                "release.hooks.before_install.0.run.0: \"../x\" is not a path inside",
            ),
            ("hooks", r#"{"before_install": [{"run": []}]}"#, "release.hooks.before_install.0.run: empty"),
            (
                "hooks",
                r#"{"after_install": [{"run": ["x", "{port.grpc}"]}]}"#,
                "release.hooks.after_install.0.run.1: no port is named",
            ),
            ("hooks", r#"{"after_install": [{"run": ["x"], "timeout": "0s"}]}"#, "must be longer than 0s"),
            ("hooks", r#"{"after_install": [{"run": ["x"], "timeout": "2h"}]}"#, "2h is longer than 1h"),
            ("hooks", r#"{"after_install": [{"run": ["x"], "timeout": "5m"}]}"#, "+ hooks 5m = "),
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
            ("strategy.min_healthy_time", r#""10m""#, "shorter than the release allows itself"),
            ("strategy.progress_deadline", r#""10s""#, "Error rollout.strategy.progress_deadline"),
            ("host", r#"{"confirm_timeout": "0s"}"#, "rollout.host.confirm_timeout"),
            ("failure", r#"{"poison_after": 0}"#, "rollout.failure.poison_after"),
            ("failure", r#"{"rollback": {"max_parallel": 0}}"#, "rollout.failure.rollback.max_parallel"),
        ] {
            let found = spec(good_release(), with(good_rollout(), path, json(to)));
            assert!(found.iter().any(|f| f.contains(says)), "{path}={to}: {found:?}");
        }
    }

    #[test]
    fn an_app_is_not_named_as_a_prefix_of_others() {
        let spec: ReleaseSpec = serde_json::from_value(good_release()).unwrap();
        for (name, is_sound) in [("x", true), ("x-y", true), ("x-", false), ("x.", true)] {
            assert_eq!(sound(&name.parse().unwrap(), &spec).is_ok(), is_sound, "{name}");
        }
    }

    #[test]
    fn a_static_release_needs_no_probe() {
        let release = serde_json::json!({"files": "x", "runtime": {"kind": "static"}});
        assert_eq!(spec(release, good_rollout()), Vec::<String>::new());
    }
}
