//! What is not what its author signed is nobody's success.

use std::path::{Path, PathBuf};

use windlass_tests::app::App;
use windlass_tests::fleet;
use windlass_tests::http::free_port;

/// All chunks that a coordinator stores.
fn chunks(state: &Path) -> Vec<PathBuf> {
    let prefixes = std::fs::read_dir(state.join("objects/chunks")).into_iter().flatten().flatten();
    prefixes
        .flat_map(|prefix| std::fs::read_dir(prefix.path()).unwrap().flatten())
        .map(|entry| entry.path())
        .collect()
}

#[test]
fn a_release_that_arrives_damaged_everywhere_has_not_succeeded() {
    let fleet = fleet::new().hosts(2).up();
    let app = App::new("web", free_port(2));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let coordinator = fleet.dir().join("coordinator");
    let before = chunks(&coordinator);

    let spec = app.version("1.1");
    let file = app.dir().join("web.wlb");
    let (dir, out) = (app.dir().to_str().unwrap(), file.to_str().unwrap());
    fleet.windlass(&["bundle", "build", dir, "--version", "1.1", "--counter", "2", "--out", out]).expect(0);
    let digest = fleet.windlass(&["bundle", "push", out]).expect(0).stdout;
    let new: Vec<PathBuf> =
        chunks(&coordinator).into_iter().filter(|chunk| !before.contains(chunk)).collect();
    assert!(!new.is_empty());
    // A right frame of another content: a disk that mixed two files up, or somebody.
    for chunk in &new {
        std::fs::copy(&before[0], chunk).unwrap();
    }

    let ended =
        fleet.windlass(&["deploy", "-f", spec.to_str().unwrap(), "--bundle", digest.trim()]).expect(3);
    ended.says("is damaged where it came from");
    fleet.serves(app.port, "1.0");
    let rollout = fleet.newest_rollout().unwrap();
    let rollout = fleet.json(&["rollout", "show", rollout["id"].as_str().unwrap()]);
    assert_eq!(rollout["state"], "Failed", "{rollout}");
    let failed: Vec<_> =
        rollout["hosts"].as_array().unwrap().iter().filter(|host| host["outcome"] == "failed").collect();
    assert!(!failed.is_empty() && failed.iter().all(|host| host["fault"] == "policy"), "{rollout}");
}
