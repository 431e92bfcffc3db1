//! Other users of a machine: what they can read of a host, and of a coordinator, tells no value of an app's environment.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use windlass_tests::app::App;
use windlass_tests::fleet;
use windlass_tests::http::free_port;
use windlass_tests::needs;
use windlass_tests::run::run;

/// Nobody, on Debian and elsewhere.
const OTHER: u32 = 65_534;
const VALUE: &str = "a-value-that-is-nobody-elses";

/// The value as files may hold it: as it is, and inside of base64 at each place that it can begin.
fn forms() -> Vec<String> {
    let base64 = |bytes: &[u8]| {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let three = bytes
            .chunks_exact(3)
            .map(|three| three.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)));
        three.flat_map(|all| [18, 12, 6, 0].map(|by| char::from(digits[all >> by & 63]))).collect::<String>()
    };
    let inside = (0..3).map(|skipped| base64(&VALUE.as_bytes()[skipped..]));
    inside.chain([VALUE.to_owned()]).collect()
}

/// What another user gets out of a directory: all that can be read, and what of it holds the value.
fn read_by_others(dir: &Path) -> (Vec<String>, Vec<String>) {
    let list = |command: &mut Command| {
        let ended = run(command.uid(OTHER).gid(OTHER).current_dir("/"));
        ended.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let readable = list(Command::new("find").arg(dir).args(["-type", "f", "-readable"]));
    let mut grep = Command::new("grep");
    grep.args(["--recursive", "--files-with-matches", "--text", "--no-messages", "--fixed-strings"]);
    for form in forms() {
        grep.arg("-e").arg(form);
    }
    (readable, list(grep.arg(dir)))
}

#[test]
fn values_of_an_apps_environment_are_read_by_no_other_user() {
    if !needs::root_and(&[("find", "findutils"), ("grep", "grep")]) {
        return;
    }
    let fleet = fleet::new().hosts(1).up();
    let mut app = App::new("web", free_port(1));
    app.runtime += &format!("    env: {{ TOKEN: {VALUE} }}\n");
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.deploy(&app.version("1.1"), "1.1").expect(0);
    app.runtime = app.runtime.replace("TOKEN:", "OTHER:");
    // One that fails leaves evidence behind.
    fleet.deploy(&app.configured("version=1.2\ncrash=yes\n"), "1.2").expect(3);
    // Above the state directories everything is as open as on a real host.
    std::fs::set_permissions(fleet.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();

    let (host, coordinator) = (fleet.dir().join("hosts"), fleet.dir().join("coordinator"));
    let (readable, telling) = read_by_others(&host);
    assert!(
        readable.iter().any(|path| path.ends_with("/tree/app")),
        "others run the app, so they can read it"
    );
    assert_eq!(telling, Vec::<String>::new());
    // Nothing at all is theirs of what a coordinator keeps, but where it listens.
    let (readable, _) = read_by_others(&coordinator);
    let more: Vec<_> = readable.iter().filter(|path| !path.ends_with("/addresses.json")).collect();
    assert_eq!(more, Vec::<&String>::new());
    // The search would find it: root does.
    let found = run(Command::new("grep").args(["--recursive", "--quiet", "--text", "-e", VALUE]).arg(&host));
    assert_eq!(found.code, 0, "the value is nowhere on the host");
}
