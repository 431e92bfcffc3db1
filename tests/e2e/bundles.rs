//! Bundles through the CLI: the same input gives the same bytes, what is unsafe is refused, unchanged files are not sent again.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet, Host};
use windlass_tests::http::free_port;

fn build(fleet: &Fleet, app: &App, out: &Path) -> windlass_tests::run::Ended {
    let (dir, out) = (app.dir().to_str().unwrap(), out.to_str().unwrap());
    fleet.windlass(&["bundle", "build", dir, "--version", "1.0", "--counter", "7", "--out", out])
}

#[test]
fn the_same_input_gives_the_same_bytes_and_a_changed_byte_is_found() {
    let fleet = fleet::new().hosts(1).up();
    let app = App::new("web", free_port(1));
    app.version("1.0");
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first.wlb"), dir.path().join("second.wlb"));
    build(&fleet, &app, &first).expect(0);
    // Times of files are not part of a release.
    let executable = app.dir().join("files/app");
    std::fs::File::options()
        .write(true)
        .open(&executable)
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    build(&fleet, &app, &second).expect(0);
    let mut bytes = std::fs::read(&first).unwrap();
    assert!(bytes == std::fs::read(&second).unwrap(), "two builds of one input differ");

    let file = first.to_str().unwrap();
    let good = bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&first, &bytes).unwrap();
    for verb in ["verify", "push"] {
        let refused = fleet.windlass(&["bundle", verb, file]);
        assert_ne!(refused.code, 0, "{verb}");
        assert!(refused.stderr.contains("error:"), "{}", refused.stderr);
    }
    std::fs::write(&first, &good).unwrap();
    fleet.windlass(&["bundle", "verify", file]).expect(0);
    fleet.windlass(&["bundle", "push", file]).expect(0);
    fleet.windlass(&["bundle", "push", file]).expect(0);
    std::fs::write(&first, &bytes[..middle]).unwrap();
    assert_ne!(fleet.windlass(&["bundle", "verify", file]).code, 0, "truncated");
}

#[test]
fn what_could_leave_the_release_directory_is_refused_when_building() {
    let fleet = fleet::new().hosts(1).up();
    let app = App::new("web", free_port(1));
    app.version("1.0");
    let out = app.dir().join("out.wlb");
    let files = app.dir().join("files");
    let refused = |name: &str, path: PathBuf| {
        let ended = build(&fleet, &app, &out);
        assert_ne!(ended.code, 0, "{name} was accepted");
        assert!(ended.stderr.contains(name), "{name} is not named: {}", ended.stderr);
        assert!(!out.exists(), "{name}: a bundle was left");
        std::fs::remove_file(path).unwrap();
    };
    for (name, target) in [("outward", "../../etc/passwd"), ("absolute", "/etc/passwd")] {
        std::os::unix::fs::symlink(target, files.join(name)).unwrap();
        refused(name, files.join(name));
    }
    nix::unistd::mkfifo(&files.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    refused("pipe", files.join("pipe"));
    std::fs::write(files.join("setuid"), "x").unwrap();
    std::fs::set_permissions(files.join("setuid"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    refused("setuid", files.join("setuid"));
    std::os::unix::fs::symlink("app", files.join("inside")).unwrap();
    build(&fleet, &app, &out).expect(0);
}

/// The file `name` of the release that a host runs.
fn current(host: &Host, app: &str, name: &str) -> std::fs::Metadata {
    let link = host.state_dir.join("apps").join(app).join("confirmed");
    std::fs::metadata(link.join("tree").join(name)).unwrap()
}

#[test]
fn an_unchanged_file_is_the_same_file_in_the_next_release() {
    let fleet = fleet::new().hosts(1).up();
    let app = App::new("web", free_port(1));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let before = current(&fleet.host(1), "web", "app");
    fleet.deploy(&app.version("1.1"), "1.1").expect(0);
    let after = current(&fleet.host(1), "web", "app");
    assert_eq!(before.ino(), after.ino(), "the executable did not change and is linked, not fetched");
    assert_eq!(after.mode() & 0o7777, 0o555);
    fleet.serves(app.port, "1.1");
}
