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
fn an_unchanged_file_is_neither_sent_again_nor_shared_with_who_could_write_it() {
    let fleet = fleet::new().hosts(1).up();
    let app = App::new("web", free_port(1));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let before = current(&fleet.host(1), "web", "app");
    let spec = app.version("1.1");
    fleet.deploy(&spec, "1.1").expect(0);
    let after = current(&fleet.host(1), "web", "app");
    // Applications of a development fleet are their files' owner.
    assert_ne!(before.ino(), after.ino(), "what one release writes must not be in another");
    assert_eq!(after.mode() & 0o7777, 0o555);
    let log = std::fs::read_to_string(fleet.dir().join("logs/host-1.log")).unwrap();
    let staged = log.lines().rfind(|line| line.contains("release staged")).unwrap();
    let number =
        |name: &str| staged.split(name).nth(1).unwrap().split(' ').next().unwrap().parse::<u64>().unwrap();
    assert!(number("bytes_reused=") > 100_000 && number("bytes_fetched=") < 10_000, "{staged}");
    fleet.serves(app.port, "1.1");
}

#[test]
fn a_plan_changes_nothing_and_may_be_made_again_after_an_edit() {
    let fleet = fleet::new().hosts(2).up();
    let app = App::new("web", free_port(2));
    let file = app.dir().join("web.wlb");
    let bundles = || fleet.json(&["bundle", "list"])["bundles"].as_array().unwrap().len();
    let plan = |what: &[&str]| {
        let spec = app.dir().join("windlass.yaml");
        let args = [&["plan", "-f", spec.to_str().unwrap(), "-o", "json"], what].concat();
        fleet.windlass(&args).expect(0).json()
    };
    let mut digests = std::collections::BTreeSet::new();
    for lines in ["version=1.0\n", "version=1.0\nedited=once\n"] {
        app.configured(lines);
        let planned = plan(&["--version", "1.0"]);
        assert!(planned["bytes_to_send"].as_u64().unwrap() > 0, "{planned}");
        digests.insert(planned["to"]["digest"].to_string());
    }
    assert_eq!(digests.len(), 2, "each plan is of the files as they are");
    build(&fleet, &app, &file).expect(0);
    assert_eq!(plan(&["--bundle", file.to_str().unwrap()])["to"]["counter"], 7);
    assert_eq!(bundles(), 0, "a plan registers nothing");
    assert_eq!(fleet.newest_rollout(), None);

    let path = app.version("1.0");
    let planned = plan(&["--version", "1.0"]);
    fleet.deploy(&path, "1.0").expect(0);
    let stored = fleet.json(&["bundle", "list"])["bundles"][0].clone();
    assert_eq!(stored["digest"], planned["to"]["digest"], "what was planned is what was deployed");

    let spec = app.configured("version=1.1\n");
    let next = plan(&["--version", "1.1"])["bytes_to_send"].as_u64().unwrap();
    assert!((1..1024).contains(&next), "only the changed file is sent, not {next} bytes");
    let args = ["plan", "-f", spec.to_str().unwrap(), "--version", "1.0"];
    fleet.windlass(&args).expect(7).says("other contents");
    let digest = stored["digest"].as_str().unwrap();
    assert_eq!(plan(&["--bundle", digest])["bytes_to_send"], 0);
    assert_eq!(bundles(), 1);
}

#[test]
fn a_plan_shows_what_changes_and_no_secret() {
    let fleet = fleet::new().hosts(1).up();
    let mut app = App::new("web", free_port(1));
    app.runtime = "    env: { LOG_LEVEL: info, DB_PASSWORD: hunter1 }\n".into();
    let spec = app.version("1.0");
    let plan = |version: &str, more: &[&str]| {
        let args = [&["plan", "-f", spec.to_str().unwrap(), "--version", version], more].concat();
        fleet.windlass(&args).expect(0)
    };
    let first = plan("1.0", &[]).stdout;
    assert!(first.contains("first release: there is nothing"), "{first}");
    assert_eq!(plan("1.0", &["-o", "json"]).json()["changes"], serde_json::json!([]));
    fleet.deploy(&spec, "1.0").expect(0);

    app.runtime = "    env: { LOG_LEVEL: debug, DB_PASSWORD: hunter2 }\n".into();
    app.drain = "{ timeout: 2s }".into();
    app.script("prepare", "true");
    app.release = "  hooks: { before_install: [{ run: [prepare], timeout: 5s }] }\n".into();
    app.version("2.0");
    let text = plan("2.0", &[]).stdout;
    for line in [
        "~ release.runtime.env.LOG_LEVEL: info -> debug",
        "~ release.runtime.env.DB_PASSWORD: (hidden) -> (hidden)",
        "~ release.drain.timeout: 1s -> 2s",
        "+ release.hooks.before_install.0.run: prepare",
        "1 file added (15 B), 1 file changed (12 B)",
        "+ files/prepare: 15 bytes",
        "~ files/app.conf: 12 bytes",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    let json = plan("2.0", &["-o", "json"]).json();
    let changed =
        json["changes"].as_array().unwrap().iter().find(|it| it["path"] == "release.runtime.env.LOG_LEVEL");
    assert_eq!(
        changed.unwrap(),
        &serde_json::json!({"path": "release.runtime.env.LOG_LEVEL", "from": "info", "to": "debug"})
    );
    let hook = json["changes"].as_array().unwrap().iter().find(|it| it["path"] == "files/prepare");
    assert_eq!(hook.unwrap()["from"], serde_json::Value::Null);
    assert_eq!(json["files_added"], serde_json::json!({"files": 1, "bytes": 15}));
    assert!(!(text + &json.to_string()).contains("hunter"), "a secret is shown");
}
