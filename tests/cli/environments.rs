//! A spec with several environments, and who names none or a wrong one: nothing is sent anywhere.

use std::path::Path;
use std::process::Command;

use windlass_tests::programs::program;
use windlass_tests::run::{Ended, run};

const SPEC: &str = r#"apiVersion: windlass/v1
app: web
release:
  files: ./dist
  runtime: { kind: static }
rollout:
  targets: { selector: "role=app" }
environments:
  staging:    { rollout: { targets: { selector: "env=staging" } } }
  production: { rollout: { targets: { selector: "env=production" } } }
"#;

fn windlass(dir: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(program("windlass"));
    command.args(args).env("HOME", dir).env("NO_COLOR", "1").current_dir(dir);
    for name in ["WINDLASS_CONFIG", "WINDLASS_CONTEXT", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    run(&mut command)
}

#[test]
fn without_a_terminal_who_names_no_environment_is_told_which_there_are() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("dist")).unwrap();
    std::fs::write(dir.path().join("windlass.yaml"), SPEC).unwrap();
    for verb in ["plan", "deploy"] {
        let ended = windlass(dir.path(), &[verb, "--version", "1.0"]).expect(2);
        let ended = ended.says("which environment? windlass.yaml has staging, production");
        assert!(ended.stderr.contains("hint:  --env staging"), "{}", ended.stderr);
        let ended = windlass(dir.path(), &[verb, "--version", "1.0", "--env", "stagin"]).expect(2);
        let says = "windlass.yaml:8:1: environments: no environment \"stagin\", did you mean \"staging\"?; there are: staging, \
                    production";
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    }
    // To be checked as a whole it needs no choice.
    windlass(dir.path(), &["validate"]).expect(0);
}
