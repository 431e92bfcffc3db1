//! What the author of a release, and an application that somebody broke into, can do on a host that does not allow root.

use std::process::Command;
use std::time::Duration;

use windlass_tests::app::App;
use windlass_tests::hosts;
use windlass_tests::http::get;
use windlass_tests::run::run;
use windlass_tests::wait::until;

use crate::units::{UNIT, attested, started_again_without_agent};

const LIMIT: Duration = Duration::from_secs(40);

/// Says who has loaded it: root where only root may write, the application in its own directory.
const LIBRARY: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void loaded(void) {
    const char *data = getenv("WINDLASS_DATA");
    int dir = open(data ? data : "/", O_RDONLY | O_DIRECTORY);
    close(open("/root/owned", O_CREAT | O_WRONLY, 0600));
    close(openat(dir, "loaded", O_CREAT | O_WRONLY, 0600));
    close(dir);
}
"#;

#[test]
fn an_author_is_not_root() {
    let Some(fleet) = hosts::new().hosts(1).up() else { return };
    let host = fleet.host(1);
    let pid = || host.unit(UNIT, "MainPID");
    let nobody_is_root = |when: &str| {
        assert_ne!(host.exec(&["test", "-e", "/root/owned"]).code, 0, "the author is root {when}");
    };

    let mut app = App::on_hosts("web", 8080, "systemd");
    let source = app.dir().join("library.c");
    std::fs::write(&source, LIBRARY).unwrap();
    let library = app.dir().join("files/library.so");
    let mut compiler = Command::new("cc");
    run(compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source)).expect(0);
    // Hooks and checks are the application's too.
    app.script("prepare", "exit 0");
    app.release = "  hooks:\n    after_install: [ { run: [prepare], timeout: 5s } ]\n  smoke: [ { exec: { command: [prepare] } } ]\n".into();
    let plain = app.runtime.clone();
    app.runtime +=
        "    env: { LD_PRELOAD: \"{release.dir}/library.so\", LD_LIBRARY_PATH: \"{data.dir}/lib\" }\n";
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    host.exec(&["test", "-e", "/var/lib/windlass/apps/web/data/loaded"]).expect(0);
    nobody_is_root("at the start");
    for command in ["ExecStartPre", "ExecStartPost", "ExecStop"] {
        assert_eq!(host.unit(UNIT, command), "", "nothing but the application runs in its unit");
    }

    // What runs is known all the same, also when systemd has started it again without an agent.
    attested(&fleet, &pid());
    started_again_without_agent(&fleet, host);
    nobody_is_root("when it is started again");

    // A unit as an earlier version of the agent wrote it is rewritten, and what runs in it goes on.
    let running = pid();
    let old = "printf '[Service]\\nExecStartPost=-+/bin/true\\n' >> /run/systemd/system/windlass-app-web.service; systemctl daemon-reload";
    host.shell(old).expect(0);
    assert_ne!(host.unit(UNIT, "ExecStartPost"), "");
    host.exec(&["systemctl", "restart", "windlass-agent"]).expect(0);
    until("the unit is rewritten", LIMIT, || host.unit(UNIT, "ExecStartPost").is_empty().then_some(()));
    assert_eq!(pid(), running);

    // How it ended is known, too, in the same words whether it ends while systemd still starts it or later; and nothing that it leaves behind makes anybody root on the way back.
    let why = |version: &str| {
        let failed = fleet.deploy(&app.configured(&format!("version={version}\ndie_after_ms=1\n")), version);
        assert_eq!(failed.code, 3, "{}", failed.stderr);
        fleet.json(&["why", "host-1"]).to_string()
    };
    let told = why("2.0");
    assert!(told.contains("exit code 7"), "{told}");
    assert_eq!(get(&host.address, 8080, "/").unwrap().member("version").unwrap(), "1.0");
    nobody_is_root("when it is stopped and goes back");

    // What systemd and the agent say of a unit cannot be said by its author.
    for name in ["MAINPID", "INVOCATION_ID", "NOTIFY_SOCKET", "WINDLASS_START"] {
        app.runtime = format!("{plain}    env: {{ {name}: \"1\" }}\n");
        let refused = fleet.deploy(&app.version("3.0"), "3.0");
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains(&format!("{name}: is set by")), "{}", refused.stderr);
    }
}
