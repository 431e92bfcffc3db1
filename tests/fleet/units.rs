//! The systemd runtime on one host: who starts what, how it ends, what is known of it, and what hooks leave behind.

use std::time::Duration;

use windlass_tests::app::App;
use windlass_tests::hosts::host::Host;
use windlass_tests::hosts::{self, Fleet};
use windlass_tests::http::get;
use windlass_tests::wait::until;

pub(crate) const UNIT: &str = "windlass-app-web.service";
const LIMIT: Duration = Duration::from_secs(40);

/// Waits until host-1 says that this process runs the release.
pub(crate) fn attested(fleet: &Fleet, pid: &str) {
    until(&format!("process {pid} is attested"), LIMIT, || {
        let row = fleet.versions("web").remove("host-1")?;
        (row["attested"]["ok"] == true && row["attested"]["pid"].as_u64() == pid.parse().ok()).then_some(())
    });
}

/// The app is killed while no agent runs: systemd starts it again, and the agent then finds it.
pub(crate) fn started_again_without_agent(fleet: &Fleet, host: &Host) {
    let pid = || host.unit(UNIT, "MainPID");
    host.exec(&["systemctl", "stop", "windlass-agent"]).expect(0);
    let before = pid();
    host.exec(&["kill", "-KILL", &before]).expect(0);
    until("systemd starts it again", LIMIT, || {
        (pid() != before && get(&host.address, 8080, "/")?.member("version")? == "1.0").then_some(())
    });
    host.exec(&["systemctl", "start", "windlass-agent"]).expect(0);
    attested(fleet, &pid());
}

#[test]
fn a_unit_lives_without_the_agent_and_the_agent_knows_what_became_of_it() {
    let Some(fleet) = hosts::new().hosts(1).allow_root().up() else { return };
    let host = fleet.host(1);
    let pid = || host.unit(UNIT, "MainPID");

    // What the application is told arrives as it was said.
    let mut app = App::on_hosts("web", 8080, "systemd");
    app.runtime +=
        "    env: { GREETING: 'say \"hi\" 100% $HOME \\\\ `x`', WHERE: \"{host.address}:{port.http}\" }\n";
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let environment = host
        .shell("tr '\\0' '\\n' < /proc/$(systemctl show --value -p MainPID windlass-app-web)/environ")
        .stdout;
    assert!(environment.contains("GREETING=say \"hi\" 100% $HOME \\\\ `x`\n"), "{environment}");
    assert!(environment.contains(&format!("WHERE={}:8080\n", host.address)), "{environment}");
    attested(&fleet, &pid());

    // Without an agent it is started again by systemd; the agent then finds it.
    started_again_without_agent(&fleet, host);
    // And where a person restarts it, too.
    host.exec(&["systemctl", "restart", UNIT]).expect(0);
    attested(&fleet, &pid());

    // What takes more memory than it may is ended by the kernel, and the host goes back and says so.
    let mut hungry = App::on_hosts("web", 8080, "systemd");
    hungry.runtime += "    resources: { memory_max: 64MiB }\n";
    let eat = "version=2.0\nlisten=never\neat_mib=400\n";
    fleet.deploy(&hungry.configured(eat), "2.0").expect(3);
    assert_eq!(get(&host.address, 8080, "/").unwrap().member("version").unwrap(), "1.0");
    let why = fleet.json(&["why", "host-1"]);
    assert!(why.to_string().contains("out of memory"), "{why}");

    // A unit of the bundle's own.
    let own = App::on_hosts("web", 8080, "systemd");
    let spec = own.version("3.0");
    // Whoever runs the tests may be nice, and what runs in a container then is, too.
    let inherited = host.unit(UNIT, "Nice");
    let nice = (inherited.parse::<i32>().unwrap() + 1).min(19);
    let unit = format!(
        "[Service]\nType=exec\nUser=www-data\nWorkingDirectory=/run/windlass/web/current\n\
         ExecStart=/run/windlass/web/current/app {}:8080 app.conf\nNice={nice}\n",
        host.address
    );
    std::fs::write(own.dir().join("files/web.service"), unit).unwrap();
    let text = std::fs::read_to_string(&spec).unwrap();
    let text: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("command:"))
        .map(|line| line.replace("    user: www-data", "    unit: web.service") + "\n")
        .collect();
    std::fs::write(&spec, text).unwrap();
    fleet.deploy(&spec, "3.0").expect(0);
    assert_eq!(host.unit(UNIT, "Nice"), nice.to_string());
    assert_eq!(get(&host.address, 8080, "/").unwrap().member("version").unwrap(), "3.0");
    attested(&fleet, &pid());
    fleet.windlass(&["rollback", "web", "--yes"]).expect(0);
    assert_eq!(host.unit(UNIT, "Nice"), inherited, "nothing of the own unit is left");
    attested(&fleet, &pid());

    // The host that does not allow root refuses it, and says what to change.
    let config = host.shell("sed -i 's/allow_root = true/allow_root = false/' /etc/windlass/agent.toml; systemctl restart windlass-agent");
    config.expect(0);
    fleet.connected("host-1");
    std::fs::write(own.dir().join("files/app.conf"), "version=4.0\n").unwrap();
    let refused = fleet.deploy(&spec, "4.0").expect(3);
    assert!(refused.stderr.contains("policy.allow_root"), "{}", refused.stderr);
    assert_eq!(get(&host.address, 8080, "/").unwrap().member("version").unwrap(), "1.0");
}

#[test]
fn hooks_are_units_that_leave_nothing_and_traffic_is_taken_away_and_counted() {
    let Some(fleet) = hosts::new().hosts(1).up() else { return };
    let host = fleet.host(1);
    // A load balancer of one file.
    host.write(
        "/usr/local/sbin/lb",
        "#!/bin/sh\ncase $1 in\n  in|out) echo $1 > /run/lb; echo \"$1 $WINDLASS_APP\" >> /run/lb.log;;\n  is-in) grep -q in /run/lb 2>/dev/null;;\nesac\n",
    );
    host.shell("chmod 755 /usr/local/sbin/lb").expect(0);
    let traffic = "\n[traffic]\ndriver = \"exec\"\ntake_out = [\"/usr/local/sbin/lb\", \"out\"]\nput_back = [\"/usr/local/sbin/lb\", \"in\"]\nis_in = [\"/usr/local/sbin/lb\", \"is-in\"]\n";
    let config = host.exec(&["cat", "/etc/windlass/agent.toml"]).stdout;
    host.write("/etc/windlass/agent.toml", &(config + traffic));
    host.exec(&["systemctl", "restart", "windlass-agent"]).expect(0);
    fleet.connected("host-1");

    let mut app = App::on_hosts("web", 8080, "systemd");
    app.release = "  hooks:\n    after_install: [ { run: [prepare], timeout: 5s } ]\n".into();
    app.drain = "{ delay: 200ms, timeout: 1s }".into();
    app.script(
        "prepare",
        "cat /proc/self/cgroup > $WINDLASS_DATA/cgroup; id -un; setsid sleep 1000 & echo prepared",
    );
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let cgroup = host.shell("cat /var/lib/windlass/apps/web/data/cgroup").stdout;
    assert!(cgroup.contains("/windlass-hook-"), "{cgroup}");
    assert_ne!(host.exec(&["pgrep", "-x", "sleep"]).code, 0, "what the hook began is gone");
    let left = host.shell("systemctl list-units --all --plain --no-legend 'windlass-hook-*'").stdout;
    assert_eq!(left.trim(), "", "its unit is gone");

    // One request outlives the drain, is cut and counted; the load balancer was told first and last.
    let mut held = std::net::TcpStream::connect((host.address.as_str(), 8080)).unwrap();
    std::io::Write::write_all(&mut held, b"GET /slow/50000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let second = app.configured("version=2.0\nterm=ignore\n");
    fleet.deploy(&second, "2.0").expect(0).says("1 connection was cut");
    assert_eq!(host.exec(&["cat", "/run/lb.log"]).stdout, "in web\nout web\nin web\n");

    // A hook that fails takes the host back, and its words are known.
    app.script("prepare", "echo no database; exit 3");
    let failed = fleet.deploy(&app.version("3.0"), "3.0").expect(3);
    assert!(failed.stderr.contains("no database"), "{}", failed.stderr);
    assert_eq!(get(&host.address, 8080, "/").unwrap().member("version").unwrap(), "2.0");
}
