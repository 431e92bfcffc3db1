//! What packages ship is what the programs know.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use windlass_tests::needs;

use super::root;

fn shipped(path: &str) -> String {
    std::fs::read_to_string(root().join("packaging").join(path)).unwrap()
}

/// The file with every key in force.
fn uncommented(text: &str) -> String {
    text.lines().map(|line| key(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The key or table that a comment holds, if it does.
fn key(line: &str) -> Option<&str> {
    let key = line.strip_prefix('#')?;
    let word = key.split([' ', '=']).next()?.trim_matches(['[', ']']);
    let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    (is_word && (key.contains(" = ") || key.starts_with('['))).then_some(key)
}

/// Every key of the file, with its table: `policy.apps`.
fn keys(text: &str) -> BTreeSet<String> {
    let table: toml::Table = text.parse().unwrap();
    let mut keys = BTreeSet::new();
    for (key, value) in &table {
        match value {
            toml::Value::Table(inner) if key != "labels" => {
                keys.extend(inner.keys().map(|inner| format!("{key}.{inner}")));
            }
            _ => drop(keys.insert(key.clone())),
        }
    }
    keys
}

/// The keys that a program knows, in its own words: what it says of one that it does not know.
fn known(error: &str) -> BTreeSet<String> {
    let list = error.rsplit_once("expected ").expect(error).1;
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_agents_file_has_every_key_of_the_agent_and_no_other() {
    let text = shipped("etc/windlass/agent.toml");
    let in_force = uncommented(&text);
    let path = Path::new("/etc/windlass/agent.toml");
    // The two ways to give the token exclude each other.
    let one_token: String =
        in_force.lines().filter(|l| !l.starts_with("join_token =")).collect::<Vec<_>>().join("\n");
    windlass_agent::config::parse(&one_token, path).unwrap();
    let missing = windlass_agent::config::parse(&text, path).unwrap_err().to_string();
    assert!(missing.contains("missing field `name`"), "{missing}");

    let mut expected = BTreeSet::new();
    for table in ["", "policy", "traffic", "retention"] {
        let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
        let probe = format!("name = 'a'\naddress = '127.0.0.1'\n{header}nobody_knows_this = 1\n");
        let names = known(&windlass_agent::config::parse(&probe, path).unwrap_err().to_string());
        let prefix = if table.is_empty() { String::new() } else { format!("{table}.") };
        expected.extend(names.into_iter().map(|name| format!("{prefix}{name}")));
    }
    expected.retain(|key| !["policy", "traffic", "retention"].contains(&key.as_str()));
    assert_eq!(keys(&in_force), expected);
}

#[test]
fn the_coordinators_file_has_every_key_of_the_coordinator_and_no_other() {
    let text = shipped("etc/windlass/coordinator.toml");
    let dir = tempfile::tempdir().unwrap();
    let load = |text: &str| {
        let path = dir.path().join("coordinator.toml");
        std::fs::write(&path, text).unwrap();
        windlass_coordinator::config::Settings::load(windlass_coordinator::args::RunArgs {
            config: Some(path),
            ..Default::default()
        })
    };
    load(&uncommented(&text)).unwrap();
    let unknown = load("nobody_knows_this = 1").unwrap_err();
    let cause = std::error::Error::source(&unknown).unwrap().to_string();
    assert_eq!(keys(&uncommented(&text)), known(&cause));
}

#[test]
fn units_are_as_closed_as_their_work_allows() {
    if !needs::programs(&[("systemd-analyze", "systemd")]) {
        return;
    }
    // The agent's applications inherit what its unit shuts off; the unit says why it shuts off no more.
    for (unit, most) in [("windlass-coordinator", 25), ("windlass-links", 50), ("windlass-agent", 85)] {
        let path = root().join(format!("packaging/usr/lib/systemd/system/{unit}.service"));
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", &format!("--threshold={most}")]).arg(path);
        let output = analyze.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{unit}: {}", said.lines().last().unwrap_or_default());
    }
}
