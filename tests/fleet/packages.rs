//! What Debian users expect of packages: install, upgrade, remove, purge.

use std::path::Path;
use std::process::Command;

use windlass_tests::app::App;
use windlass_tests::hosts;
use windlass_tests::hosts::packages::{can_be_made, deb, rpm};
use windlass_tests::http::get;
use windlass_tests::needs;
use windlass_tests::report::skip;
use windlass_tests::run::{Ended, run};

#[test]
fn packages_install_upgrade_go_and_are_purged_and_no_application_goes_with_them() {
    let Some(fleet) = hosts::new().hosts(1).up() else { return };
    let host = fleet.host(1);
    host.install(&deb("windlass")).expect(0);
    for command in [
        "windlass --help",
        "windlass version --offline || windlass --version",
        "test -s /usr/share/man/man1/windlass.1.gz",
    ] {
        host.shell(command).expect(0);
    }
    let app = App::on_hosts("web", 8080, "process");
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let pid = || get(&host.address, 8080, "/").unwrap().member("pid").unwrap();
    let before = pid();
    let stays = |what: &str| assert_eq!(pid(), before, "the application outlives {what}");

    // A configuration that somebody has changed is theirs.
    host.install(&deb("windlass-agent")).expect(0);
    assert!(host.exec(&["cat", "/etc/windlass/agent.toml"]).stdout.contains("coordinators = ["));
    stays("an upgrade");

    host.exec(&["dpkg", "--remove", "windlass-agent"]).expect(0);
    assert_eq!(host.exec(&["test", "-e", "/etc/windlass/agent.toml"]).code, 0, "removed, not purged");
    assert_ne!(host.exec(&["pidof", "windlass-agent"]).code, 0);
    stays("the package's removal");
    host.install(&deb("windlass-agent")).expect(0);
    host.exec(&["systemctl", "start", "windlass-agent"]).expect(0);
    fleet.connected("host-1");
    stays("the package's return");

    let purged = host.exec(&["dpkg", "--purge", "windlass-agent"]).expect(0);
    assert!(purged.stderr.contains("/var/lib/windlass is left"), "{}", purged.stderr);
    stays("the purge");
    for gone in ["/etc/windlass/agent.toml", "/var/lib/windlass/identity", "/usr/bin/windlass-agent"] {
        assert_ne!(host.exec(&["test", "-e", gone]).code, 0, "{gone} is gone");
    }
    assert_eq!(host.exec(&["test", "-d", "/var/lib/windlass/apps/web"]).code, 0, "releases stay");

    let coordinator = fleet.coordinator();
    let purged = coordinator.exec(&["dpkg", "--purge", "windlass-coordinator"]).expect(0);
    assert!(purged.stderr.contains("is left with the fleet's certificates"), "{}", purged.stderr);
    assert_eq!(coordinator.exec(&["test", "-d", "/var/lib/windlass-coordinator"]).code, 0);

    // On a host that never ran anything, nothing is left.
    host.shell("pkill -x app; rm -rf /var/lib/windlass").expect(0);
    host.install(&deb("windlass-agent")).expect(0);
    host.exec(&["dpkg", "--purge", "windlass-agent"]).expect(0);
    assert_ne!(host.exec(&["test", "-e", "/var/lib/windlass"]).code, 0);
    let units = host.shell("systemctl list-unit-files --no-legend 'windlass-*'").stdout;
    assert_eq!(units.trim(), "", "no unit is left, masked or dangling");
}

#[test]
fn the_rpms_install_and_an_upgrade_leaves_the_configuration_alone() {
    if !can_be_made() || !needs::root_and(&[("rpm", "rpm")]) {
        return;
    }
    let rpms: Vec<_> =
        ["windlass", "windlass-agent", "windlass-coordinator"].into_iter().filter_map(rpm).collect();
    if rpms.len() < 3 {
        return skip("there are only .debs in WINDLASS_PACKAGES");
    }
    // There is no distribution of rpms to install them on: an empty root stands in, without scriptlets.
    let root = tempfile::tempdir().unwrap();
    let rpm = |args: &[&str], packages: &[std::path::PathBuf]| -> Ended {
        let mut rpm = Command::new("rpm");
        rpm.arg("--root").arg(root.path()).args(args).args(packages);
        run(&mut rpm).expect(0)
    };
    rpm(&["--install", "--nodeps", "--noscripts", "--nosignature"], &rpms);
    for program in ["windlass", "windlass-agent", "windlass-coordinator"] {
        run(Command::new(root.path().join("usr/bin").join(program)).arg("--version")).expect(0);
        let unit = root.path().join(format!("usr/lib/systemd/system/{program}.service"));
        assert_eq!(unit.is_file(), program != "windlass", "{}", unit.display());
    }
    let config = root.path().join("etc/windlass/agent.toml");
    let listed = rpm(&["--query", "--configfiles", "windlass-agent"], &[]);
    assert_eq!(listed.stdout.trim(), "/etc/windlass/agent.toml");
    std::fs::write(&config, "name = \"mine\"\n").unwrap();
    rpm(&["--upgrade", "--force", "--nodeps", "--noscripts", "--nosignature"], &rpms[1..2]);
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "name = \"mine\"\n");
    let scripts = rpm(&["--query", "--scripts", "windlass-agent"], &[]).stdout;
    assert!(scripts.contains("try-restart windlass-agent.service"), "{scripts}");
    rpm(&["--erase", "--noscripts", "windlass-agent"], &[]);
    assert!(!Path::new(&root.path().join("usr/bin/windlass-agent")).exists());
}
