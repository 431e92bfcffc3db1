//! Findings as they are gathered, and the words that they share.

use windlass_proto::id::HostName;

use crate::plan::{Check, Level};

/// Findings of a plan.
#[derive(Default)]
pub(crate) struct Checks(pub(crate) Vec<Check>);

impl Checks {
    pub(crate) fn ok(&mut self, id: &'static str, message: impl Into<String>) {
        self.0.push(Check { id, level: Level::Ok, message: message.into() });
    }
    pub(crate) fn warn(&mut self, id: &'static str, message: impl Into<String>) {
        self.0.push(Check { id, level: Level::Warn, message: message.into() });
    }
    pub(crate) fn error(&mut self, id: &'static str, message: impl Into<String>) {
        self.0.push(Check { id, level: Level::Error, message: message.into() });
    }
    pub(crate) fn sorted(mut self) -> Vec<Check> {
        self.0.sort_by_key(|check| check.level);
        self.0
    }
}

/// Up to five names, and how many more.
pub(crate) fn names<'a>(hosts: impl IntoIterator<Item = &'a HostName>) -> String {
    let all: Vec<&str> = hosts.into_iter().map(HostName::as_str).collect();
    match all.len() {
        0..=5 => all.join(", "),
        n => format!("{} and {} more", all[..5].join(", "), n - 5),
    }
}

/// `1 host`, `2 hosts`.
pub(crate) fn hosts_word(n: u32) -> String {
    if n == 1 { "1 host".into() } else { format!("{n} hosts") }
}
