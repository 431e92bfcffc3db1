//! What is the host's fault is blamed on the host, poisons nothing, and is over when it is mended.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use windlass_tests::agent::{Agent, Ways};
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;
use windlass_tests::wait::until;

/// A fleet whose hosts run apps as nobody; none where the tests are not root.
fn as_nobody(hosts: u32) -> Option<(Fleet, App)> {
    if !nix::unistd::Uid::effective().is_root() {
        return None;
    }
    let fleet = fleet::new().hosts(hosts).up();
    // Temporary directories are for their owner alone.
    set(fleet.dir(), 0o755);
    let mut app = App::new("web", free_port(hosts));
    app.runtime = "    user: nobody\n".into();
    Some((fleet, app))
}

fn set(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_directory_that_the_user_cannot_enter_is_the_hosts_fault_and_poisons_nothing() {
    let Some((fleet, app)) = as_nobody(2) else { return };
    let spec = app.version("1.0");
    let apps = fleet.all().into_iter().map(|host| host.state_dir.join("apps"));
    let apps: Vec<_> = apps.collect();
    apps.iter().for_each(|apps| set(apps, 0o700));
    let refused = fleet.deploy(&spec, "1.0").expect(3);
    let words = format!("user nobody cannot enter {} (0700)", apps[0].display());
    assert!(refused.stderr.contains(&words), "{words:?} is not in {}", refused.stderr);
    let why = fleet.windlass(&["why", "host-1", "-o", "json"]).expect(0).stdout;
    let why: serde_json::Value = serde_json::from_str(&why).unwrap();
    assert_eq!(why["fault"], "host", "{why}");
    // Again and again: it is nobody's poison.
    fleet.deploy(&spec, "1.0").expect(3);
    apps.iter().for_each(|apps| set(apps, 0o755));
    fleet.deploy(&spec, "1.0").expect(0);
    fleet.serves(app.port, "1.0");
    fleet.windlass(&["app", "parole", "web", "1.0", "--reason", "x"]).expect(7).says("needs no parole");
}

#[test]
fn an_agent_that_was_started_under_a_narrow_umask_makes_what_apps_can_reach() {
    let Some((fleet, app)) = as_nobody(1) else { return };
    let within = ["sh", "-c", "umask 077; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    let host = fleet.host(1);
    let agent = Agent::take(&fleet, 1, Ways { within, ..Ways::default() });
    until("a session", Duration::from_secs(20), || (agent.sessions_so_far() > 0).then_some(()));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.serves(app.port, "1.0");
    for shared in ["apps", "apps/web", "apps/web/releases", "apps/web/log"] {
        assert_eq!(mode(&host.state_dir.join(shared)), 0o755, "{shared}");
    }
    assert_eq!(mode(&host.run_dir().join("web/ready")), 0o644);
    // The app is stopped by an agent of the fleet's own.
    drop(agent);
    fleet.start();
}

#[test]
fn poison_is_not_passed_by_a_flag() {
    let fleet = fleet::new().hosts(1).up();
    let app = App::new("web", free_port(1));
    let spec = app.version("1.0");
    let spec = spec.to_str().unwrap();
    for set in ["failure.poison_after=99", "rollout.failure.poison_after=99", "failure={poison_after: 99}"] {
        let refused =
            fleet.windlass(&["deploy", "-f", spec, "--version", "1.0", "--set", set, "--yes"]).expect(2);
        let refused = refused.says("rollout.failure.poison_after").says("windlass app parole");
        assert!(refused.stderr.contains(set), "{}", refused.stderr);
    }
    fleet
        .windlass(&["plan", "-f", spec, "--version", "1.0", "--set", "failure={on_failure: pause}"])
        .expect(0);
}

#[test]
fn units_are_refused_by_plan_where_there_is_no_systemd() {
    if Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let fleet = fleet::new().hosts(2).up();
    let mut app = App::new("web", free_port(2));
    app.kind = "systemd".into();
    let spec = app.version("1.0");
    let words = "host-1, host-2: no systemd here that the agent can use; release.runtime.kind: process works";
    let path = spec.to_str().unwrap();
    let plan = fleet.windlass(&["plan", "-f", path, "--version", "1.0"]);
    assert_ne!(plan.code, 0);
    assert!(format!("{}{}", plan.stdout, plan.stderr).contains(words), "{}{}", plan.stdout, plan.stderr);
    let deploy = fleet.deploy(&spec, "1.0");
    assert_ne!(deploy.code, 0);
    deploy.says(words);
    let shown = fleet.windlass(&["host", "show", "host-1"]).expect(0).stdout;
    assert!(shown.contains("no apps"), "no host was touched: {shown}");
}
