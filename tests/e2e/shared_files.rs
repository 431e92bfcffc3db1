//! A release that may write what it likes does not take the way back with it.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;

/// An application whose program first does what `lines` say, as the agent's own user.
fn doing(app: &App, lines: &str) {
    app.script("app", &format!("here=$(dirname \"$0\")\n{lines}\nexec \"$here/srv\" \"$@\""));
}

fn app() -> App {
    let app = App::new("web", free_port(1));
    std::fs::rename(app.dir().join("files/app"), app.dir().join("files/srv")).unwrap();
    std::fs::write(app.dir().join("files/shared.txt"), "as it was signed\n").unwrap();
    doing(&app, "");
    app
}

/// The file of the release that is confirmed.
fn shared(fleet: &Fleet) -> PathBuf {
    fleet.host(1).state_dir.join("apps/web/confirmed/tree/shared.txt")
}

fn state(fleet: &Fleet) -> String {
    fleet.newest_rollout().unwrap()["state"].as_str().unwrap().to_owned()
}

#[test]
fn what_a_release_writes_into_its_files_is_in_no_other_release() {
    let fleet = fleet::new().hosts(1).up();
    let app = app();
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let before = std::fs::metadata(shared(&fleet)).unwrap().ino();
    doing(&app, "chmod u+w \"$here/shared.txt\"; echo spoilt >> \"$here/shared.txt\"");
    fleet.deploy(&app.configured("version=1.1\nready=no\n"), "1.1").expect(3);
    fleet.serves(app.port, "1.0");
    assert_eq!(state(&fleet), "RolledBack");
    assert_eq!(std::fs::read_to_string(shared(&fleet)).unwrap(), "as it was signed\n");
    assert_eq!(std::fs::metadata(shared(&fleet)).unwrap().ino(), before);
}

#[test]
fn a_way_back_that_is_damaged_is_fetched_again() {
    let fleet = fleet::new().hosts(1).up();
    let app = app();
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let before = std::fs::metadata(shared(&fleet)).unwrap().ino();
    doing(
        &app,
        "for file in \"$here\"/../../*/tree/shared.txt; do chmod u+w \"$file\"; echo spoilt >> \"$file\"; done",
    );
    let failed = fleet.deploy(&app.configured("version=1.1\nready=no\n"), "1.1").expect(3);
    fleet.serves(app.port, "1.0");
    assert_eq!(state(&fleet), "RolledBack", "{}", failed.stderr);
    assert_eq!(std::fs::read_to_string(shared(&fleet)).unwrap(), "as it was signed\n");
    assert_ne!(std::fs::metadata(shared(&fleet)).unwrap().ino(), before, "it was written again");
    // And it is a release like any other: the next one is built on it.
    doing(&app, "");
    fleet.deploy(&app.version("1.2"), "1.2").expect(0);
    fleet.serves(app.port, "1.2");
}
