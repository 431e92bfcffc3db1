//! A development fleet under test, taken down when it goes out of scope.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::http::get;
use crate::operator::Operator;
use crate::run::Ended;
use crate::wait::until;

/// A fleet to be.
#[derive(Debug, Clone)]
pub struct Order {
    hosts: u32,
    env: Vec<(String, String)>,
}

/// A fleet of three hosts, unless told otherwise.
pub const fn new() -> Order {
    Order { hosts: 3, env: Vec::new() }
}

impl Order {
    /// So many hosts.
    #[must_use]
    pub fn hosts(self, hosts: u32) -> Self {
        Self { hosts, ..self }
    }

    /// With this in the environment of all its programs, and of its operator.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts it in a temporary directory.
    pub fn up(self) -> Fleet {
        let dir = tempfile::Builder::new().prefix("wl").tempdir().unwrap();
        let operator = Operator { env: self.env, ..Operator::new(dir.path().join("config.toml")) };
        let fleet = Fleet { dir, operator, hosts: self.hosts };
        fleet.start();
        fleet.has_taken_in();
        fleet
    }
}

/// A fleet that runs.
#[derive(Debug)]
pub struct Fleet {
    dir: tempfile::TempDir,
    operator: Operator,
    /// How many hosts it has.
    pub hosts: u32,
}

impl Fleet {
    /// Starts what is not running.
    pub fn start(&self) -> Ended {
        let hosts = self.hosts.to_string();
        self.windlass(&["dev", "up", "--dir", self.path(), "--hosts", &hosts, "--detach"]).expect(0)
    }

    /// Waits until the certificates that were issued beside the coordinator are on record: no record comes by itself after that.
    #[track_caller]
    pub fn has_taken_in(&self) {
        let record = self.record();
        let issued = Path::new(record["coordinator"]["state_dir"].as_str().unwrap()).join("issued");
        until("issued certificates on record", Duration::from_secs(30), || {
            (std::fs::read_dir(&issued).ok()?.count() == 0).then_some(())
        });
    }

    /// Stops all of it.
    pub fn stop(&self) -> Ended {
        self.windlass(&["dev", "down", "--dir", self.path()])
    }

    /// The fleet's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    /// fleet.json.
    pub fn record(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.dir().join("fleet.json")).unwrap()).unwrap()
    }

    /// The coordinator's process id.
    pub fn coordinator_pid(&self) -> i32 {
        let pid = self.record()["coordinator"]["pid"].as_i64().expect("the coordinator runs");
        i32::try_from(pid).unwrap()
    }

    /// Kills the coordinator with SIGKILL and waits for its end.
    pub fn kill_coordinator(&self) {
        kill_hard(self.coordinator_pid());
    }

    /// The N-th host, from 1.
    pub fn host(&self, number: u32) -> Host {
        let record = self.record()["hosts"][number as usize - 1].clone();
        Host {
            name: record["name"].as_str().unwrap().into(),
            address: record["address"].as_str().unwrap().into(),
            state_dir: record["state_dir"].as_str().unwrap().into(),
            pid: record["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()),
        }
    }

    /// All hosts.
    pub fn all(&self) -> Vec<Host> {
        (1..=self.hosts).map(|number| self.host(number)).collect()
    }

    /// What each host's app says of its version; `None` where nobody answers.
    pub fn says(&self, port: u16) -> Vec<Option<String>> {
        self.all().iter().map(|host| get(&host.address, port, "/")?.member("version")).collect()
    }

    /// Waits until every host's app says `version`.
    #[track_caller]
    pub fn serves(&self, port: u16, version: &str) {
        let all = vec![Some(version.to_owned()); self.hosts as usize];
        until(&format!("all hosts serve {version}"), Duration::from_secs(60), || {
            (self.says(port) == all).then_some(())
        });
    }
}

impl Deref for Fleet {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.operator
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        let down = self.stop();
        if down.code != 0 && !std::thread::panicking() {
            panic!("dev down: {}", down.stderr);
        }
        unlock(self.dir());
    }
}

impl Fleet {
    #[allow(clippy::print_stderr, reason = "a failed test shows its fleet's logs")]
    fn show_logs(&self) {
        for entry in std::fs::read_dir(self.dir().join("logs")).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(25)..].join("\n");
            eprintln!("--- {}\n{tail}", entry.path().display());
        }
    }
}

/// One host as fleet.json has it.
#[derive(Debug, Clone)]
pub struct Host {
    /// `host-N`.
    pub name: String,
    /// What its apps bind.
    pub address: String,
    /// Its agent's state.
    pub state_dir: PathBuf,
    /// Its agent's process, when it runs.
    pub pid: Option<i32>,
}

impl Host {
    /// Its agent's run directory.
    pub fn run_dir(&self) -> PathBuf {
        self.state_dir.with_file_name("run")
    }

    /// Kills its agent with SIGKILL and waits for its end.
    pub fn kill(&self) {
        kill_hard(self.pid.expect("its agent runs"));
    }
}

/// SIGKILL; waits until the process is gone.
pub fn kill_hard(pid: i32) {
    // Already gone is as good.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    until(&format!("the end of process {pid}"), Duration::from_secs(10), || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}

/// Makes release directories writable, so that the temporary directory can be removed.
fn unlock(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock(&entry.path());
        }
    }
}
