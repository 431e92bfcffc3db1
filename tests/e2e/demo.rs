//! The first command of README.

use std::process::Command;

use windlass_tests::programs::program;
use windlass_tests::run::run;

#[test]
fn the_demo_keeps_every_promise_it_shows() {
    let temporary = tempfile::Builder::new().prefix("wd").tempdir().unwrap();
    let ended = run(Command::new(program("windlass")).arg("demo").env("TMPDIR", temporary.path()));
    let ended = ended.expect(0);
    for claim in ["all 5 hosts serve 4.0.0", "went back to 2.0.0 by themselves", "did not move"] {
        assert!(ended.stdout.contains(claim), "{claim:?} is not in\n{}", ended.stdout);
    }
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "the demo left {left:?}");
}
