//! agent.toml: read as a [`Fragment`](fragment::Fragment), checked into [`Settings`].

pub mod fragment;
pub mod settings;
mod traffic;

use std::path::{Path, PathBuf};

pub use settings::{HostPolicy, JoinTokenSource, Settings};

use crate::file::{FileError, read_bounded};

/// Largest configuration file; a larger one is not a configuration file.
const FILE_BYTES: u64 = 256 * 1024;

/// Why a configuration cannot be used. Each says which file and which key, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("no configuration (another file: --config FILE)")]
    Read(#[source] FileError),
    /// It is not TOML, or has unknown, missing or mistyped keys.
    #[error("{}, line {line}: {problem}", file.display())]
    Form {
        /// The file.
        file: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// A key holds something it cannot hold.
    #[error("{}: {key}: {problem}; {hint}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key, with its table.
        key: &'static str,
        /// What is wrong.
        problem: String,
        /// What to write instead.
        hint: &'static str,
    },
}

/// Reads and checks a configuration file.
pub fn load(file: &Path) -> Result<Settings, ConfigError> {
    let content = read_bounded(file, FILE_BYTES).map_err(ConfigError::Read)?;
    parse(&String::from_utf8_lossy(&content), file)
}

/// Checks a configuration's text; `file` is named in errors and is the base of relative paths.
pub fn parse(text: &str, file: &Path) -> Result<Settings, ConfigError> {
    let fragment = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count();
        ConfigError::Form { file: file.to_owned(), line, problem: error.message().replace('\n', " ") }
    })?;
    Settings::check(fragment, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "host-1"
address = "127.0.1.1"
state_dir = "state"
run_dir = "/tmp/run"
coordinators = ["127.0.0.1:7443"]
join_token = "wl1.a.b.c"
[labels]
role = "app"
[policy]
author_keys = ["ed25519:AAAA"]
"#;

    #[test]
    fn a_good_file_becomes_settings() {
        let settings = parse(GOOD, Path::new("/etc/windlass/agent.toml")).unwrap();
        assert_eq!(settings.state_dir, Path::new("/etc/windlass/state"));
        assert_eq!(settings.run_dir, Path::new("/tmp/run"));
        assert_eq!(settings.policy.threshold, 1);
        assert_eq!(settings.policy.apps, ["*"]);
        assert_eq!(settings.join_token.read().unwrap().as_deref(), Some("wl1.a.b.c"));
    }

    #[test]
    fn errors_name_file_key_and_way_out() {
        let cases = [
            (GOOD.replace("127.0.1.1", "here"), "address: \"here\" is not an IP address; write"),
            (GOOD.replace("host-1", "Host 1"), "name: invalid host name"),
            (GOOD.replace("[\"127.0.0.1:7443\"]", "[]"), "coordinators: it is missing or empty; name"),
            (GOOD.replace("127.0.0.1:7443", "http://x"), "is not host:port; write"),
            (GOOD.replace("[policy]", "[policy]\nthreshold = 2"), "policy.threshold: 2 of 1"),
            (GOOD.replace("author_keys = [\"ed25519:AAAA\"]", ""), "policy.author_keys: it is missing"),
            (GOOD.replace("ed25519:AAAA", "rsa"), "policy.author_keys: \"rsa\" is not"),
            (GOOD.replace("state_dir", "statedir"), "line 4: unknown field `statedir`"),
            (GOOD.replace("name = \"host-1\"", ""), "missing field `name`"),
            (GOOD.replace("[labels]", "join_token_file = \"x\"\n[labels]"), "keep one of"),
            (
                GOOD.replace("[labels]", "metrics_listen = \"here\"\n[labels]"),
                "where metrics can be served: write a port",
            ),
            (GOOD.replace("[labels]", "[labels"), "line 8"),
        ];
        for (text, expected) in cases {
            let error = parse(&text, Path::new("/etc/windlass/agent.toml")).unwrap_err().to_string();
            assert!(error.starts_with("/etc/windlass/agent.toml"), "{error}");
            assert!(error.contains(expected), "{error}\nshould have: {expected}");
        }
    }

    #[test]
    fn a_missing_file_says_how_to_give_another() {
        let error = load(Path::new("/nonexistent/agent.toml")).unwrap_err();
        assert!(error.to_string().contains("--config"), "{error}");
    }
}
