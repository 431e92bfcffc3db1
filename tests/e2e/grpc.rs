//! Others may talk to the coordinator too: a Python client that has nothing but server reflection.

use std::path::PathBuf;
use std::process::Command;

use windlass_tests::fleet;
use windlass_tests::needs;
use windlass_tests::programs::root;
use windlass_tests::report::skip;
use windlass_tests::run::run;

/// A Python with grpcio, its reflection client and its health client.
fn python() -> Option<PathBuf> {
    let python = needs::tool("python")?;
    let probe = "import grpc, grpc_reflection.v1alpha.proto_reflection_descriptor_database, grpc_health.v1";
    let has = Command::new(&python).args(["-c", probe]).output().is_ok_and(|output| output.status.success());
    if !has {
        skip(&format!("{} has no grpcio; run cargo guard setup", python.display()));
    }
    has.then_some(python)
}

#[test]
fn a_python_client_works_by_reflection() {
    let Some(python) = python() else { return };
    let fleet = fleet::new().hosts(2).up();
    let record = fleet.record();
    let mut client = Command::new(python);
    client.arg(root().join("tests/fixtures/reflect.py")).arg(fleet.dir());
    let ended = run(client.arg(record["coordinator"]["address"].as_str().unwrap())).expect(0);
    assert!(ended.stdout.contains("SERVING"), "{}", ended.stdout);
    assert!(ended.stdout.contains("hosts: host-1 host-2"), "{}", ended.stdout);
}
