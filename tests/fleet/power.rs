//! Hosts that lose power or are rebooted, and agents that are upgraded, in the middle of nothing and of a trial.

use std::path::Path;
use std::time::{Duration, Instant};

use windlass_tests::app::App;
use windlass_tests::hosts::host::Host;
use windlass_tests::hosts::packages::deb;
use windlass_tests::hosts::{self, Fleet};
use windlass_tests::http::get;
use windlass_tests::report::measured;
use windlass_tests::run::Running;
use windlass_tests::wait::{pass, until};

const LIMIT: Duration = Duration::from_secs(90);

fn version(host: &Host) -> Option<String> {
    get(&host.address, 8080, "/")?.member("version")
}

fn serves(host: &Host, expected: &str) {
    until(&format!("{} serves {expected}", host.name), LIMIT, || (version(host)? == expected).then_some(()));
}

/// Rolls out and leaves the host in trial: the coordinator stands still before it can confirm.
fn into_trial(fleet: &Fleet, host: &Host, spec: &Path, version: &str) -> Running {
    let deploy = fleet.deploy_start(spec, version);
    until(&format!("{version} is being verified"), LIMIT, || {
        let newest = fleet.newest_rollout().filter(|rollout| rollout["to"]["version"] == version)?;
        let shown = fleet.json(&["rollout", "show", newest["id"].as_str()?]);
        (shown["hosts"][0]["phase"] == "verifying").then_some(())
    });
    fleet.coordinator().exec(&["systemctl", "kill", "--signal=STOP", "windlass-coordinator"]).expect(0);
    until(&format!("{version} is on trial"), LIMIT, || {
        host.inspect().to_string().contains("\"trial\"").then_some(())
    });
    deploy
}

fn go_on(fleet: &Fleet) {
    fleet.coordinator().exec(&["systemctl", "kill", "--signal=CONT", "windlass-coordinator"]).expect(0);
}

fn slow_to_confirm(kind: &str) -> App {
    let mut app = App::on_hosts(kind, 8080, kind);
    app.rollout =
        "  strategy: { max_parallel: 1, max_unavailable: 1, min_healthy_time: 4s, healthy_deadline: 60s, \
                   progress_deadline: 120s }\n  host: { confirm_timeout: 60s }\n"
            .into();
    app
}

#[test]
fn a_reboot_in_trial_boots_the_old_release_and_after_confirm_the_new_one_without_anybody() {
    let Some(fleet) = hosts::new().hosts(1).up() else { return };
    let host = fleet.host(1);
    let quick = App::on_hosts("systemd", 8080, "systemd");
    fleet.deploy(&quick.version("1.0"), "1.0").expect(0);
    serves(host, "1.0");

    // The power goes in trial. The old release is there before the agent has said a word.
    let slow = slow_to_confirm("systemd");
    let deploy = into_trial(&fleet, host, &slow.version("2.0"), "2.0");
    serves(host, "2.0");
    host.kill();
    go_on(&fleet);
    let booting = Instant::now();
    host.start();
    serves(host, "1.0");
    measured("from power to the application answering", booting.elapsed());
    let newest = fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned();
    fleet.windlass(&["rollout", "abort", &newest, "--yes"]);
    deploy.finish();
    until("the host says what it went back to", LIMIT, || {
        let row = fleet.versions("systemd").remove("host-1")?;
        (row["version"] == "1.0" && row["attested"]["ok"] == true).then_some(())
    });

    // Confirmed; then host and coordinator go down together, and only the host comes back, in good order and not.
    fleet.deploy(&quick.version("3.0"), "3.0").expect(0);
    serves(host, "3.0");
    fleet.coordinator().kill();
    host.reboot();
    serves(host, "3.0");
    host.exec(&["systemctl", "disable", "windlass-agent"]).expect(0);
    host.kill();
    let booting = Instant::now();
    host.start();
    serves(host, "3.0");
    measured("the same with neither agent nor coordinator", booting.elapsed());
    assert_ne!(host.exec(&["pidof", "windlass-agent"]).code, 0, "no agent runs");
    fleet.coordinator().start();
    host.exec(&["systemctl", "enable", "--now", "windlass-agent"]).expect(0);
    fleet.connected("host-1");
    fleet.deploy(&quick.version("4.0"), "4.0").expect(0);
    serves(host, "4.0");
}

#[test]
fn an_upgraded_agent_touches_no_application_in_the_middle_of_nothing_or_of_a_trial() {
    let Some(fleet) = hosts::new().hosts(2).up() else { return };
    // One host for each runtime.
    for (n, kind) in [(1, "systemd"), (2, "process")] {
        let host = fleet.host(n);
        fleet.windlass(&["host", "label", &host.name, &format!("kind={kind}")]).expect(0);
        let only = |app: &mut App| {
            app.rollout = format!("{}  targets: {{ selector: \"kind={kind}\" }}\n", app.rollout)
        };
        let spec = |app: &App, version: &str| {
            let path = app.version(version);
            let text = std::fs::read_to_string(&path).unwrap().replacen(
                "  targets: { selector: \"role=app\" }\n",
                "",
                1,
            );
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut app = App::on_hosts(kind, 8080, kind);
        only(&mut app);
        fleet.deploy(&spec(&app, "1.0"), "1.0").expect(0);
        let pid = || get(&host.address, 8080, "/").unwrap().member("pid").unwrap();
        let agent = || host.unit("windlass-agent", "MainPID");

        let (before, old_agent) = (pid(), agent());
        host.install(&deb("windlass-agent")).expect(0);
        fleet.connected(&host.name);
        assert_ne!(agent(), old_agent, "{kind}: the agent was restarted");
        assert_eq!(pid(), before, "{kind}: the application was not");

        let mut app = slow_to_confirm(kind);
        only(&mut app);
        let path = spec(&app, "2.0");
        let deploy = into_trial(&fleet, host, &path, "2.0");
        let before = pid();
        host.install(&deb("windlass-agent")).expect(0);
        go_on(&fleet);
        // Whoever watched may have given up on the coordinator; the rollout has not.
        deploy.finish();
        let newest = fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned();
        fleet.windlass(&["rollout", "watch", &newest]).expect(0);
        assert_eq!(pid(), before, "{kind}: confirmed with the process that the old agent started");
        assert_eq!(version(host).unwrap(), "2.0");
    }
}

#[test]
fn what_hangs_is_started_anew_and_no_application_notices() {
    let Some(fleet) = hosts::new().hosts(1).up() else { return };
    let host = fleet.host(1);
    fleet.deploy(&App::on_hosts("web", 8080, "process").version("1.0"), "1.0").expect(0);
    let pid = || get(&host.address, 8080, "/").unwrap().member("pid").unwrap();
    let before = pid();
    for (machine, unit) in [(host, "windlass-agent"), (fleet.coordinator(), "windlass-coordinator")] {
        // Sooner than the package says, and that it is fed in time is shown by its living on for so long.
        machine.write(
            &format!("/run/systemd/system/{unit}.service.d/soon.conf"),
            "[Service]\nWatchdogSec=4\nTimeoutAbortSec=2\n",
        );
        machine.shell(&format!("systemctl daemon-reload; systemctl restart {unit}")).expect(0);
        let first = machine.unit(unit, "MainPID");
        pass(Duration::from_secs(10));
        assert_eq!(machine.unit(unit, "MainPID"), first, "{unit} is fed");
        machine.exec(&["kill", "-STOP", &first]).expect(0);
        until(&format!("{unit} is started anew"), LIMIT, || {
            let now = machine.unit(unit, "MainPID");
            (now != first && now != "0").then_some(())
        });
    }
    fleet.connected(&host.name);
    assert_eq!(pid(), before);
}
