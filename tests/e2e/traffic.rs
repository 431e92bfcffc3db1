//! A fleet behind a real load balancer, under load: no request is lost where the host tells it, and some are where it does not.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use windlass_tests::agent::{Agent, Ways};
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::{free_port, get};
use windlass_tests::needs;
use windlass_tests::run::Ended;
use windlass_tests::wait::until;

const HOSTS: u32 = 3;

/// HAProxy before the hosts of a fleet, without health checks and without second tries: what it does is what it is told.
struct Balancer {
    dir: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Balancer {
    fn start(fleet: &Fleet, app: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("wl").tempdir().unwrap();
        let port = free_port(1);
        let server = |host: &fleet::Host| format!("  server {} {}:{app}\n", host.name, host.address);
        let config = format!(
            "global\n  stats socket {}/sock mode 600 level admin\ndefaults\n  mode http\n  retries 0\n  timeout connect 1s\n  \
             timeout client 10s\n  timeout server 10s\nfrontend in\n  bind 127.0.0.1:{port}\n  default_backend web\n\
             backend web\n  balance roundrobin\n{}",
            dir.path().display(),
            fleet.all().iter().map(server).collect::<String>()
        );
        let path = dir.path().join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("haproxy");
        command
            .arg("-db")
            .arg("-f")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A user's PATH has no sbin.
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let process = command.spawn().unwrap();
        let balancer = Self { dir, port, process };
        until("the load balancer answers", Duration::from_secs(10), || get("127.0.0.1", port, "/").map(drop));
        balancer
    }

    /// The host's command that steers it, as an operations team would write it.
    fn script(&self) -> PathBuf {
        let text = format!(
            "#!/bin/sh\nsay() {{ echo \"$1\" | socat -t 5 - UNIX-CONNECT:{}/sock; }}\ncase $1 in\n\
             out) say \"set server web/$WINDLASS_HOST state drain\" ;;\n\
             in) say \"set server web/$WINDLASS_HOST state ready\" ;;\n\
             is-in) case $(say 'show stat' | awk -F, -v host=\"$WINDLASS_HOST\" '$1 == \"web\" && $2 == host {{ print $18 }}') in\n\
             'no check'|UP*) exit 0 ;; DRAIN|MAINT) exit 1 ;; *) exit 2 ;; esac ;;\nesac\n",
            self.dir.path().display()
        );
        let path = self.dir.path().join("lb");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Requests without a pause while `work` goes on: how many there were, and how many got no right answer.
    fn under_load(&self, work: impl FnOnce() -> Ended) -> (Ended, u32, u32) {
        let (stop, all, failed) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
        let ended = std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let good = get("127.0.0.1", self.port, "/slow/20")
                            .is_some_and(|answer| answer.status == 200);
                        all.fetch_add(1, Ordering::Relaxed);
                        failed.fetch_add(u32::from(!good), Ordering::Relaxed);
                    }
                });
            }
            let ended = work();
            stop.store(true, Ordering::Relaxed);
            ended
        });
        (ended, all.into_inner(), failed.into_inner())
    }
}

fn settings(script: &Path) -> String {
    let command = |what: &str| format!("[{:?}, {what:?}]", script.display().to_string());
    let (out, back, is_in) = (command("out"), command("in"), command("is-in"));
    format!(
        "[traffic]\ndriver = 'exec'\ntake_out = {out}\nput_back = {back}\nis_in = {is_in}\ntimeout = '5s'\n"
    )
}

fn pids(fleet: &Fleet) -> Vec<serde_json::Value> {
    fleet.versions("web").into_values().map(|row| row["attested"]["pid"].clone()).collect()
}

#[test]
#[allow(clippy::print_stderr, reason = "the counts are worth seeing")]
fn no_request_is_lost_where_the_load_balancer_is_told_and_some_are_where_it_is_not() {
    if !needs::programs(&[("haproxy", "haproxy"), ("socat", "socat")]) {
        return;
    }
    let fleet = fleet::new().hosts(HOSTS).up();
    let mut app = App::new("web", free_port(HOSTS));
    app.rollout =
        "  strategy: { max_parallel: 1, max_unavailable: 1, min_healthy_time: 500ms, healthy_deadline: 30s, \
                   progress_deadline: 60s }\n  host: { confirm_timeout: 10s }\n"
            .into();
    fleet.deploy(&app.version("1"), "1").expect(0);
    let balancer = Balancer::start(&fleet, app.port);

    let (ended, all, failed) = balancer.under_load(|| fleet.deploy(&app.version("2"), "2"));
    ended.expect(0);
    eprintln!("untold: {failed} of {all} requests failed");
    assert!(failed > 0, "the twin that tells nobody must lose requests, or this test shows nothing");

    let settings = settings(&balancer.script());
    let agents: Vec<Agent> = (1..=HOSTS)
        .map(|n| Agent::take(&fleet, n, Ways { settings: settings.clone(), ..Ways::default() }))
        .collect();
    let (ended, all, failed) = balancer.under_load(|| fleet.deploy(&app.version("3"), "3"));
    ended.expect(0);
    eprintln!("told: {failed} of {all} requests failed");
    assert_eq!(failed, 0, "of {all}");
    assert!(all > 100, "{all}");
    fleet.serves(app.port, "3");

    // A load balancer that does not answer: the host stays as it is and says whose fault that is.
    let before = pids(&fleet);
    drop(balancer);
    let refused = fleet.deploy(&app.version("4"), "4").expect(3);
    assert!(refused.stderr.contains("traffic.take_out of agent.toml"), "{}", refused.stderr);
    let why = fleet.json(&["why", fleet.newest_rollout().unwrap()["id"].as_str().unwrap()]);
    assert_eq!(why["fault"], "host", "{why}");
    assert_eq!(pids(&fleet), before);
    drop(agents);
}
