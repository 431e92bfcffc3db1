//! Hosts that are cut off in each phase of a deployment, a release that cuts its host off, and a coordinator that goes away.

use std::time::Duration;

use windlass_tests::app::App;
use windlass_tests::hosts::host::Host;
use windlass_tests::hosts::{self, Fleet};
use windlass_tests::http::get;
use windlass_tests::sample::is_long;
use windlass_tests::wait::{pass, until};

const LIMIT: Duration = Duration::from_secs(90);

/// How long the coordinator is away: ten minutes with WINDLASS_LONG set.
fn absence() -> Duration {
    Duration::from_secs(if is_long() { 600 } else { 45 })
}

/// The version, asked on the host itself, which may be cut off.
fn inside(host: &Host) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/{}/8080; printf 'GET / HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n' >&3; cat <&3",
        host.address
    );
    let answer = host.exec(&["bash", "-c", &script]).stdout;
    let version =
        answer.split("\"version\"").nth(1).and_then(|rest| rest.split('"').nth(1)).unwrap_or_default();
    version.to_owned()
}

fn in_phase(fleet: &Fleet, version: &str, phase: &str) -> String {
    until(&format!("{version} is {phase}"), LIMIT, || {
        let newest = fleet.newest_rollout().filter(|rollout| rollout["to"]["version"] == version)?;
        let id = newest["id"].as_str()?.to_owned();
        let shown = fleet.json(&["rollout", "show", &id]);
        shown["hosts"].as_array()?.iter().any(|host| host["phase"] == phase).then_some(id)
    })
}

fn app(confirm: &str, healthy: &str) -> App {
    let mut app = App::on_hosts("web", 8080, "systemd");
    app.drain = "{ delay: 200ms, timeout: 60s }".into();
    app.rollout = format!(
        "  strategy: {{ max_parallel: 1, max_unavailable: 1, min_healthy_time: {healthy}, healthy_deadline: 40s, \
         progress_deadline: 110s }}\n  host: {{ confirm_timeout: {confirm} }}\n"
    );
    app
}

#[test]
fn a_host_that_is_cut_off_ends_on_one_release_and_it_is_the_right_one() {
    let Some(fleet) = hosts::new().hosts(1).up() else { return };
    let host = fleet.host(1);
    let pid = || host.unit("windlass-app-web.service", "MainPID");
    fleet.deploy(&app("10s", "300ms").version("1.0"), "1.0").expect(0);
    let end = |id: &str, deploy: windlass_tests::run::Running| {
        host.reconnect();
        fleet.connected("host-1");
        fleet.windlass(&["rollout", "abort", id, "--yes"]);
        deploy.finish();
        until("nothing is under way", LIMIT, || {
            (fleet.newest_rollout()?["state"] != "rolling").then_some(())
        });
        let row = until("the host says what it runs", LIMIT, || {
            fleet.versions("web").remove("host-1").filter(|row| row["attested"]["ok"] == true)
        });
        row["version"].as_str().unwrap().to_owned()
    };

    // In drain, which somebody's request makes long: it goes back into traffic with the process that it had.
    let before = pid();
    let held = std::net::TcpStream::connect((host.address.as_str(), 8080)).unwrap();
    std::io::Write::write_all(&mut &held, b"GET /slow/90000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let second = app("10s", "300ms");
    let deploy = fleet.deploy_start(&second.version("2.0"), "2.0");
    let id = in_phase(&fleet, "2.0", "draining");
    host.cut_off();
    let ready = "/run/windlass/web/ready";
    until("it undrains alone", LIMIT, || (host.exec(&["test", "-e", ready]).code == 0).then_some(()));
    assert_eq!((pid(), inside(host)), (before, "1.0".to_owned()));
    drop(held);
    assert_eq!(end(&id, deploy), "1.0");

    // In trial, for which it must have been seen healthy for long enough: nobody confirms, and it goes back.
    let third = app("10s", "6s");
    let deploy = fleet.deploy_start(&third.version("3.0"), "3.0");
    let id = in_phase(&fleet, "3.0", "verifying");
    host.cut_off();
    until("it is on trial", LIMIT, || host.inspect().to_string().contains("\"trial\"").then_some(()));
    assert_eq!(inside(host), "3.0");
    until("it goes back alone", LIMIT, || (inside(host) == "1.0").then_some(()));
    assert_eq!(end(&id, deploy), "1.0");

    // The same when the whole host stood still for longer than the trial may take: it goes back before anybody is asked.
    let frozen = app("10s", "6s");
    let deploy = fleet.deploy_start(&frozen.version("3.1"), "3.1");
    let id = in_phase(&fleet, "3.1", "verifying");
    host.cut_off();
    until("it is on trial", LIMIT, || host.inspect().to_string().contains("\"trial\"").then_some(()));
    host.freeze();
    pass(Duration::from_secs(15));
    host.thaw();
    until("it goes back alone", Duration::from_secs(5), || (inside(host) == "1.0").then_some(()));
    assert_eq!(end(&id, deploy), "1.0");

    // After confirm: nothing, for as long as it lasts. One way only, as a broken firewall does it.
    fleet.deploy(&app("10s", "300ms").version("4.0"), "4.0").expect(0);
    let before = pid();
    host.cut_one_way(fleet.coordinator());
    pass(Duration::from_secs(25));
    host.heal();
    host.cut_off();
    pass(Duration::from_secs(15));
    assert_eq!((pid(), inside(host)), (before.clone(), "4.0".to_owned()));
    host.reconnect();
    fleet.connected("host-1");
    host.freeze();
    pass(Duration::from_secs(20));
    host.thaw();
    fleet.connected("host-1");
    assert_eq!((pid(), inside(host)), (before, "4.0".to_owned()));

    // A slow link is no reason to go back.
    host.slow_down(60);
    fleet.deploy(&app("30s", "300ms").version("5.0"), "5.0").expect(0);
    host.heal();
    assert_eq!(get(&host.address, 8080, "/").unwrap().member("version").unwrap(), "5.0");
}

#[test]
fn a_release_that_drops_the_way_to_the_coordinator_goes_back_by_itself() {
    let Some(fleet) = hosts::new().hosts(1).allow_root().up() else { return };
    let host = fleet.host(1);
    fleet.deploy(&app("10s", "300ms").version("1.0"), "1.0").expect(0);
    let coordinator = &fleet.coordinator().address;
    for (version, does, undo, seen_by, sign, cause) in [
        (
            "2.0",
            format!("ip route add blackhole {coordinator}/32"),
            format!("ip route del blackhole {coordinator}/32"),
            "ip route",
            "blackhole",
            "no route to",
        ),
        (
            "3.0",
            format!("iptables -I OUTPUT -d {coordinator} -j DROP"),
            format!("iptables -D OUTPUT -d {coordinator} -j DROP"),
            "iptables -S OUTPUT",
            "DROP",
            "own firewall lets nothing out",
        ),
    ] {
        let mut bad = app("10s", "300ms");
        bad.runtime = "    user: root\n".into();
        let deploy =
            fleet.deploy_start(&bad.configured(&format!("version={version}\nrun={does}\n")), version);
        until("it is on trial or beyond, without the coordinator", LIMIT, || {
            host.shell(seen_by).stdout.contains(sign).then_some(())
        });
        until("it goes back alone", LIMIT, || (inside(host) == "1.0").then_some(()));
        // What the release did stays; a person mends it, and is told why.
        host.shell(&undo).expect(0);
        deploy.finish().expect(3);
        fleet.connected("host-1");
        let why = until("the host tells", LIMIT, || {
            let why = fleet.json(&["why", "host-1"]);
            (why["fault"] == "app" && why["cause"].as_str()?.contains(cause)).then_some(why)
        });
        assert!(why["cause"].as_str().unwrap().contains("broke this host's network"), "{why}");
    }
}

#[test]
fn the_coordinators_host_dies_in_a_batch_and_stays_away_and_no_application_notices() {
    let Some(fleet) = hosts::new().up() else { return };
    let first = app("60s", "300ms");
    fleet.deploy(&first.version("1.0"), "1.0").expect(0);

    // Its power goes in the middle of the second batch; it comes back and goes on.
    let second = app("60s", "3s");
    let deploy = fleet.deploy_start(&second.version("2.0"), "2.0");
    until("the first host is done", LIMIT, || {
        fleet.says(8080).contains(&Some("2.0".to_owned())).then_some(())
    });
    in_phase(&fleet, "2.0", "verifying");
    fleet.coordinator().kill();
    fleet.coordinator().start();
    // Whoever watched lost the coordinator; the rollout has not.
    deploy.finish();
    let newest = until("the rollout goes on", LIMIT, || fleet.newest_rollout());
    fleet.windlass(&["rollout", "watch", newest["id"].as_str().unwrap()]).expect(0);
    fleet.serves(8080, "2.0");

    let pids = || -> Vec<String> {
        fleet
            .hosts()
            .iter()
            .map(|host| get(&host.address, 8080, "/").unwrap().member("pid").unwrap())
            .collect()
    };
    let before = pids();
    fleet.coordinator().kill();
    pass(absence());
    assert_eq!(pids(), before);
    fleet.coordinator().start();
    fleet.each(|host| fleet.connected(&host.name));
    assert_eq!(pids(), before);
    fleet.deploy(&first.version("3.0"), "3.0").expect(0);
    fleet.serves(8080, "3.0");
}
