//! Names and ids: newtypes whose `Display` is the inverse of their `FromStr`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// A text that is not a valid name or id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {text:?}: {rule}")]
pub struct InvalidName {
    /// What the text was to be, in words.
    pub what: &'static str,
    /// The offending text, cut to 80 characters.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

const NAME_RULE: &str =
    "use 1 to 63 characters a-z, 0-9, '.', '_' or '-', beginning with a letter or a digit";
const VERSION_RULE: &str =
    "use 1 to 64 characters A-Z, a-z, 0-9, '.', '_', '+' or '-', beginning with a letter or a digit";

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next();
    text.len() <= 63
        && first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

fn is_version(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next();
    text.len() <= 64
        && first.is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident, $rule:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a text.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                if $check(&text) {
                    Ok(Self(text))
                } else {
                    let text = text.chars().take(80).collect();
                    Err(InvalidName { what: $what, text, rule: $rule })
                }
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// Name of an application; also a directory name on hosts.
    AppName, "app name", is_name, NAME_RULE
);
text_id!(
    /// Name of a host in its fleet. The host's identity is its [`HostId`], never its name.
    HostName, "host name", is_name, NAME_RULE
);
text_id!(
    /// A host's identity: a random UUID bound to the host's key at enrolment, never reused.
    HostId, "host id", is_name, NAME_RULE
);
text_id!(
    /// Id of a rollout: `r-` and some letters and digits.
    RolloutId, "rollout id", is_name, NAME_RULE
);
text_id!(
    /// Id of one host's operation in one rollout; the idempotency key of all its messages.
    OpId, "operation id", is_name, NAME_RULE
);
text_id!(
    /// Name of a fleet; the trust domain of its identities.
    FleetName, "fleet name", is_name, NAME_RULE
);
text_id!(
    /// Name of an operator, as the certificate says it.
    OperatorName, "operator name", is_name, NAME_RULE
);
text_id!(
    /// A coordinator's identity in its fleet.
    CoordinatorId, "coordinator id", is_name, NAME_RULE
);
text_id!(
    /// Name of an environment of an app: staging, production.
    Environment, "environment name", is_name, NAME_RULE
);
text_id!(
    /// Version of a release as its authors call it.
    ReleaseVersion, "version", is_version, VERSION_RULE
);

impl Environment {
    const DEFAULT: &str = "default";

    /// Whether it is the one of apps whose spec names none.
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }

    /// What it makes of an app, in words: `shop in staging`; the default one goes without saying.
    pub fn of(&self, app: &AppName) -> String {
        if self.is_default() { app.to_string() } else { format!("{app} in {self}") }
    }

    /// The app and the flag that names this environment in a command: `shop --env staging`.
    pub fn flagged(&self, app: &AppName) -> String {
        if self.is_default() { app.to_string() } else { format!("{app} --env {self}") }
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_the_border() {
        for good in ["a", "web-01", "shop.api", "9lives", &"x".repeat(63)] {
            assert_eq!(AppName::new(good).unwrap().to_string(), good);
        }
        for bad in ["", "-a", ".a", "A", "a/b", "a b", "..", "é", &"x".repeat(64)] {
            assert!(AppName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_environment_goes_without_saying() {
        let shop = AppName::new("shop").unwrap();
        let staging = Environment::new("staging").unwrap();
        assert_eq!(Environment::new("default").unwrap(), Environment::default());
        assert_eq!(
            (Environment::default().of(&shop), Environment::default().flagged(&shop)),
            ("shop".into(), "shop".into())
        );
        assert_eq!(
            (staging.of(&shop), staging.flagged(&shop)),
            ("shop in staging".into(), "shop --env staging".into())
        );
    }

    #[test]
    fn versions_may_have_capitals_and_plus() {
        assert!(ReleaseVersion::new("1.9.0-RC1+build.5").is_ok());
        for bad in ["", "-1", "1 2", "a/b", "v\n"] {
            assert!(ReleaseVersion::new(bad).is_err(), "{bad}");
        }
    }
}
