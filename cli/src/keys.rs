//! Author keys: where they are, and how one is named.
//!
//! A name means `keys/NAME.key` beside the configuration, or an author key of the context whose file is called so;
//! anything with a slash, or that exists, is a file.

use std::path::{Path, PathBuf};

use windlass_proto::bundle::{AuthorKey, AuthorPublicKey};

use crate::config::{Config, Context};
use crate::error::{ExpectedError, Result};
use crate::spec::near;

/// An author key and where it came from.
#[derive(Debug)]
pub struct NamedKey {
    /// What people call it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// The key.
    pub key: AuthorKey,
}

/// Where `key new` puts keys.
pub fn dir(config: &Config) -> PathBuf {
    config.dir().join("keys")
}

/// Files of all author keys that are known, with their names, without opening them.
pub fn known(config: &Config, context: Option<&Context>) -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    let listed = context.into_iter().flat_map(|c| &c.author_keys).map(|path| config.resolve(path));
    let made = std::fs::read_dir(dir(config)).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut made: Vec<PathBuf> = made.filter(|path| path.extension().is_some_and(|e| e == "key")).collect();
    made.sort();
    for path in listed.chain(made) {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if !found.iter().any(|(_, known)| *known == path) {
            found.push((name, path));
        }
    }
    found
}

/// The keys to sign with: those named, else the context's, else the only one there is.
pub fn signing(config: &Config, context: Option<&Context>, names: &[String]) -> Result<Vec<NamedKey>> {
    if !names.is_empty() {
        return names.iter().map(|name| open(config, context, name)).collect();
    }
    let listed = context.map_or(&[][..], |c| &c.author_keys);
    if !listed.is_empty() {
        return listed.iter().map(|path| load(&config.resolve(path))).collect();
    }
    match known(config, context).as_slice() {
        [] => Err(ExpectedError::usage("there is no author key to sign with")
            .hint("windlass key new NAME    (then pin its public half in the agents' policy)")),
        [(_, path)] => Ok(vec![load(path)?]),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            Err(ExpectedError::usage(format!("which author key? there are {}", names.join(", ")))
                .hint(format!("--key {}", names[0]))
                .hint("or author_keys = [\"...\"] in the context"))
        }
    }
}

/// The authors whose signatures count here: the context's, and all whose keys, or whose public halves alone (`NAME.pub`), lie
/// in `keys/` beside the configuration.
pub fn authors(config: &Config, context: Option<&Context>) -> Result<Vec<AuthorPublicKey>> {
    let own = known(config, context).into_iter().map(|(_, path)| Ok(load(&path)?.key.public()));
    let there = std::fs::read_dir(dir(config)).into_iter().flatten().flatten().map(|entry| entry.path());
    let halves = there.filter(|path| path.extension().is_some_and(|extension| extension == "pub"));
    let others = halves.map(|path| {
        let shown = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            ExpectedError::usage(format!("cannot read the author's public key {shown}")).because(error)
        })?;
        text.trim().parse().map_err(|error| {
            ExpectedError::usage(format!("{shown} is not an author's public key")).because(error)
        })
    });
    own.chain(others).collect()
}

/// Finds a key by name or file.
pub fn open(config: &Config, context: Option<&Context>, name: &str) -> Result<NamedKey> {
    if name.contains('/') || Path::new(name).is_file() {
        return load(Path::new(name));
    }
    let known = known(config, context);
    if let Some((_, path)) = known.iter().find(|(known, _)| known == name) {
        return load(path);
    }
    let meant = near(name, known.iter().map(|(name, _)| name.as_str()));
    let meant = meant.map(|m| format!(", did you mean {m:?}?")).unwrap_or_default();
    Err(ExpectedError::usage(format!("no author key {name:?}{meant}"))
        .hint("windlass key list")
        .hint(format!("windlass key new {name}")))
}

fn load(path: &Path) -> Result<NamedKey> {
    let shown = path.display();
    let pem = std::fs::read_to_string(path).map_err(|error| {
        ExpectedError::usage(format!("cannot read the author key {shown}"))
            .because(error)
            .hint("windlass key list")
    })?;
    let key = AuthorKey::from_pem(&pem)
        .map_err(|error| ExpectedError::usage(format!("{shown} is not an author key")).because(error))?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(NamedKey { name, path: path.to_owned(), key })
}

/// A public key as people give it: `ed25519:...`, a file that holds that, or anything [`open`] finds.
pub fn public(config: &Config, context: Option<&Context>, given: &str) -> Result<AuthorPublicKey> {
    if given.starts_with("ed25519:") {
        return given
            .parse()
            .map_err(|error| ExpectedError::usage("--key is not a public key").because(error));
    }
    let text = std::fs::read_to_string(given).unwrap_or_default();
    if let Some(Ok(key)) = text.trim().starts_with("ed25519:").then(|| text.trim().parse()) {
        return Ok(key);
    }
    open(config, context, given).map(|named| named.key.public())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_name_and_near_matches_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: dir.path().join("config.toml"), ..Config::default() };
        let none = signing(&config, None, &[]).unwrap_err();
        assert!(none.render().contains("windlass key new NAME"), "{}", none.render());
        let key = AuthorKey::generate().unwrap();
        let path = super::dir(&config).join("alice.key");
        crate::files::write_atomic(&path, key.to_pem().unwrap().as_bytes(), 0o600).unwrap();
        assert_eq!(signing(&config, None, &[]).unwrap()[0].name, "alice");
        assert_eq!(open(&config, None, "alice").unwrap().key.id(), key.id());
        let error = open(&config, None, "alcie").unwrap_err();
        assert_eq!(error.message(), "no author key \"alcie\", did you mean \"alice\"?");
        let other = AuthorKey::generate().unwrap().public();
        assert_eq!(authors(&config, None).unwrap(), [key.public()]);
        std::fs::write(super::dir(&config).join("bob.pub"), format!("{other}\n")).unwrap();
        assert_eq!(authors(&config, None).unwrap(), [key.public(), other]);
        std::fs::write(super::dir(&config).join("bob.pub"), "nothing").unwrap();
        assert!(authors(&config, None).unwrap_err().message().contains("bob.pub"));
        let text = key.public().to_string();
        assert_eq!(public(&config, None, &text).unwrap(), key.public());
        assert_eq!(public(&config, None, path.to_str().unwrap()).unwrap(), key.public());
    }
}
