//! A host whose disk is full to the last byte, and whose clock jumps, in the middle of a deployment.

use std::path::Path;
use std::time::Duration;

use windlass_tests::app::App;
use windlass_tests::hosts::{self, Fleet};
use windlass_tests::http::get;
use windlass_tests::run::Running;
use windlass_tests::wait::{pass, until};

const LIMIT: Duration = Duration::from_secs(60);

const DAY: i64 = 24 * 60 * 60;

fn serves(fleet: &Fleet, version: &str) {
    until(&format!("the host serves {version} and says so"), LIMIT, || {
        let answer = get(&fleet.host(1).address, 8080, "/")?.member("version")?;
        let row = fleet.versions("web").remove("host-1")?;
        (answer == version && row["version"] == version && row["attested"]["ok"] == true).then_some(())
    });
}

/// Rolls out until the new release is being verified.
fn into_verifying(fleet: &Fleet, spec: &Path, version: &str) -> Running {
    let deploy = fleet.deploy_start(spec, version);
    until(&format!("{version} is being verified"), LIMIT, || {
        let newest = fleet.newest_rollout().filter(|rollout| rollout["to"]["version"] == version)?;
        let shown = fleet.json(&["rollout", "show", newest["id"].as_str()?]);
        (shown["hosts"][0]["phase"] == "verifying").then_some(())
    });
    deploy
}

#[test]
fn with_no_byte_left_the_host_goes_back_and_says_so_and_a_jumping_clock_changes_nothing() {
    let Some(fleet) = hosts::new().hosts(1).disk(192).up() else { return };
    let (host, disk) = (fleet.host(1), fleet.disk(1));
    let mut app = App::on_hosts("web", 8080, "systemd");
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    serves(&fleet, "1.0");

    // Without room for a release nothing is touched, and it is said what to do.
    disk.fill();
    let refused = fleet.deploy(&app.version("2.0"), "2.0");
    // Whether plan or host refuses depends on when the host has told last how much is free.
    assert!(matches!(refused.code, 1 | 3) && refused.stderr.contains("needs"), "{}", refused.stderr);
    serves(&fleet, "1.0");
    disk.make_room();

    // Full while the new release is verified, which then fails; the agent is even started again without a byte.
    app.rollout =
        "  strategy: { max_parallel: 1, max_unavailable: 1, min_healthy_time: 8s, healthy_deadline: 60s, \
                   progress_deadline: 120s }\n  host: { confirm_timeout: 60s }\n"
            .into();
    let deploy = into_verifying(&fleet, &app.configured("version=2.1\nhealthy_for_ms=5000\n"), "2.1");
    disk.fill();
    assert!(disk.free() < 256 * 1024, "full");
    host.exec(&["systemctl", "restart", "windlass-agent"]).expect(0);
    deploy.finish().expect(3);
    serves(&fleet, "1.0");
    assert!(disk.free() < 2 << 20, "the way back takes no room and waits for none");
    disk.make_room();

    // Years forwards and back while a release is verified.
    host.jump_clock(0);
    fleet.connected("host-1");
    let deploy = into_verifying(&fleet, &app.version("3.0"), "3.0");
    for seconds in [3650 * DAY, -3650 * DAY, 5, -5, 0] {
        host.jump_clock(seconds);
        pass(Duration::from_millis(500));
    }
    deploy.finish().expect(0);
    serves(&fleet, "3.0");
}
