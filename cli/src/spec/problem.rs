//! What is wrong with a spec, and how it is shown.

use windlass_proto::spec::check::Level;

use super::tree::Place;
use crate::error::ExpectedError;

/// Message of a problem whose field does not exist.
pub const MISSING: &str = "is missing";

/// One thing wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Place,
    /// How bad.
    pub level: Level,
    /// Which field, from the top of the file.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// Something that must be mended.
    pub fn error(at: Place, path: &str, message: impl Into<String>) -> Self {
        Self { at, level: Level::Error, path: path.to_owned(), message: message.into() }
    }

    /// True when the problem is that the field does not exist.
    pub fn is_missing(&self) -> bool {
        self.message == MISSING
    }

    /// One line of a list of errors and warnings: `windlass.yaml:3:5: warning: rollout.strategy.type: ...`.
    pub fn render(&self, file: &str, set: &[String]) -> String {
        let level = if self.level == Level::Warn { "warning: " } else { "" };
        self.line(file, set, level)
    }

    /// The same where what is around it says how bad it is.
    pub fn render_bare(&self, file: &str, set: &[String]) -> String {
        self.line(file, set, "")
    }

    fn line(&self, file: &str, set: &[String], level: &str) -> String {
        let place = match self.at.line {
            0 => {
                let flag = usize::try_from(self.at.column).ok().and_then(|i| set.get(i));
                format!("--set {}", flag.map_or("", String::as_str))
            }
            line => format!("{file}:{line}:{}", self.at.column),
        };
        let path = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        format!("{place}: {level}{path}{}", self.message)
    }
}

/// The error that lists all problems of a file.
pub fn invalid(file: &str, problems: &[Problem], set: &[String]) -> ExpectedError {
    let count = problems.iter().filter(|p| p.level == Level::Error).count();
    let mut error =
        ExpectedError::usage(format!("{file} has {}", crate::output::text::count(count, "problem")));
    for problem in problems {
        error = error.line(problem.render(file, set));
    }
    error
}
