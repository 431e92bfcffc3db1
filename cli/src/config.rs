//! Contexts: which coordinator, and who one is to it.
//!
//! Order: flags, then `WINDLASS_CONTEXT` and `WINDLASS_CONFIG`, then `~/.config/windlass/config.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{ExpectedError, Result};
use crate::exit::Exit;

/// The operator's configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file it was read from; paths in it are relative to its directory.
    #[serde(skip)]
    pub path: PathBuf,
    /// Name of the context used when none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One coordinator and the caller's identity there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `host:port` of the operators' listener.
    pub coordinator: String,
    /// The operators' CA certificate.
    pub ca: PathBuf,
    /// The caller's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Private author keys that `deploy` and `bundle build` sign with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub author_keys: Vec<PathBuf>,
}

impl Config {
    /// Where the configuration is: `WINDLASS_CONFIG`, else `$XDG_CONFIG_HOME` or `~/.config` + `windlass/config.toml`.
    pub fn default_path() -> Result<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(path) = set("WINDLASS_CONFIG") {
            return Ok(path);
        }
        let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        base.map(|base| base.join("windlass/config.toml")).ok_or_else(|| {
            ExpectedError::usage("no configuration file: neither WINDLASS_CONFIG nor HOME is set")
                .hint("export WINDLASS_CONFIG=/path/to/config.toml")
        })
    }

    /// Reads the default file; an absent file is an empty configuration.
    pub fn load() -> Result<Self> {
        Self::read(&Self::default_path()?)
    }

    /// Reads a file; an absent file is an empty configuration.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(ExpectedError::failed(format!("cannot read {}", path.display())).because(error));
            }
        };
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            ExpectedError::usage(format!("{} is not a valid configuration", path.display()))
                .cause(error.to_string())
        })?;
        config.path = path.to_path_buf();
        Ok(config)
    }

    /// Writes the configuration to its path: temporary file, fsync, rename. Comments are not kept.
    pub fn save(&self) -> Result<()> {
        let failed =
            |error| ExpectedError::failed(format!("cannot write {}", self.path.display())).because(error);
        let text = toml::to_string(self)
            .map_err(|e| ExpectedError::failed("cannot encode the configuration").because(e))?;
        crate::files::write_atomic(&self.path, text.as_bytes(), 0o600).map_err(failed)
    }

    /// The directory that relative paths start from, and where `key new` puts keys.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new("."))
    }

    /// A path of the file, made absolute.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.dir().join(path)
    }

    /// The context to use: `asked` (flag or environment), else the current one.
    pub fn select(&self, asked: Option<&str>) -> Result<(&str, &Context)> {
        let file = self.path.display();
        let name = asked.or(self.current.as_deref()).ok_or_else(|| {
            ExpectedError::new(Exit::NotAllowed, format!("no coordinator is configured in {file}"))
                .hint("windlass dev up --dir ./fleet --hosts 3    (a fleet on this machine to try things on)")
                .hint(
                    "windlass context add NAME --coordinator HOST:7444 --from DIR    (to a fleet that runs)",
                )
        })?;
        self.contexts.get_key_value(name).map(|(name, context)| (name.as_str(), context)).ok_or_else(|| {
            let near = crate::spec::near(name, self.contexts.keys().map(String::as_str));
            let also = near.map(|n| format!(", did you mean {n:?}?")).unwrap_or_default();
            ExpectedError::usage(format!("no context {name:?} in {file}{also}")).hint("windlass context list")
        })
    }
}
