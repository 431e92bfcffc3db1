//! What may reach what: the pure crates reach nothing, sled is reached in one place per program, ring by nobody.

use super::{report, root, sources};

const PURE: [&str; 2] = ["coordinator/rollout", "agent/release"];

#[test]
fn pure_crates_depend_on_data_only() {
    let allowed = ["windlass-proto", "serde", "serde_json", "thiserror"];
    let mut findings = Vec::new();
    for krate in PURE {
        let text = std::fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let none = toml::Table::new();
        let dependencies = manifest.get("dependencies").and_then(|d| d.as_table()).unwrap_or(&none);
        for (name, value) in dependencies {
            if !allowed.contains(&name.as_str()) {
                findings.push(format!("{krate}: {name}"));
            }
            if value.get("features").is_some() {
                findings.push(format!("{krate}: {name} with features"));
            }
        }
    }
    report("a pure crate may not depend on this", &findings);
}

#[test]
fn pure_crates_reach_no_clock_file_or_socket() {
    let banned = [
        "tokio",
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "SystemTime",
        "Instant",
        "rand::",
        "thread",
    ];
    let mut findings = Vec::new();
    for source in sources(&["coordinator/rollout/src", "agent/release/src", "proto/src/spec"]) {
        for (number, line) in source.code() {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    report("a pure crate names this", &findings);
}

#[test]
fn sled_is_reached_in_the_store_files_only() {
    let mut findings = Vec::new();
    for source in sources(&["proto", "coordinator", "agent", "cli"]) {
        let in_store =
            source.path.starts_with("agent/src/store") || source.path.starts_with("coordinator/src/store");
        for (number, line) in source.code() {
            if line.contains("sled::") && !in_store {
                findings.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    report("sled outside the store", &findings);
}

#[test]
fn aws_lc_is_the_only_crypto_provider() {
    // Cargo.lock also lists what is never built, so cargo is asked what is.
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut tree = std::process::Command::new(cargo);
    tree.args([
        "tree",
        "--workspace",
        "--locked",
        "--offline",
        "--edges",
        "all",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let output = tree.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let banned = ["ring ", "openssl ", "openssl-sys ", "native-tls ", "ed25519-dalek "];
    let found: Vec<String> = text
        .lines()
        .filter(|line| banned.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    report("banned crates in the tree", &found);
}

#[test]
fn cargo_deny_is_content_where_it_is_installed() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let deny = |args: &[&str]| {
        std::process::Command::new(&cargo).arg("deny").args(args).current_dir(root()).output().unwrap()
    };
    // It takes minutes to build; CI runs on machines that have it and on those that have not.
    if !deny(&["--version"]).status.success() {
        return;
    }
    let output = deny(&["--offline", "check", "bans", "licenses", "sources"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
