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
fn what_the_coordinator_answers_reaches_people_by_one_way() {
    let mut findings = Vec::new();
    for source in sources(&["cli/src"]).iter().filter(|source| source.path != "cli/src/client.rs") {
        for (number, line) in source.code() {
            // `Client::received` and `Client::next` are the way; a stream is opened, and a file closed, by the others' names.
            let passes_by = line.contains("stream.message()")
                || line.contains(".into_inner()") && !line.contains("writer.into_inner()");
            if passes_by {
                findings.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    report("answers that are shown as they came; use Client::received or Client::next", &findings);
}

/// What cargo says is built, one package a line. Cargo.lock also lists what never is.
fn tree(args: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut tree = std::process::Command::new(cargo);
    tree.args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}"]);
    let output = tree.args(args).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn aws_lc_is_the_only_crypto_provider() {
    let text = tree(&["--workspace", "--edges", "all"]);
    let banned = ["ring ", "openssl ", "openssl-sys ", "native-tls ", "ed25519-dalek "];
    let found: Vec<String> = text
        .lines()
        .filter(|line| banned.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    report("banned crates in the tree", &found);
}

#[test]
fn failpoints_are_in_no_program_unless_asked_for() {
    let has_them = |args: &[&str]| tree(args).lines().any(|line| line.starts_with("fail "));
    assert!(!has_them(&["--workspace"]), "crate fail is built without the feature");
    let asked = ["--workspace", "--features", "windlass-agent/failpoints"];
    assert!(has_them(&asked), "the feature has another name now");
}

#[test]
fn what_is_shipped_tells_nobody_of_traces() {
    let has_them = |args: &[&str]| tree(args).lines().any(|line| line.starts_with("opentelemetry"));
    assert!(!has_them(&[]), "a program of the packages is built with traces");
    for program in ["windlass-cli", "windlass-coordinator", "windlass-agent"] {
        assert!(has_them(&["-p", program, "--features", "otlp"]), "{program} has no such feature");
    }
}
