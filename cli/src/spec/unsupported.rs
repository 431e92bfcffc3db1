//! Words of design/SPEC.md that this version does not build: refused by name, never ignored.

/// Keys, as paths in which `*` stands for any one part.
const KEYS: [&str; 21] = [
    "release.warmup",
    "release.env_schema",
    "release.migrations",
    "release.state",
    "release.runtime.image",
    "release.runtime.image_archive",
    "release.runtime.publish",
    "release.probes.*.grpc",
    "release.probes.*.systemd",
    "release.probes.*.docker",
    "release.smoke.*.grpc",
    "release.smoke.*.systemd",
    "release.smoke.*.docker",
    "rollout.strategy.steps",
    "rollout.strategy.max_surge",
    "rollout.strategy.analysis",
    "rollout.analysis",
    "rollout.approval",
    "rollout.windows",
    "rollout.notify",
    "release.secrets",
];

/// Values of words.
const VALUES: [(&str, &[&str]); 2] = [
    ("release.runtime.kind", &["docker"]),
    ("rollout.strategy.type", &["canary", "recreate", "blue_green", "ab_test"]),
];

/// True for a key that a later version will know.
pub fn is_later_key(path: &str) -> bool {
    KEYS.iter().any(|known| matches(known, strip_environment(path)))
}

/// True for a value that a later version will know.
pub fn is_later_value(path: &str, value: &str) -> bool {
    let path = strip_environment(path);
    VALUES.iter().any(|(known, values)| *known == path && values.contains(&value))
}

/// The field that a path means: `environments.production.rollout.x` is `rollout.x`.
pub fn strip_environment(path: &str) -> &str {
    path.strip_prefix("environments.").and_then(|rest| rest.split_once('.')).map_or(path, |(_, rest)| rest)
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('.'), path.split('.'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(p), Some(q)) if p == "*" || p == q => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_words_are_known_wherever_they_stand() {
        assert!(is_later_key("release.migrations"));
        assert!(is_later_key("release.probes.readiness.grpc"));
        assert!(is_later_key("environments.production.rollout.approval"));
        assert!(!is_later_key("release.migration"));
        assert!(is_later_value("rollout.strategy.type", "canary"));
        assert!(is_later_value("environments.a.rollout.strategy.type", "blue_green"));
        assert!(!is_later_value("rollout.strategy.type", "rolling"));
    }
}
