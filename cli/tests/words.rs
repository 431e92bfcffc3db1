//! What people see without a coordinator: help, usage errors, spec errors, contexts, keys; as snapshots.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

fn windlass(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("COLUMNS", "100")
        .env("WINDLASS_CONFIG", dir.join("config.toml"))
        .output()
        .unwrap()
}

/// Exit code, stdout and stderr as one text without the directory's name.
fn shown(dir: &Path, args: &[&str]) -> String {
    let output = windlass(dir, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&dir.display().to_string(), "DIR");
    format!(
        "$ windlass {}\nexit {}\n--- stdout\n{}--- stderr\n{}",
        args.join(" "),
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr)
    )
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn help_of_the_program() {
    insta::assert_snapshot!(shown(dir().path(), &["--help"]));
}

#[test]
fn help_of_deploy() {
    insta::assert_snapshot!(shown(dir().path(), &["deploy", "--help"]));
}

#[test]
fn help_of_bundle_build() {
    insta::assert_snapshot!(shown(dir().path(), &["bundle", "build", "--help"]));
}

#[test]
fn help_of_rollout() {
    insta::assert_snapshot!(shown(dir().path(), &["rollout", "--help"]));
}

#[test]
fn deploy_without_a_version() {
    insta::assert_snapshot!(shown(dir().path(), &["deploy"]));
}

#[test]
fn validate_without_a_file() {
    insta::assert_snapshot!(shown(dir().path(), &["validate"]));
}

#[test]
fn validate_with_many_problems() {
    let dir = dir();
    let spec = "apiVersion: windlass/v1\napp: shop\nrelease:\n  runtime: {kind: docker, image: x}\n  migrations: {}\nrollout:\n  targets: {selector: ''}\n  strategy: {type: blue_green, max_parallel: 0}\n";
    std::fs::write(dir.path().join("windlass.yaml"), spec).unwrap();
    insta::assert_snapshot!(shown(dir.path(), &["validate"]));
}

#[test]
fn a_warning_says_so_once() {
    let dir = dir();
    let spec = "apiVersion: windlass/v1\napp: shop\nrelease:\n  files: .\n  runtime: {kind: process, command: [/bin/sh]}\n  ports: {http: 80}\n  probes:\n    readiness: {http: {path: /same, port: http}}\n    liveness: {http: {path: /same, port: http}}\nrollout:\n  targets: {selector: role=app}\n";
    std::fs::write(dir.path().join("windlass.yaml"), spec).unwrap();
    let text = shown(dir.path(), &["validate"]);
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("warning")).collect();
    assert!(!warnings.is_empty(), "{text}");
    for line in warnings {
        assert!(
            line.starts_with("warning: windlass.yaml:") && line.matches("warning:").count() == 1,
            "{text}"
        );
    }
}

#[test]
fn without_a_context() {
    insta::assert_snapshot!(shown(dir().path(), &["status"]));
}

#[test]
fn a_context_is_added_from_what_issue_operator_left_and_used_from_then_on() {
    let dir = dir();
    let own = dir.path().join("ana");
    std::fs::create_dir(&own).unwrap();
    let add = |name: &str, coordinator: &str| {
        shown(dir.path(), &["context", "add", name, "--coordinator", coordinator, "--from", "ana"])
    };
    assert!(add("prod", "c.example:7444").contains("ana holds no operator's key"));
    std::fs::write(own.join("ana.key"), "").unwrap();
    assert!(add("prod", "c.example:7444").contains("ca.pem is missing"));
    for file in ["ca.pem", "ana.pem"] {
        std::fs::write(own.join(file), "").unwrap();
    }
    assert!(add("prod", "c.example").contains("is not HOST:PORT"));
    assert!(add("prod", "c.example:7444").contains("Using prod"));
    assert!(add("prod", "c.example:7444").contains("has a context \"prod\" already"));
    let list = shown(dir.path(), &["context", "list"]);
    assert!(list.contains("c.example:7444") && list.contains("* "), "{list}");
    std::fs::write(own.join("ben.key"), "").unwrap();
    assert!(add("test", "c.example:7444").contains("keys of several operators"));
}

#[test]
fn an_unknown_context_is_named_with_its_near_match() {
    let dir = dir();
    let config = "current = \"prod\"\n[contexts.prod]\ncoordinator = \"127.0.0.1:1\"\nca = \"ca.pem\"\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";
    std::fs::write(dir.path().join("config.toml"), config).unwrap();
    insta::assert_snapshot!(shown(dir.path(), &["status", "--context", "prd"]));
}

#[test]
fn a_missing_certificate_is_named() {
    let dir = dir();
    let config = "current = \"prod\"\n[contexts.prod]\ncoordinator = \"127.0.0.1:1\"\nca = \"ca.pem\"\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";
    std::fs::write(dir.path().join("config.toml"), config).unwrap();
    insta::assert_snapshot!(shown(dir.path(), &["host", "list"]));
}

#[test]
fn a_coordinator_that_is_away_is_exit_5_with_the_way_to_reach_it() {
    let dir = dir();
    // A port that was free a moment ago, with nobody behind it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ca = windlass_proto::tls::Ca::generate("operators", "test").unwrap();
    let own = ca.issue_operator("ana", 1).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("ca.pem", ca.certificate_pem());
    write("a.pem", &own.certificate_pem);
    write("a.key", &own.key_pem);
    write(
        "config.toml",
        &format!(
            "current = \"prod\"\n[contexts.prod]\ncoordinator = \"127.0.0.1:{port}\"\nca = \"ca.pem\"\ncertificate = \"a.pem\"\nkey = \"a.key\"\n"
        ),
    );
    let text = shown(dir.path(), &["versions"]).replace(&port.to_string(), "PORT");
    insta::assert_snapshot!(text);
}

#[test]
fn a_key_is_made_once_and_listed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = dir();
    let made = windlass(dir.path(), &["key", "new", "alice"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let public = String::from_utf8(made.stdout).unwrap();
    assert!(public.starts_with("ed25519:"), "{public}");
    let mode = std::fs::metadata(dir.path().join("keys/alice.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let listed = windlass(dir.path(), &["key", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["keys"][0]["public"], public.trim());
    assert_eq!(listed["kind"], "KeyList");
    assert_eq!(windlass(dir.path(), &["key", "new", "alice"]).status.code(), Some(2));
}

#[test]
fn init_writes_what_it_says_and_never_overwrites() {
    let dir = dir();
    let first = windlass(dir.path(), &["init", "--app", "shop"]);
    assert!(first.status.success());
    insta::assert_snapshot!(std::fs::read_to_string(dir.path().join("windlass.yaml")).unwrap());
    assert_eq!(windlass(dir.path(), &["init"]).status.code(), Some(2));
    assert!(windlass(dir.path(), &["init", "--force"]).status.success());
}

#[test]
fn bundles_are_built_signed_and_verified_offline() {
    let dir = dir();
    windlass(dir.path(), &["init", "--app", "shop"]);
    let bin = dir.path().join("dist/bin");
    std::fs::create_dir_all(&bin).unwrap();
    windlass_cli::files::write_new(&bin.join("shop"), b"#!/bin/sh\nexec sleep 1\n", 0o755).unwrap();
    assert_eq!(
        windlass(dir.path(), &["bundle", "build", "--version", "1"]).status.code(),
        Some(2),
        "no key yet"
    );
    for name in ["alice", "bob"] {
        windlass(dir.path(), &["key", "new", name]);
    }
    let build = |out: &str| {
        let args = ["bundle", "build", ".", "--version", "1", "--key", "alice", "--out", out];
        let output = windlass(dir.path(), &args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(dir.path().join(out)).unwrap()
    };
    assert!(build("a.wlb") == build("b.wlb"), "the same input gives the same bytes");
    let verify =
        |args: &[&str]| windlass(dir.path(), &[&["bundle", "verify", "a.wlb"], args].concat()).status.code();
    assert_eq!(verify(&["--key", "alice"]), Some(0));
    assert_eq!(verify(&["--key", "bob"]), Some(1));
    assert_eq!(verify(&["--key", "alice", "--key", "bob", "--threshold", "2"]), Some(1));
    assert!(windlass(dir.path(), &["bundle", "sign", "a.wlb", "--key", "bob"]).status.success());
    assert_eq!(verify(&["--key", "alice", "--key", "bob", "--threshold", "2"]), Some(0));
    let mut bytes = std::fs::read(dir.path().join("a.wlb")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(dir.path().join("a.wlb"), bytes).unwrap();
    assert_eq!(verify(&["--key", "alice"]), Some(1), "damaged");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::Stdio;
    let dir = dir();
    let mut child = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .arg("schema")
        .env("HOME", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
