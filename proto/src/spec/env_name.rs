//! Names of environment variables: a type that cannot hold what would be read as something else where it is written down.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::id::InvalidName;

/// Longest name.
const LONGEST: usize = 255;

const RULE: &str =
    "use 1 to 255 characters A-Z, a-z, 0-9, '_', '.' or '-', beginning with a letter or an underscore";

/// Names that systemd sets for what it runs: who could choose them, could choose what others believe of a unit.
const OF_SYSTEMD: [&str; 14] = [
    "CREDENTIALS_DIRECTORY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "MAINPID",
    "MANAGERPID",
    "NOTIFY_SOCKET",
    "PIDFILE",
    "SERVICE_RESULT",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Name of a variable in the environment of an app.
///
/// Dots and dashes are allowed, since some programs are configured with them; see [`EnvName::is_plain`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct EnvName(String);

impl EnvName {
    /// Checks and wraps a text.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let goes_on = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if begins && goes_on && text.len() <= LONGEST {
            return Ok(Self(text));
        }
        let text = text.chars().take(80).collect();
        Err(InvalidName { what: "name of an environment variable", text, rule: RULE })
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Who sets this variable, where that is not the app's to choose.
    pub fn set_by(&self) -> Option<&'static str> {
        if self.0.starts_with("WINDLASS_") {
            return Some("the agent");
        }
        let of_systemd = OF_SYSTEMD.contains(&self.as_str()) || self.0.starts_with("EXIT_");
        of_systemd.then_some("systemd")
    }

    /// Whether it is made of letters, digits and underscores alone, which is all that systemd and shells hand on.
    pub fn is_plain(&self) -> bool {
        self.0.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    }
}

impl fmt::Display for EnvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for EnvName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for EnvName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_be_read_as_anything_else() {
        for good in ["A", "_x", "LOG_LEVEL", "spring.datasource-url", "LD_LIBRARY_PATH", &"X".repeat(255)] {
            assert_eq!(EnvName::new(good).unwrap().to_string(), good);
        }
        for bad in ["", "A=B", "A\nLD_PRELOAD", "A\0", " A", "#A", "1A", "é", "A\"", &"X".repeat(256)] {
            assert!(EnvName::new(bad).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<EnvName>(serde_json::json!(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_systemd_and_the_agent_set_is_known() {
        let set_by = |name: &str| EnvName::new(name).unwrap().set_by();
        for name in
            ["MAINPID", "INVOCATION_ID", "SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS", "NOTIFY_SOCKET"]
        {
            assert_eq!(set_by(name), Some("systemd"), "{name}");
        }
        assert_eq!(set_by("WINDLASS_START"), Some("the agent"));
        for name in ["LD_LIBRARY_PATH", "LD_PRELOAD", "PATH", "HOME", "LISTEN_ADDRESS", "EXITS"] {
            assert_eq!(set_by(name), None, "{name}");
        }
    }
}
