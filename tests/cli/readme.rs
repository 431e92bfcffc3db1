//! README's windlass.yaml is one that validates.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use windlass_tests::programs::{self, root};
use windlass_tests::run::run;

#[test]
fn the_spec_in_the_readme_validates() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let spec = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("windlass.yaml"), spec).unwrap();
    std::fs::create_dir_all(dir.path().join("dist/bin")).unwrap();
    let program = dir.path().join("dist/bin/shop-api");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ended = run(Command::new(programs::program("windlass")).arg("validate").current_dir(dir.path()));
    let ended = ended.expect(0);
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
}
