//! What a host can do, as words that plans go by: a host's `Hello` says which it has, an assignment which it needs.

use std::collections::BTreeSet;

use crate::spec::{ReleaseSpec, Runtime};

/// Most features that a host may name.
const MOST: usize = 64;
/// Longest name of a feature.
const LENGTH: usize = 64;

/// A feature that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Runs apps as processes.
    RuntimeProcess,
    /// Runs apps as units of systemd.
    RuntimeSystemd,
    /// Switches the links of releases in which nothing runs.
    RuntimeStatic,
}

impl Feature {
    /// All that this version knows.
    pub const ALL: &'static [Self] = &[Self::RuntimeProcess, Self::RuntimeSystemd, Self::RuntimeStatic];

    /// Its name on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::RuntimeProcess => "runtime.process",
            Self::RuntimeSystemd => "runtime.systemd",
            Self::RuntimeStatic => "runtime.static",
        }
    }
}

impl ReleaseSpec {
    /// The features that a host must have to run a release with this spec.
    pub const fn needs(&self) -> Feature {
        match self.runtime {
            Runtime::Process { .. } => Feature::RuntimeProcess,
            Runtime::Systemd { .. } => Feature::RuntimeSystemd,
            Runtime::Static { .. } => Feature::RuntimeStatic,
        }
    }
}

/// Names of features from another program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFeatures {
    /// More than anybody has.
    #[error("{0} features are too many: at most {MOST}")]
    TooMany(usize),
    /// Not a word.
    #[error("{0:?} is no name of a feature")]
    NoWord(String),
}

/// Checks names of features: few, short, and of plain characters. Names that this version does not know are kept.
pub fn words(words: Vec<String>) -> Result<BTreeSet<String>, InvalidFeatures> {
    if words.len() > MOST {
        return Err(InvalidFeatures::TooMany(words.len()));
    }
    let fits = |word: &str| {
        !word.is_empty()
            && word.len() <= LENGTH
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    match words.iter().find(|word| !fits(word)) {
        Some(word) => Err(InvalidFeatures::NoWord(word.chars().take(LENGTH).collect())),
        None => Ok(words.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_few_short_and_plain() {
        let all = Feature::ALL.iter().map(|feature| feature.word().to_owned());
        assert_eq!(words(all.collect()).unwrap().len(), Feature::ALL.len());
        assert_eq!(words(vec!["slots".into()]).unwrap().len(), 1, "of a newer version");
        assert_eq!(words(vec!["x".into(); MOST + 1]), Err(InvalidFeatures::TooMany(MOST + 1)));
        for bad in ["", "Runtime", "a b", "a\n", &"x".repeat(LENGTH + 1)] {
            assert!(matches!(words(vec![bad.to_owned()]), Err(InvalidFeatures::NoWord(_))), "{bad:?}");
        }
    }
}
