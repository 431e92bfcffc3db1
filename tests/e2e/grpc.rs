//! Others may talk to the coordinator too: a Python client that has nothing but server reflection.

use std::path::Path;
use std::process::Command;

use windlass_tests::fleet;
use windlass_tests::programs::root;
use windlass_tests::run::run;

/// A Python with grpcio and its reflection client: the one on the machine, else one made with pip.
fn python(dir: &Path) -> Option<std::path::PathBuf> {
    let has = |python: &Path| {
        let probe =
            "import grpc, grpc_reflection.v1alpha.proto_reflection_descriptor_database, grpc_health.v1";
        Command::new(python).args(["-c", probe]).output().is_ok_and(|output| output.status.success())
    };
    if has(Path::new("python3")) {
        return Some("python3".into());
    }
    let python = dir.join("venv/bin/python");
    let made = Command::new("python3").args(["-m", "venv"]).arg(dir.join("venv")).output().ok()?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]);
    let installed = pip.args(["grpcio", "grpcio-reflection", "grpcio-health-checking"]).output().ok()?;
    (made.status.success() && installed.status.success() && has(&python)).then_some(python)
}

#[test]
fn a_python_client_works_by_reflection() {
    let dir = tempfile::tempdir().unwrap();
    let Some(python) = python(dir.path()) else {
        assert!(std::env::var_os("CI").is_none(), "CI must have python3 with grpcio");
        windlass_tests::skip("no python3 with grpcio, and pip could not install it");
        return;
    };
    let fleet = fleet::new().hosts(2).up();
    let record = fleet.record();
    let mut client = Command::new(python);
    client.arg(root().join("tests/fixtures/reflect.py")).arg(fleet.dir());
    let ended = run(client.arg(record["coordinator"]["address"].as_str().unwrap())).expect(0);
    assert!(ended.stdout.contains("SERVING"), "{}", ended.stdout);
    assert!(ended.stdout.contains("hosts: host-1 host-2"), "{}", ended.stdout);
}
