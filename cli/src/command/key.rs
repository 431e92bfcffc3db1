//! `windlass key`: author keys, which sign releases.

use serde_json::json;
use windlass_proto::bundle::AuthorKey;
use windlass_proto::id::AppName;

use crate::args::Key;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::files::{write_atomic, write_new};
use crate::invocation::Invocation;
use crate::keys;
use crate::output::{Format, json::wrap, table};

/// Runs the verb.
pub fn run(invocation: &Invocation, verb: Key) -> Result {
    match verb {
        Key::New { name } => new(invocation, &name),
        Key::List => list(invocation),
    }
}

fn new(invocation: &Invocation, name: &str) -> Result {
    // The same letters as other names: it becomes a file's.
    AppName::new(name).map_err(|error| {
        ExpectedError::usage(format!("{name:?} cannot name a key"))
            .cause(error.rule)
            .hint("windlass key new alice")
    })?;
    let config = invocation.config()?;
    let dir = keys::dir(&config);
    let path = dir.join(format!("{name}.key"));
    let failed = |error: std::io::Error| {
        ExpectedError::failed(format!("cannot write {}", path.display())).because(error)
    };
    if path.exists() {
        return Err(ExpectedError::usage(format!(
            "an author key {name:?} exists already: {}",
            path.display()
        ))
        .hint("windlass key list"));
    }
    let make = |error| ExpectedError::failed("cannot make a key").because(error);
    let key = AuthorKey::generate().map_err(make)?;
    let public = key.public().to_string();
    std::fs::create_dir_all(&dir).map_err(failed)?;
    write_new(&path, key.to_pem().map_err(make)?.as_bytes(), 0o600).map_err(failed)?;
    write_atomic(&dir.join(format!("{name}.pub")), format!("{public}\n").as_bytes(), 0o644)
        .map_err(failed)?;
    let out = &invocation.out;
    if out.format.is_structured() {
        let value = json!({ "name": name, "id": key.id().to_string(), "public": public, "file": path.display().to_string() });
        out.object(&wrap("Key", value))?;
    } else {
        out.line(&public)?;
        out.talk(&format!("The private half is {}; keep it off the coordinator.", path.display()));
        out.talk("Pin the line above in each agent's policy:  author_keys = [\"ed25519:...\"]");
    }
    Ok(Exit::Done)
}

fn list(invocation: &Invocation) -> Result {
    let out = &invocation.out;
    let config = invocation.config()?;
    let context = config.select(invocation.context.as_deref()).ok().map(|(_, context)| context);
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for (name, path) in keys::known(&config, context) {
        let shown = path.display().to_string();
        match keys::open(&config, context, &shown) {
            Ok(named) => {
                let (id, public) = (named.key.id(), named.key.public().to_string());
                values.push(json!({ "name": name, "id": id.to_string(), "public": public, "file": shown }));
                rows.push(vec![name, id.short(), public, shown]);
            }
            Err(error) => out.warn(error.message()),
        }
    }
    match out.format {
        Format::Name => rows.iter().try_for_each(|row| out.line(&row[0]))?,
        format if format.is_structured() => {
            out.list(&wrap("KeyList", json!({ "keys": values })), "keys", "Key")?
        }
        _ if rows.is_empty() => out.talk("no author keys; make one: windlass key new NAME"),
        _ => out.data(&table::render(&["KEY", "ID", "PUBLIC", "FILE"], &rows))?,
    }
    Ok(Exit::Done)
}
