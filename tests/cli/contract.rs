//! Words, streams and exit codes of design/CLI.md.

use std::process::Command;

use windlass_tests::programs::program;
use windlass_tests::run::{Ended, run};

/// Runs the CLI with a home and configuration of nobody.
fn windlass(args: &[&str]) -> Ended {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("windlass"));
    command.args(args).env("HOME", home.path()).env("NO_COLOR", "1").current_dir(home.path());
    for name in ["WINDLASS_CONFIG", "WINDLASS_CONTEXT", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    run(&mut command)
}

#[test]
fn help_names_every_verb_that_exists_and_none_that_does_not() {
    let help = windlass(&["--help"]).expect(0).stdout;
    let verbs = [
        "init",
        "validate",
        "plan",
        "deploy",
        "status",
        "rollback",
        "versions",
        "why",
        "logs",
        "events",
        "bundle",
        "rollout",
        "host",
        "app",
        "key",
        "token",
        "context",
        "schema",
        "completions",
        "version",
        "dev",
        "demo",
    ];
    let has = |verb: &str| help.lines().any(|line| line.trim_start().starts_with(&format!("{verb} ")));
    for verb in verbs {
        assert!(has(verb), "{verb} is missing:\n{help}");
    }
    for later in ["login", "doctor", "admin", "demo-app", "dev-session"] {
        assert!(!has(later), "{later} is shown:\n{help}");
    }
    assert!(help.contains("rollout failed"), "exit codes are in help");
}

#[test]
fn usage_errors_are_exit_2_on_stderr_only() {
    for args in [&["frobnicate"][..], &["deploy", "--nope"], &["dev", "up"], &["rollback"]] {
        let ended = windlass(args).expect(2);
        assert!(ended.stdout.is_empty(), "{args:?}: {}", ended.stdout);
        assert!(ended.stderr.contains("error"), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn without_a_context_verbs_say_how_to_get_one() {
    for args in [&["host", "list"][..], &["versions"], &["rollout", "list"], &["status"]] {
        let ended = windlass(args);
        assert!([2, 4].contains(&ended.code), "{args:?}: {}", ended.code);
        let ended = ended.says("hint:");
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

#[test]
fn a_missing_spec_says_how_to_write_one() {
    windlass(&["validate"]).expect(2).says("windlass.yaml");
    windlass(&["init", "--app", "web"]).expect(0);
}

#[test]
fn schema_is_json_schema() {
    let schema = windlass(&["schema"]).expect(0).json();
    assert!(schema["properties"]["app"].is_object(), "{schema}");
}

#[test]
fn every_program_says_its_version() {
    for name in ["windlass", "windlass-coordinator", "windlass-agent"] {
        let ended = run(Command::new(program(name)).arg("--version")).expect(0);
        assert_eq!(ended.stdout.trim(), format!("{name} {}", env!("CARGO_PKG_VERSION")));
    }
}
