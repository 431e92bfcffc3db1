//! The fork: coordinators that are started from copies of one state (DESIGN 12). Whatever such a copy does, hosts obey none of
//! its orders once they have obeyed its original further, and the original leads on as if nothing had happened.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use windlass_tests::agent::{Agent, Ways};
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;
use windlass_tests::programs::program;
use windlass_tests::run::run;
use windlass_tests::wait::until;

/// A coordinator that the test runs on some state; killed when it goes out of scope.
pub(crate) struct Coordinator {
    child: Child,
    log: PathBuf,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Coordinator {
    /// Waits for its end by itself; the exit code.
    #[track_caller]
    fn ends(&mut self) -> Option<i32> {
        until("the coordinator's end", Duration::from_secs(40), || self.child.try_wait().unwrap()).code()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

pub(crate) fn state_of(fleet: &Fleet) -> PathBuf {
    fleet.record()["coordinator"]["state_dir"].as_str().unwrap().into()
}

/// A copy of a state beside it.
pub(crate) fn copy(state: &Path, name: &str) -> PathBuf {
    let to = state.with_file_name(name);
    run(Command::new("cp").arg("-a").arg(state).arg(&to)).expect(0);
    to
}

/// Where the fleet's hosts and operators look for their coordinator.
pub(crate) struct Door {
    agents: String,
    operators: String,
}

impl Door {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let text = std::fs::read(state_of(fleet).join("addresses.json")).unwrap();
        let addresses: Value = serde_json::from_slice(&text).unwrap();
        let address = |who: &str| addresses[who].as_str().unwrap().to_owned();
        Self { agents: address("agent"), operators: address("operator") }
    }

    /// Where nobody looks.
    fn away() -> Self {
        Self { agents: "127.0.0.1:0".into(), operators: "127.0.0.1:0".into() }
    }
}

/// Starts a coordinator on a state and waits until it listens, or has ended.
pub(crate) fn lead(state: &Path, Door { agents, operators }: &Door, more: &[&str]) -> Coordinator {
    let log = state.with_extension("log");
    let mut command = Command::new(program("windlass-coordinator"));
    command.args(["run", "--fleet", "dev", "--agent-listen", agents, "--operator-listen", operators]);
    command.arg("--state-dir").arg(state).args(more).stdin(Stdio::null()).stdout(Stdio::null());
    let child =
        command.stderr(File::options().create(true).append(true).open(&log).unwrap()).spawn().unwrap();
    let mut coordinator = Coordinator { child, log };
    until("the coordinator listens, or has ended", Duration::from_secs(20), || {
        let text = std::fs::read(state.join("addresses.json")).ok()?;
        let addresses: Value = serde_json::from_slice(&text).ok()?;
        let listens = addresses["pid"] == coordinator.child.id();
        (listens || coordinator.child.try_wait().unwrap().is_some()).then_some(())
    });
    coordinator
}

/// Starts a coordinator where no host finds it, so that all it does is to raise the epoch.
fn start_away(state: &Path) {
    drop(lead(state, &Door::away(), &[]));
}

/// Which hosts are in this state, as the coordinator has it.
fn hosts_in(fleet: &Fleet, state: &str) -> BTreeSet<String> {
    let list = fleet.windlass(&["host", "list", "-o", "json"]);
    if list.code != 0 {
        return BTreeSet::new();
    }
    let list = list.json();
    let hosts = list["hosts"].as_array().unwrap().iter().filter(|host| host["state"] == state);
    hosts.map(|host| host["name"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn all_are(fleet: &Fleet, state: &str) {
    until(&format!("all hosts are {state}"), Duration::from_secs(60), || {
        (hosts_in(fleet, state).len() == fleet.hosts as usize).then_some(())
    });
}

/// What each host's agent has done in its whole life, by its log.
fn phases(fleet: &Fleet) -> Vec<usize> {
    let of = |host: &fleet::Host| {
        let logs = ["log", "test.log"].map(|end| fleet.dir().join(format!("logs/{}.{end}", host.name)));
        let texts = logs.iter().map(|log| std::fs::read_to_string(log).unwrap_or_default());
        texts.map(|text| text.matches(" phase=").count()).sum()
    };
    fleet.all().iter().map(of).collect()
}

#[track_caller]
fn serve(fleet: &Fleet, app: &App, hosts: &[u32], version: &str) {
    until(&format!("hosts {hosts:?} serve {version}"), Duration::from_secs(60), || {
        let says = fleet.says(app.port);
        hosts.iter().all(|host| says[*host as usize - 1].as_deref() == Some(version)).then_some(())
    });
}

/// An app's spec and a deployed version.
fn deployed(fleet: &Fleet, version: &str) -> App {
    let app = App::new("web", free_port(fleet.hosts));
    fleet.deploy(&app.version(version), version).expect(0);
    app
}

#[test]
fn a_copy_of_the_state_is_obeyed_by_nobody_and_the_original_leads_on() {
    let fleet = fleet::new().hosts(3).up();
    let app = deployed(&fleet, "1.0");
    let (state, door) = (state_of(&fleet), Door::of(&fleet));
    fleet.kill_coordinator();
    let old = copy(&state, "old");
    // The original is started twice, which makes its epoch 3, and moves all hosts on.
    start_away(&state);
    let original = lead(&state, &door, &[]);
    all_are(&fleet, "ready");
    fleet.deploy(&app.version("2.0"), "2.0").expect(0);
    fleet.serves(app.port, "2.0");
    drop(original);
    let before = phases(&fleet);

    // Started once and twice, the copy leads a lower and an equal epoch: the first host that it meets shows it the signature of
    // the other leader, and it never leads again.
    for (starts, name) in [(1, "lower"), (2, "equal")] {
        let copied = copy(&old, name);
        (1..starts).for_each(|_| start_away(&copied));
        let mut deposed = lead(&copied, &door, &[]);
        assert_eq!(deposed.ends(), Some(2), "{name}: {}", deposed.log());
        let mut again = lead(&copied, &door, &[]);
        assert_eq!(again.ends(), Some(2), "{name}: {}", again.log());
        assert!(again.log().contains("error: this coordinator is deposed: host host-"), "{}", again.log());
        assert!(again.log().contains("--after-restore"), "{}", again.log());
    }

    // Started again and again, it leads a higher one. It leads no host, says so, and starts nothing.
    let copied = copy(&old, "higher");
    (0..3).for_each(|_| start_away(&copied));
    let forked = lead(&copied, &door, &[]);
    all_are(&fleet, "foreign");
    let shown = fleet.windlass(&["host", "show", "host-2"]).expect(0);
    assert!(shown.stdout.contains("not led"), "{}", shown.stdout);
    assert!(shown.stdout.contains("it has obeyed epoch 3 of leader "), "{}", shown.stdout);
    let refused = fleet.deploy(&app.version("1.1"), "1.1");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("host-1, host-2, host-3: obeys another coordinator"),
        "{}",
        refused.stderr
    );
    let refused = fleet.windlass(&["rollback", "web", "--yes"]);
    assert_ne!(refused.code, 0, "{}", refused.stderr);
    drop(forked);
    assert_eq!(phases(&fleet), before, "no host has done anything");
    fleet.serves(app.port, "2.0");

    // Hosts that met all of them obey the original as before.
    let _original = lead(&state, &door, &[]);
    all_are(&fleet, "ready");
    fleet.deploy(&app.version("3.0"), "3.0").expect(0);
    fleet.serves(app.port, "3.0");
}

#[test]
fn a_copy_of_a_running_coordinators_state_has_its_fence_and_leads_nobody_all_the_same() {
    let fleet = fleet::new().hosts(2).up();
    let app = deployed(&fleet, "1.0");
    let (state, door) = (state_of(&fleet), Door::of(&fleet));
    let pid = Pid::from_raw(fleet.coordinator_pid());
    kill(pid, Signal::SIGSTOP).unwrap();
    let copied = copy(&state, "copied");
    kill(pid, Signal::SIGCONT).unwrap();
    fleet.deploy(&app.version("2.0"), "2.0").expect(0);
    let mut agent = Agent::take(&fleet, 1, Ways::default());
    fleet.kill_coordinator();
    let before = phases(&fleet);
    let _forked = lead(&copied, &door, &[]);
    all_are(&fleet, "foreign");
    let refused = fleet.windlass(&["plan", "-f", app.version("1.1").to_str().unwrap(), "--version", "1.1"]);
    assert!(refused.stdout.contains("host-1, host-2: obeys another coordinator"), "{}", refused.stdout);
    assert_eq!(phases(&fleet), before, "no host has done anything");
    fleet.serves(app.port, "2.0");

    // Root on a host can have it obey whoever leads now. The others stay as they are.
    let reset = |host: &fleet::Host| {
        let mut command = Command::new(program("windlass-agent"));
        run(command.arg("reset-fence").arg("--state-dir").arg(&host.state_dir))
    };
    let refused = reset(&agent.host).expect(1);
    assert!(refused.stderr.contains("stop it first"), "{}", refused.stderr);
    agent.program.kill();
    let done = reset(&agent.host).expect(0);
    assert!(done.stdout.contains("had obeyed epoch 1 of leader"), "{}", done.stdout);
    agent.program.restart();
    until("host-1 is led", Duration::from_secs(40), || {
        hosts_in(&fleet, "ready").contains("host-1").then_some(())
    });
    assert!(hosts_in(&fleet, "foreign").contains("host-2"));
    fleet.serves(app.port, "2.0");
}

#[test]
fn after_a_restore_everybody_is_led_again_also_hosts_that_return_later() {
    let fleet = fleet::new().hosts(3).up();
    let app = deployed(&fleet, "1.0");
    let (state, door) = (state_of(&fleet), Door::of(&fleet));
    fleet.kill_coordinator();
    let backup = copy(&state, "backup");
    let original = lead(&state, &door, &[]);
    all_are(&fleet, "ready");
    fleet.deploy(&app.version("2.0"), "2.0").expect(0);
    let mut third = Agent::take(&fleet, 3, Ways::default());
    third.program.kill();
    drop(original);

    // What is lost is lost: the backup leads, above what any host has obeyed.
    let restored = lead(&backup, &door, &["--after-restore"]);
    until("two hosts are led", Duration::from_secs(60), || {
        (hosts_in(&fleet, "ready").len() == 2).then_some(())
    });
    serve(&fleet, &app, &[1, 2], "2.0");
    let third_silent = || hosts_in(&fleet, "silent").contains("host-3").then_some(());
    until("host-3 is silent", Duration::from_secs(40), third_silent);
    fleet.deploy(&app.version("3.0"), "3.0").expect(0);
    serve(&fleet, &app, &[1, 2], "3.0");
    drop(restored);

    // An ordinary start later, the host that was away returns.
    let restored = lead(&backup, &door, &[]);
    third.program.restart();
    all_are(&fleet, "ready");
    fleet.deploy(&app.version("4.0"), "4.0").expect(0);
    fleet.serves(app.port, "4.0");
    let events = fleet.json(&["events"]).to_string();
    assert!(events.contains("host.taken_in"), "{events}");
    drop(restored);

    // And what was given up stays given up, when somebody finds its disk again.
    let mut found = lead(&state, &door, &[]);
    assert_eq!(found.ends(), Some(2), "{}", found.log());
    fleet.serves(app.port, "4.0");
}
