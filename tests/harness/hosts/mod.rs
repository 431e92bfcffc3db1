//! A fleet of hosts that are hosts: containers in which systemd is PID 1, on a network of their own, with the packages
//! installed as an operator installs them. Needs root and Docker, which is installed and started where there is none.
//!
//! `hosts::new().hosts(3).up()` gives an enrolled fleet, or nothing where the test has to be skipped.
//!
//! * [`engine`] Docker and the hosts' image; [`packages`] the .debs; [`host`] what can befall a host.

pub mod engine;
pub mod host;
pub mod packages;

use std::fs::File;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::http::get;
use crate::operator::Operator;
use crate::report::measured;
use crate::wait::until;

use engine::{Engine, docker, image};
use host::Host;
use packages::deb;

/// A fleet to be.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    hosts: u32,
    disk: Option<u32>,
    allow_root: bool,
}

/// A fleet of three hosts and a coordinator's host, unless told otherwise.
pub const fn new() -> Order {
    Order { hosts: 3, disk: None, allow_root: false }
}

impl Order {
    /// So many hosts, besides the coordinator's.
    #[must_use]
    pub const fn hosts(self, hosts: u32) -> Self {
        Self { hosts, ..self }
    }

    /// Each host's /var/lib/windlass is a file system of its own, of so many MiB.
    #[must_use]
    pub const fn disk(self, mib: u32) -> Self {
        Self { disk: Some(mib), ..self }
    }

    /// Hosts let releases run as root.
    #[must_use]
    pub const fn allow_root(self) -> Self {
        Self { allow_root: true, ..self }
    }

    /// Boots the hosts; nothing is installed yet.
    pub fn boot(self) -> Option<Fleet> {
        if !packages::can_be_made() {
            return None;
        }
        // The cgroups, the memory and the processor are one machine's: one fleet at a time, and its engine with it.
        let turn = File::create(std::env::temp_dir().join("windlass-tests.hosts.lock")).unwrap();
        turn.lock().unwrap();
        let engine = Engine::start()?;
        let image = image();
        let dir = tempfile::Builder::new().prefix("wlh").tempdir().unwrap();
        let network = Network::new();
        let disks: Vec<Disk> = (0..self.hosts).filter_map(|_| self.disk).map(Disk::new).collect();
        let begun = Instant::now();
        let names: Vec<String> = (0..=self.hosts)
            .map(|n| if n == 0 { "coordinator".to_owned() } else { format!("host-{n}") })
            .collect();
        let all: Vec<Host> = std::thread::scope(|scope| {
            let boots: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(n, name)| {
                    let address = network.address(n);
                    let disk = n.checked_sub(1).and_then(|n| disks.get(n));
                    let (image, network) = (&image, &network.name);
                    scope.spawn(move || Host::boot(image, name, &address, network, disk))
                })
                .collect();
            boots.into_iter().map(|boot| boot.join().unwrap()).collect()
        });
        measured(&format!("boot of {} hosts", all.len()), begun.elapsed());
        let operator = Operator {
            config: dir.path().join("config.toml"),
            cli: packages::cli(&dir.path().join("cli")),
            env: Vec::new(),
        };
        Some(Fleet {
            operator,
            allow_root: self.allow_root,
            all,
            disks,
            dir,
            _network: network,
            _engine: engine,
            _turn: turn,
        })
    }

    /// Boots the hosts and makes a fleet of them, as the README says it.
    pub fn up(self) -> Option<Fleet> {
        let fleet = self.boot()?;
        fleet.found();
        let begun = Instant::now();
        fleet.each(|host| fleet.enrol(host));
        measured(
            &format!("{} hosts from dpkg --install to enrolled, side by side", self.hosts),
            begun.elapsed(),
        );
        Some(fleet)
    }
}

/// The hosts' network; removed, with all that is on it, when it goes out of scope.
#[derive(Debug)]
struct Network {
    name: String,
    prefix: String,
}

impl Network {
    fn new() -> Self {
        let pid = std::process::id();
        let name = format!("wl{pid}");
        // One of these is free on every machine but a very odd one.
        for n in 0..200 {
            let prefix = format!("10.213.{}", (pid + n) % 250);
            let subnet = format!("{prefix}.0/24");
            if docker(&["network", "create", "--label", "windlass-test", "--subnet", &subnet, &name]).code
                == 0
            {
                return Self { name, prefix };
            }
        }
        panic!("no free network in 10.213.0.0/16");
    }

    fn address(&self, n: usize) -> String {
        format!("{}.{}", self.prefix, 10 + n)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let own = docker(&["ps", "--all", "--quiet", "--filter", &format!("name=^{}-", self.name)]);
        for container in own.stdout.split_whitespace() {
            docker(&["rm", "--force", "--volumes", container]);
        }
        docker(&["network", "rm", &self.name]);
    }
}

/// A fleet that runs. An [`Operator`] on the machine that tests; gone when it goes out of scope.
#[derive(Debug)]
pub struct Fleet {
    operator: Operator,
    allow_root: bool,
    all: Vec<Host>,
    // In the order in which they have to go.
    _network: Network,
    disks: Vec<Disk>,
    dir: tempfile::TempDir,
    _engine: Engine,
    _turn: File,
}

impl Deref for Fleet {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.operator
    }
}

impl Fleet {
    /// The coordinator's host.
    pub fn coordinator(&self) -> &Host {
        &self.all[0]
    }

    /// The N-th host, from 1.
    pub fn host(&self, number: usize) -> &Host {
        &self.all[number]
    }

    /// All hosts but the coordinator's.
    pub fn hosts(&self) -> &[Host] {
        &self.all[1..]
    }

    /// The N-th host's disk, from 1.
    pub fn disk(&self, number: usize) -> &Disk {
        &self.disks[number - 1]
    }

    /// Does the same on every host at once.
    pub fn each(&self, work: impl Fn(&Host) + Sync) {
        std::thread::scope(|scope| {
            let work = &work;
            let all: Vec<_> = self.hosts().iter().map(|host| scope.spawn(move || work(host))).collect();
            // A thread that fails has said why.
            assert!(all.into_iter().map(std::thread::ScopedJoinHandle::join).all(|end| end.is_ok()));
        });
    }

    /// The coordinator, an operator's certificate, an author's key.
    pub fn found(&self) {
        let coordinator = self.coordinator();
        coordinator.install(&deb("windlass-coordinator")).expect(0);
        coordinator.write(
            "/etc/windlass/coordinator.toml",
            "fleet = \"test\"\noperator_listen = \"0.0.0.0:7444\"\n",
        );
        coordinator.exec(&["systemctl", "enable", "--now", "windlass-coordinator"]).expect(0);
        let state = "/var/lib/windlass-coordinator";
        let issue = [
            "windlass-coordinator",
            "issue-operator",
            "--state-dir",
            state,
            "--name",
            "ana",
            "--out",
            "/root/ana",
        ];
        coordinator.exec(&issue).expect(0);
        let ana = self.dir.path().join("ana");
        coordinator.copy_out("/root/ana", &ana);
        let address = format!("{}:7444", coordinator.address);
        self.windlass(&[
            "context",
            "add",
            "test",
            "--coordinator",
            &address,
            "--from",
            ana.to_str().unwrap(),
        ])
        .expect(0);
        self.windlass(&["key", "new", "ana"]).expect(0);
    }

    /// Installs the agent's package and makes the host part of the fleet by one command.
    pub fn enrol(&self, host: &Host) {
        host.install(&deb("windlass-agent")).expect(0);
        let token = self.windlass(&["token", "create", "--label", "role=app"]).expect(0).stdout;
        let coordinator = format!("{}:7443", self.coordinator().address);
        let key = self.author_key();
        let mut enrol = vec!["windlass-agent", "enrol", "--coordinator", &coordinator, "--author-key", &key];
        enrol.extend(self.allow_root.then_some("--allow-root"));
        host.feed(&token, &enrol).expect(0);
        self.connected(&host.name);
    }

    /// The author's public key.
    pub fn author_key(&self) -> String {
        self.json(&["key", "list"])["keys"][0]["public"].as_str().unwrap().to_owned()
    }

    /// Waits until a host has a session.
    pub fn connected(&self, name: &str) {
        until(&format!("{name} is connected"), Duration::from_secs(60), || {
            let list = self.windlass(&["host", "list", "-o", "json"]);
            let hosts = (list.code == 0).then(|| list.json())?["hosts"].as_array()?.clone();
            hosts.iter().any(|host| host["name"] == name && host["state"] == "ready").then_some(())
        });
    }

    /// What each host's app says of its version; `None` where nobody answers.
    pub fn says(&self, port: u16) -> Vec<Option<String>> {
        self.hosts().iter().map(|host| get(&host.address, port, "/")?.member("version")).collect()
    }

    /// Waits until every host's app says `version`.
    #[track_caller]
    pub fn serves(&self, port: u16, version: &str) {
        until(&format!("all hosts serve {version}"), Duration::from_secs(60), || {
            self.says(port).iter().all(|said| said.as_deref() == Some(version)).then_some(())
        });
    }
}

impl Drop for Fleet {
    #[allow(clippy::print_stderr, reason = "a failed test shows its hosts' logs")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in &self.all {
                let unit = if host.name == "coordinator" { "windlass-coordinator" } else { "windlass-agent" };
                eprintln!("--- {}\n{}", host.name, host.journal(unit, 40));
            }
        }
    }
}
