//! README's windlass.yaml is one that validates.

use std::process::Command;

use windlass_tests::programs::{program, root};
use windlass_tests::run::run;

#[test]
fn the_spec_in_the_readme_validates() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let spec = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("windlass.yaml"), spec).unwrap();
    std::fs::create_dir_all(dir.path().join("dist/bin")).unwrap();
    std::fs::write(dir.path().join("dist/bin/shop-api"), "#!/bin/sh\n").unwrap();
    let ended = run(Command::new(program("windlass")).arg("validate").current_dir(dir.path()));
    let ended = ended.expect(0);
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
}
