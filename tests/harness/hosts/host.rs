//! One host: a container in which systemd is PID 1, and what can befall it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::engine::docker;
use crate::disk::Disk;
use crate::run::{Ended, run};
use crate::wait::until;

/// Longest that a host may take to boot on a machine that is busy.
const BOOT: Duration = Duration::from_secs(60);

/// What makes a container a host: systemd mounts, root has a network of its own and sees what others' processes have open.
const LIKE_A_MACHINE: [&str; 12] = [
    "--cap-add=SYS_ADMIN",
    "--cap-add=NET_ADMIN",
    "--cap-add=SYS_PTRACE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--cgroupns=host",
    "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
    "--tmpfs=/run",
    "--tmpfs=/tmp",
    "--env=container=docker",
    "--stop-signal=SIGRTMIN+3",
    "--label=windlass-test",
];

/// A host of a test fleet.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its host name.
    pub name: String,
    /// Its address on the fleet's network.
    pub address: String,
    /// Its container.
    pub container: String,
}

impl Host {
    /// Creates and boots it.
    pub(super) fn boot(image: &str, name: &str, address: &str, network: &str, disk: Option<&Disk>) -> Self {
        let container = format!("{network}-{name}");
        let host = Self { name: name.into(), address: address.into(), container };
        let mut run = vec!["run", "--detach", "--name", &host.container, "--hostname", name];
        run.extend(["--network", network, "--ip", address]);
        run.extend(LIKE_A_MACHINE);
        let volume = disk.map(|disk| format!("{}:/var/lib/windlass", disk.path().display()));
        run.extend(volume.iter().flat_map(|volume| ["--volume", volume]));
        run.push(image);
        docker(&run).expect(0);
        host.is_up();
        host
    }

    /// Waits until systemd has started all that it starts at boot.
    pub fn is_up(&self) {
        until(&format!("{} is up", self.name), BOOT, || {
            let state = self.exec(&["systemctl", "is-system-running"]).stdout;
            ["running", "degraded"].contains(&state.trim()).then_some(())
        });
    }

    /// Runs a command there, as root.
    pub fn exec(&self, command: &[&str]) -> Ended {
        run(&mut self.command(command))
    }

    /// The same with a shell.
    pub fn shell(&self, script: &str) -> Ended {
        self.exec(&["sh", "-c", script])
    }

    /// A command there, to be started.
    pub fn command(&self, command: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.args(["exec", &self.container]).args(command);
        docker
    }

    /// Runs a command there, with this on its standard input.
    pub fn feed(&self, input: &str, command: &[&str]) -> Ended {
        let mut docker = Command::new("docker");
        docker.args(["exec", "--interactive", &self.container]).args(command);
        let line = format!("{docker:?}");
        let mut child =
            docker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ended { command: line, code: output.status.code().unwrap_or(-1), stdout, stderr }
    }

    /// Copies a file or directory there.
    pub fn copy_in(&self, from: &Path, to: &str) {
        docker(&["cp", from.to_str().unwrap(), &format!("{}:{to}", self.container)]).expect(0);
    }

    /// Copies a file or directory from there.
    pub fn copy_out(&self, from: &str, to: &Path) {
        docker(&["cp", &format!("{}:{from}", self.container), to.to_str().unwrap()]).expect(0);
    }

    /// Writes a file there.
    pub fn write(&self, path: &str, content: &str) {
        self.feed(content, &["sh", "-c", "mkdir -p \"$(dirname \"$0\")\" && cat > \"$0\"", path]).expect(0);
    }

    /// Installs a package of Debian's format with its maintainer scripts.
    pub fn install(&self, deb: &Path) -> Ended {
        self.copy_in(deb, "/var/tmp/");
        let file = format!("/var/tmp/{}", deb.file_name().unwrap().to_str().unwrap());
        self.exec(&["dpkg", "--install", &file])
    }

    /// Pulls its cable: nothing comes in or goes out, and its addresses stay as they are.
    pub fn cut_off(&self) {
        self.cable("down");
    }

    /// Puts the cable back.
    pub fn reconnect(&self) {
        self.cable("up");
    }

    fn cable(&self, state: &str) {
        let number = self.exec(&["cat", "/sys/class/net/eth0/iflink"]).expect(0).stdout;
        let all = std::fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().path());
        let is_other_end = |path: &std::path::PathBuf| {
            std::fs::read_to_string(path.join("ifindex")).is_ok_and(|index| index.trim() == number.trim())
        };
        let other_end = all.into_iter().find(is_other_end).unwrap();
        let name = other_end.file_name().unwrap().to_str().unwrap();
        run(Command::new("ip").args(["link", "set", "dev", name, state])).expect(0);
    }

    /// What it sends to `other` is lost on the way; what comes from there arrives.
    pub fn cut_one_way(&self, other: &Self) {
        self.exec(&["iptables", "-A", "OUTPUT", "-d", &other.address, "-j", "DROP"]).expect(0);
    }

    /// At most so many packets a second arrive, the others are lost.
    pub fn slow_down(&self, packets: u32) {
        let rate = format!("{packets}/s");
        self.exec(&[
            "iptables",
            "-A",
            "INPUT",
            "-m",
            "limit",
            "--limit",
            &rate,
            "--limit-burst",
            "5",
            "-j",
            "ACCEPT",
        ])
        .expect(0);
        self.exec(&["iptables", "-A", "INPUT", "-j", "DROP"]).expect(0);
    }

    /// Ends [`Host::cut_one_way`] and [`Host::slow_down`].
    pub fn heal(&self) {
        self.exec(&["iptables", "-F"]).expect(0);
    }

    /// Stands still, as a host that is suspended, until [`Host::thaw`].
    pub fn freeze(&self) {
        docker(&["pause", &self.container]).expect(0);
    }

    /// Goes on where it stood still.
    pub fn thaw(&self) {
        docker(&["unpause", &self.container]).expect(0);
    }

    /// The power cut: everything there ends at once.
    pub fn kill(&self) {
        docker(&["kill", &self.container]).expect(0);
    }

    /// Starts it again after [`Host::kill`]; another boot.
    pub fn start(&self) {
        docker(&["start", &self.container]).expect(0);
    }

    /// An orderly reboot, as somebody types it; returns when it is up.
    pub fn reboot(&self) {
        self.exec(&["systemctl", "reboot"]);
        until(&format!("{} is down", self.name), Duration::from_secs(100), || {
            let state = docker(&["inspect", "--format", "{{.State.Running}}", &self.container]);
            (state.stdout.trim() == "false").then_some(())
        });
        self.start();
        self.is_up();
    }

    /// From now on its agent's wall clock is off by so many seconds, and `systemctl` follows the true one. Restarts the agent
    /// the first time.
    pub fn jump_clock(&self, seconds: i64) {
        let library =
            self.shell("ls /usr/lib/*/faketime/libfaketime.so.1").expect(0).stdout.trim().to_owned();
        self.write("/run/faketime", &format!("{seconds:+}\n"));
        let unit = "/run/systemd/system/windlass-agent.service.d/clock.conf";
        if self.exec(&["test", "-e", unit]).code != 0 {
            let text = format!(
                "[Service]\nEnvironment=LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE=/run/faketime FAKETIME_NO_CACHE=1 \
                 FAKETIME_DONT_FAKE_MONOTONIC=1\n"
            );
            self.write(unit, &text);
            self.shell("systemctl daemon-reload; systemctl restart windlass-agent").expect(0);
        }
    }

    /// The last lines that a unit wrote.
    pub fn journal(&self, unit: &str, lines: u32) -> String {
        self.exec(&[
            "journalctl",
            "--no-pager",
            "--output",
            "short-monotonic",
            "--unit",
            unit,
            "--lines",
            &lines.to_string(),
        ])
        .stdout
    }

    /// A property of a unit.
    pub fn unit(&self, unit: &str, property: &str) -> String {
        self.exec(&["systemctl", "show", "--value", "--property", property, unit]).stdout.trim().to_owned()
    }

    /// `windlass-agent inspect --json`: what the agent there says of itself.
    pub fn inspect(&self) -> Value {
        self.exec(&["windlass-agent", "inspect", "--json"]).expect(0).json()
    }
}
