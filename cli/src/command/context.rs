//! `windlass context`: which coordinator, and who one is to it.

use std::path::{Path, PathBuf};

use serde_json::json;
use windlass_proto::rpc::InfoRequest;

use crate::args::Context;
use crate::client::Client;
use crate::config;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json::wrap, style, table};

/// Runs the verb.
pub async fn run(invocation: &Invocation, verb: Context) -> Result {
    match verb {
        Context::List => list(invocation),
        Context::Add { name, coordinator, from } => add(invocation, &name, coordinator, &from),
        Context::Use { name } => choose(invocation, &name),
        Context::Show { name } => show(invocation, name).await,
        Context::Rm { name } => forget(invocation, &name),
    }
}

fn list(invocation: &Invocation) -> Result {
    let out = &invocation.out;
    let config = invocation.config()?;
    let current = invocation.context.as_deref().or(config.current.as_deref());
    match out.format {
        Format::Name => config.contexts.keys().try_for_each(|name| out.line(name))?,
        format if format.is_structured() => {
            let all: serde_json::Value = config
                .contexts
                .iter()
                .map(|(name, c)| json!({ "name": name, "coordinator": c.coordinator, "current": Some(name.as_str()) == current }))
                .collect();
            out.list(&wrap("ContextList", json!({ "contexts": all })), "contexts", "Context")?;
        }
        _ if config.contexts.is_empty() => {
            out.talk(&format!("no contexts in {}", config.path.display()));
            out.talk("windlass context --help    (shows how to write one)");
        }
        _ => {
            let rows: Vec<Vec<String>> = config
                .contexts
                .iter()
                .map(|(name, context)| {
                    let mark = if Some(name.as_str()) == current { "*" } else { "" };
                    vec![mark.into(), name.clone(), context.coordinator.clone()]
                })
                .collect();
            out.data(&table::render(&["", "CONTEXT", "COORDINATOR"], &rows))?;
        }
    }
    Ok(Exit::Done)
}

fn add(invocation: &Invocation, name: &str, coordinator: String, from: &Path) -> Result {
    let mut config = invocation.config()?;
    if config.contexts.contains_key(name) {
        let file = config.path.display();
        return Err(ExpectedError::usage(format!("{file} has a context {name:?} already"))
            .hint(format!("windlass context rm {name}    (its files stay)")));
    }
    let has_port = coordinator
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !has_port {
        return Err(ExpectedError::usage(format!("--coordinator {coordinator:?} is not HOST:PORT"))
            .hint("--coordinator coordinator.example:7444"));
    }
    let (ca, certificate, key) = issued(from)?;
    config.contexts.insert(
        name.to_owned(),
        config::Context { coordinator, ca, certificate, key, author_keys: Vec::new() },
    );
    config.current = Some(name.to_owned());
    config.save()?;
    invocation.out.step("Using", &format!("{name}  (in {})", config.path.display()));
    Ok(Exit::Done)
}

/// CA, certificate and key in a directory as `issue-operator` leaves it: one operator's.
fn issued(dir: &Path) -> Result<(PathBuf, PathBuf, PathBuf)> {
    let shown = dir.display();
    let hint = "windlass-coordinator issue-operator --state-dir DIR --name YOU --out DIR    (on its machine)";
    let unreadable = |error| ExpectedError::usage(format!("cannot read {shown}")).because(error).hint(hint);
    let dir = dir.canonicalize().map_err(unreadable)?;
    let entries = std::fs::read_dir(&dir).map_err(unreadable)?;
    let mut keys = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "key"));
    let (key, None) = (keys.next(), keys.next()) else {
        return Err(ExpectedError::usage(format!("{shown} holds the keys of several operators"))
            .hint("give each a directory of their own"));
    };
    let key =
        key.ok_or_else(|| ExpectedError::usage(format!("{shown} holds no operator's key")).hint(hint))?;
    let (ca, certificate) = (dir.join("ca.pem"), key.with_extension("pem"));
    for file in [&ca, &certificate] {
        if !file.is_file() {
            return Err(ExpectedError::usage(format!("{} is missing", file.display())).hint(hint));
        }
    }
    Ok((ca, certificate, key))
}

fn choose(invocation: &Invocation, name: &str) -> Result {
    let mut config = invocation.config()?;
    config.select(Some(name))?;
    config.current = Some(name.to_owned());
    config.save()?;
    invocation.out.step("Using", &format!("{name}  (in {})", config.path.display()));
    Ok(Exit::Done)
}

fn forget(invocation: &Invocation, name: &str) -> Result {
    let mut config = invocation.config()?;
    config.select(Some(name))?;
    config.contexts.remove(name);
    if config.current.as_deref() == Some(name) {
        config.current = None;
    }
    config.save()?;
    invocation.out.step("Forgot", &format!("{name}  (in {}; its certificates stay)", config.path.display()));
    Ok(Exit::Done)
}

async fn show(invocation: &Invocation, name: Option<String>) -> Result {
    let out = &invocation.out;
    let config = invocation.config()?;
    let (name, context) = config.select(name.as_deref().or(invocation.context.as_deref()))?;
    // The file's content is worth showing when the coordinator is away, too.
    let client = Client::connect(&config, name, context).await;
    let caller = match &client {
        Ok(client) => client.fleet.clone().info(InfoRequest {}).await.ok().map(|info| client.received(info)),
        Err(_) => None,
    };
    let path = |p: &std::path::Path| config.resolve(p).display().to_string();
    let keys: Vec<String> = context.author_keys.iter().map(|key| path(key)).collect();
    if out.format == Format::Name {
        out.line(name)?;
    } else if out.format.is_structured() {
        out.object(&wrap(
            "Context",
            json!({
                "name": name,
                "file": config.path.display().to_string(),
                "coordinator": context.coordinator,
                "ca": path(&context.ca),
                "certificate": path(&context.certificate),
                "key": path(&context.key),
                "author_keys": keys,
                "reachable": caller.is_some(),
                "caller": caller.as_ref().map(|info| info.caller.as_str()),
                "fleet": caller.as_ref().map(|info| info.fleet.as_str()),
            }),
        ))?;
    } else {
        out.data(&format!(
            "{}\n  file         {}\n  coordinator  {}\n  ca           {}\n  certificate  {}\n  key          {}\n  author keys  {}\n",
            style::paint(style::BOLD, name),
            config.path.display(),
            context.coordinator,
            path(&context.ca),
            path(&context.certificate),
            path(&context.key),
            if keys.is_empty() { "-".into() } else { keys.join(", ") },
        ))?;
        if let Some(info) = &caller {
            out.data(&format!("  you are      {}  in fleet {}\n", info.caller, info.fleet))?;
        }
    }
    client.map(|_| Exit::Done)
}
