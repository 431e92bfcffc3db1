//! Paths inside a bundle: relative, normalised, cannot leave the release directory.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::PATH_BYTES;

/// A path of a bundle entry, with `/` between its parts. No part is empty, `.` or `..`; none holds NUL or a newline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EntryPath(String);

/// A text that is not a safe path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsafe path {path:?}: {rule}")]
pub struct UnsafePath {
    /// The offending path, cut to 200 characters.
    pub path: String,
    /// What is wrong with it.
    pub rule: &'static str,
}

impl EntryPath {
    /// Checks and wraps a path.
    pub fn new(text: impl Into<String>) -> Result<Self, UnsafePath> {
        let text = text.into();
        match Self::fault(&text) {
            None => Ok(Self(text)),
            Some(rule) => Err(UnsafePath { path: text.chars().take(200).collect(), rule }),
        }
    }

    fn fault(text: &str) -> Option<&'static str> {
        if text.is_empty() {
            return Some("it is empty");
        }
        if text.len() > PATH_BYTES {
            return Some("it is longer than 1024 bytes");
        }
        if text.starts_with('/') {
            return Some("it is absolute");
        }
        if text.chars().any(char::is_control) {
            return Some("it holds a control character");
        }
        for part in text.split('/') {
            match part {
                "" => return Some("it has an empty part"),
                "." => return Some("it has the part \".\""),
                ".." => return Some("it climbs out with \"..\""),
                _ if part.len() > 255 => return Some("a part is longer than 255 bytes"),
                _ => {}
            }
        }
        None
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts, outermost first.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The directory it lies in; `None` at the top.
    pub fn parent(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(parent, _)| parent)
    }

    /// Checks that a symlink at this path with this target stays inside the tree: the target is relative and never
    /// climbs above the top. Every prefix is judged, so `a/../../x` is refused even where `a` is deep.
    pub fn check_link(&self, target: &str) -> Result<(), UnsafePath> {
        let fault =
            |rule| Err(UnsafePath { path: format!("{self} -> {target}").chars().take(200).collect(), rule });
        if target.is_empty() || target.len() > PATH_BYTES || target.chars().any(char::is_control) {
            return fault("the link's target is empty, too long or holds a control character");
        }
        if target.starts_with('/') {
            return fault("the link's target is absolute");
        }
        let mut depth = self.parts().count() - 1;
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." if depth == 0 => return fault("the link leaves the bundle"),
                ".." => depth -= 1,
                _ => depth += 1,
            }
        }
        Ok(())
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EntryPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_relative_paths_pass() {
        for good in ["a", "bin/shop-api", "a/b/c.d", "..a", "with space", "ünï"] {
            assert!(EntryPath::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/etc/passwd", "..", "a/..", "../a", "a//b", "a/", "./a", "a\nb", "a\0b"] {
            assert!(EntryPath::new(bad).is_err(), "{bad}");
        }
        assert!(EntryPath::new("x".repeat(256)).is_err());
        assert!(EntryPath::new("x/".repeat(600) + "x").is_err());
    }

    #[test]
    fn links_stay_inside() {
        let link = EntryPath::new("lib/a/link").unwrap();
        for good in ["x", "../x", "../../x", "./x", "y/../x"] {
            assert!(link.check_link(good).is_ok(), "{good}");
        }
        for bad in ["", "/x", "../../../x", "x/../../../../y"] {
            assert!(link.check_link(bad).is_err(), "{bad}");
        }
    }
}
