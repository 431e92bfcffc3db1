//! The process runtime with real processes: started under the real shim, stopped, found again.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use windlass_agent::attest::attest;
use windlass_agent::config::HostPolicy;
use windlass_agent::processes::{self, ProcessId};
use windlass_agent::runtime::kill::members;
use windlass_agent::runtime::process::{ProcessRuntime, exited, find, in_words};
use windlass_agent::runtime::{HostContext, Launch, Runtime as _, RuntimeError};
use windlass_agent::shim::log;
use windlass_agent::shim::log::last_lines;
use windlass_agent::shim::order::{Order, RunDir, Started};
use windlass_proto::digest::Digest;
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::{Drain, Probes, ReleaseSpec, Resources, Runtime, Stop};
use windlass_proto::time::Span;

/// A directory for one test; whatever still runs of its application at the end is killed.
struct Place {
    dir: tempfile::TempDir,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(started) = self.run().read_started() {
            for member in members(&started) {
                windlass_agent::runtime::kill::signal(member.id, Signal::SIGKILL);
            }
        }
    }
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        Self { dir }
    }

    fn run(&self) -> RunDir {
        RunDir(self.dir.path().join("run"))
    }

    fn launch(&self, script: &str, grace: Span) -> Launch {
        let path = self.dir.path().join("tree/app");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Launch {
            release: ReleaseRef {
                app: "shop".parse().unwrap(),
                version: "1.0".parse().unwrap(),
                digest: Digest::from_bytes([1; 32]),
                counter: 1,
            },
            spec: ReleaseSpec {
                files: String::new(),
                runtime: Runtime::Process {
                    command: vec!["app".into(), "{host.address}:{port.http}".into()],
                    user: None,
                    env: [("COLOUR".parse().unwrap(), "blue on {host.name}".to_owned())].into(),
                    resources: None,
                },
                ports: [("http".to_owned(), 1)].into(),
                probes: Probes::default(),
                smoke: vec![],
                drain: Drain::default(),
                stop: Stop { signal: "SIGTERM".into(), grace },
                hooks: Default::default(),
            },
            dir: self.dir.path().join("tree"),
            run: self.run(),
            logs: self.dir.path().join("log"),
            data: self.dir.path().join("data"),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("tree").join(name)
    }
}

fn runtime() -> ProcessRuntime {
    let host = HostContext {
        name: "host-1".parse().unwrap(),
        address: [127, 0, 0, 1].into(),
        labels: Default::default(),
        policy: HostPolicy {
            author_keys: vec![],
            threshold: 1,
            apps: vec!["*".into()],
            allow_root: true,
            users: vec![],
        },
    };
    ProcessRuntime::new(host, env!("CARGO_BIN_EXE_windlass-agent").into())
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn read_id(path: &Path) -> Option<ProcessId> {
    ProcessId::of(fs::read_to_string(path).ok()?.trim().parse().ok()?)
}

#[tokio::test]
async fn an_application_runs_away_from_the_agent() {
    let place = Place::new();
    let launch = place.launch(
        "env; echo \"args $*\"; pwd; echo mine > \"$WINDLASS_DATA/file\"; echo done; exec sleep 1000",
        Span::secs(5),
    );
    let started = runtime().start(&launch).await.unwrap().unwrap();
    let stat = started.app.stat().unwrap();
    assert_eq!(
        (stat.parent, stat.group, stat.session),
        (started.shim().unwrap().pid, started.app.pid, started.shim().unwrap().pid)
    );
    let shim = started.shim().unwrap().stat().unwrap();
    assert_ne!(shim.parent, std::process::id());
    assert_eq!(started.app.cwd().unwrap(), launch.dir.canonicalize().unwrap());

    let blocked = |id: ProcessId| {
        let status = fs::read_to_string(format!("/proc/{}/status", id.pid)).unwrap();
        let mask = status.lines().find_map(|l| l.strip_prefix("SigBlk:")).unwrap().trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap()
    };
    let terminate = 1 << (Signal::SIGTERM as i32 - 1);
    // A shell blocks all signals for the moment in which it starts a command.
    until("no signal is blocked", || blocked(started.app) == 0).await;
    assert_eq!(blocked(started.shim().unwrap()) & terminate, terminate);

    until("output", || last_lines(started.log.as_deref().unwrap(), 1, 100) == ["done"]).await;
    let output = last_lines(started.log.as_deref().unwrap(), 100, 10_000);
    for line in
        ["COLOUR=blue on host-1", "WINDLASS_VERSION=1.0", "WINDLASS_ADDRESS=127.0.0.1", "args 127.0.0.1:1"]
    {
        assert!(output.iter().any(|l| l == line), "{line} is not in {output:?}");
    }
    assert!(!output.iter().any(|l| l.starts_with("CARGO")), "{output:?}");
    assert_eq!(fs::read_to_string(launch.data.join("file")).unwrap(), "mine\n");
    assert_eq!(fs::metadata(&launch.data).unwrap().permissions().mode() & 0o7777, 0o750);

    // Starting again finds it instead.
    assert_eq!(runtime().start(&launch).await.unwrap().unwrap(), started);
    assert_eq!(find(&launch.run).unwrap(), started);

    let stopped = runtime().stop(&launch).await.unwrap();
    assert_eq!((stopped.ran, stopped.killed), (true, 0));
    assert_eq!(stopped.exit.unwrap().signal, Some(15));
    assert!(!started.app.lives() && !started.shim().unwrap().lives());
    assert_eq!(find(&launch.run), None);
    assert!(!runtime().stop(&launch).await.unwrap().ran);
}

#[tokio::test]
async fn grandchildren_and_those_that_hide_are_killed_after_the_grace() {
    let place = Place::new();
    let script = "trap '' TERM\nsh -c 'trap \"\" TERM; echo $$ > child; while :; do sleep 1; done' &\n\
                  setsid sh -c 'trap \"\" TERM; echo $$ > hidden; while :; do sleep 1; done' &\n\
                  while :; do sleep 1; done";
    let launch = place.launch(script, Span(300));
    let started = runtime().start(&launch).await.unwrap().unwrap();
    let ids =
        || [place.file("child"), place.file("hidden")].iter().map(|f| read_id(f)).collect::<Option<Vec<_>>>();
    until("children", || ids().is_some()).await;
    let children = ids().unwrap();
    let begun = Instant::now();
    let stopped = runtime().stop(&launch).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(stopped.killed >= 3, "{stopped:?}");
    assert_eq!(stopped.exit.unwrap().signal, Some(9));
    assert!(!started.app.lives() && !children.iter().any(|c| c.lives()));
}

#[tokio::test]
async fn a_dead_shim_does_not_protect_the_application() {
    let place = Place::new();
    let script = "sh -c 'echo $$ > child; exec sleep 1000' &\nwhile :; do sleep 1; done";
    let launch = place.launch(script, Span(200));
    let started = runtime().start(&launch).await.unwrap().unwrap();
    until("child", || read_id(&place.file("child")).is_some()).await;
    let child = read_id(&place.file("child")).unwrap();
    kill(Pid::from_raw(started.shim().unwrap().pid.cast_signed()), Signal::SIGKILL).unwrap();
    until("the shim's end", || !started.shim().unwrap().lives()).await;
    assert_eq!(find(&launch.run).as_ref(), Some(&started));
    runtime().stop(&launch).await.unwrap();
    assert!(!started.app.lives() && !child.lives());
}

#[tokio::test]
async fn what_an_ended_application_left_is_swept_before_the_next_start() {
    let place = Place::new();
    let launch = place.launch("sh -c 'echo $$ > child; exec sleep 1000' &\nexit 7", Span::secs(1));
    let started = runtime().start(&launch).await.unwrap().unwrap();
    let exit = exited(&launch.run, &started).await;
    assert_eq!(in_words(exit.as_ref()), "exit code 7");
    until("child", || read_id(&place.file("child")).is_some()).await;
    let child = read_id(&place.file("child")).unwrap();
    assert!(child.lives());
    let launch = place.launch("exec sleep 1000", Span::secs(1));
    let second = runtime().start(&launch).await.unwrap().unwrap();
    assert!(!child.lives());
    assert_ne!(second.mark, started.mark);
    // The former start's end is not taken for this one's.
    assert_eq!(launch.run.read_exited(&second.mark), None);
    runtime().stop(&launch).await.unwrap();
}

#[tokio::test]
async fn the_end_is_noticed_quickly_with_its_last_words() {
    let place = Place::new();
    let launch = place.launch("read x < gate; echo last words; kill -SEGV $$", Span::secs(1));
    nix::unistd::mkfifo(&place.file("gate"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let started = runtime().start(&launch).await.unwrap().unwrap();
    let watching = tokio::spawn({
        let (run, started) = (launch.run.clone(), started.clone());
        async move { exited(&run, &started).await }
    });
    fs::write(place.file("gate"), "go\n").unwrap();
    let exit = tokio::time::timeout(Duration::from_secs(30), watching).await.unwrap().unwrap();
    assert_eq!(in_words(exit.as_ref()), "killed by SIGSEGV");
    assert_eq!(last_lines(started.log.as_deref().unwrap(), 1, 100), ["last words"]);
}

#[tokio::test]
async fn what_cannot_be_run_is_said_clearly() {
    let place = Place::new();
    let good = place.launch("exec sleep 1000", Span::secs(1));
    let with = |change: &dyn Fn(&mut Launch)| {
        let mut launch = good.clone();
        change(&mut launch);
        launch
    };
    let command = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        with(&|launch| {
            if let Runtime::Process { command, .. } = &mut launch.spec.runtime {
                *command = words.clone();
            }
        })
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    fs::write(place.file("garbage"), [0xff; 100]).unwrap();
    fs::set_permissions(place.file("garbage"), fs::Permissions::from_mode(0o755)).unwrap();
    let cases = [
        (command(&["bin/none"]), "app", "tree/bin/none does not exist"),
        (command(&["garbage"]), "app", "cannot run"),
        (command(&["app", "{host.label.zone}"]), "host", "no label \"zone\""),
        (
            with(&|launch| {
                launch.spec.ports.insert("http".into(), port);
            }),
            "host",
            "is in use by process",
        ),
        (
            with(&|launch| launch.spec.stop.signal = "SIGNOPE".into()),
            "app",
            "unknown stop signal \"SIGNOPE\"",
        ),
    ];
    for (launch, fault, says) in cases {
        let error: RuntimeError = runtime().start(&launch).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.fault().word(), fault, "{error}");
        assert_eq!(find(&launch.run), None);
    }
}

#[tokio::test]
async fn limits_hold_for_the_application_only() {
    let place = Place::new();
    let mut launch =
        place.launch("ulimit -n; echo done; sleep 0.2; ulimit -v; echo end; exec sleep 1000", Span::secs(1));
    if let Runtime::Process { resources, .. } = &mut launch.spec.runtime {
        *resources = Some(Resources {
            memory_max: Some("512MiB".parse().unwrap()),
            open_files: Some(77),
            ..Resources::default()
        });
    }
    let started = runtime().start(&launch).await.unwrap().unwrap();
    until("output", || last_lines(started.log.as_deref().unwrap(), 1, 100) == ["end"]).await;
    assert_eq!(last_lines(started.log.as_deref().unwrap(), 9, 100), ["77", "done", "524288", "end"]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", started.shim().unwrap().pid)).unwrap();
    assert!(!limits.lines().any(|l| l.starts_with("Max open files") && l.contains(" 77 ")), "{limits}");
    runtime().stop(&launch).await.unwrap();
}

/// The agent is killed, the application goes on and is found by the next agent.
#[tokio::test]
async fn an_application_survives_whoever_started_it() {
    let place = Place::new();
    let launch = place.launch("exec sleep 1000", Span::secs(1));
    let started = runtime().start(&launch).await.unwrap().unwrap();
    // Nothing in this process holds it: no pipe, no child, not even a zombie.
    let own = std::process::id();
    assert!(
        !processes::all()
            .iter()
            .any(|p| p.parent == own && (p.id == started.app || p.id == started.shim().unwrap()))
    );
    let found = find(&launch.run).unwrap();
    assert_eq!(found, started);
    // A start time that does not fit is another process, and is let alone.
    let foreign =
        Started { app: ProcessId { start: started.app.start + 1, ..started.app }, ..started.clone() };
    assert!(!windlass_agent::runtime::kill::signal(foreign.app, Signal::SIGKILL));
    assert!(started.app.lives());
    runtime().stop(&launch).await.unwrap();
}

/// An agent that is killed just after it began a start leaves a shim that goes on: the next agent takes that start over
/// and makes no second one.
#[tokio::test]
async fn a_start_whose_agent_was_killed_is_taken_over() {
    let place = Place::new();
    let launch = place.launch("exec sleep 1000", Span::secs(1));
    fs::create_dir_all(&launch.run.0).unwrap();
    let order = Order {
        release: launch.release.clone(),
        mark: "m1".into(),
        program: place.file("app"),
        args: vec![],
        dir: launch.dir.clone(),
        env: Default::default(),
        user: None,
        memory_max: None,
        open_files: None,
        log: Some(log::of(&launch.logs, &launch.release.digest)),
    };
    fs::write(launch.run.order(), serde_json::to_vec(&order).unwrap()).unwrap();
    let mut shim = std::process::Command::new(env!("CARGO_BIN_EXE_windlass-agent"))
        .args(["shim", "--order"])
        .arg(launch.run.order())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = runtime().start(&launch).await.unwrap().unwrap();
    assert_eq!(started.mark, "m1");
    shim.wait().unwrap();
    runtime().stop(&launch).await.unwrap();
    assert!(!started.app.lives());
}

#[tokio::test]
async fn attestation_tells_what_runs_and_nothing_else() {
    let place = Place::new();
    let launch = place.launch("exec sleep 1000", Span::secs(1));
    let tree = launch.dir.as_path();
    assert!(attest(None, None).ok);
    assert!(!attest(Some(tree), None).ok);
    let nothing = attest(Some(tree), Some(&launch));
    assert_eq!((nothing.ok, nothing.pid, nothing.digest), (false, 0, None));

    let started = runtime().start(&launch).await.unwrap().unwrap();
    let seen = attest(Some(tree), Some(&launch));
    assert!(seen.ok, "{seen:?}");
    assert_eq!((seen.pid, seen.digest), (started.app.pid, Some(launch.release.digest)));
    assert_eq!(Path::new(&seen.link), tree);
    // The link names another release, or none.
    assert!(!attest(Some(Path::new("/elsewhere")), Some(&launch)).ok);
    assert!(!attest(None, Some(&launch)).ok);
    // Another release should run.
    let mut other = launch.clone();
    other.release.digest = Digest::from_bytes([2; 32]);
    let seen = attest(Some(tree), Some(&other));
    assert_eq!((seen.ok, seen.digest), (false, Some(launch.release.digest)));
    runtime().stop(&launch).await.unwrap();
    assert!(!attest(Some(tree), Some(&launch)).ok);

    // An application that leaves its directory is known by the program it was started as, as long as it is that.
    let mut absolute = launch.clone();
    if let Runtime::Process { command, .. } = &mut absolute.spec.runtime {
        *command = ["/bin/sleep", "1000"].map(str::to_owned).into();
    }
    runtime().start(&absolute).await.unwrap();
    assert!(attest(Some(tree), Some(&absolute)).ok);
    runtime().stop(&absolute).await.unwrap();
    let gone = place.launch("cd /; exec sleep 1000", Span::secs(1));
    let started = runtime().start(&gone).await.unwrap().unwrap();
    until("sleep", || started.app.cwd().is_some_and(|cwd| cwd == Path::new("/"))).await;
    until("sleep", || started.app.exe().is_some_and(|exe| exe.ends_with("sleep"))).await;
    let seen = attest(Some(tree), Some(&gone));
    assert_eq!((seen.ok, seen.digest), (false, None), "{seen:?}");
    runtime().stop(&gone).await.unwrap();
}

/// A file system of its own that can be filled; `None` where the test may not mount one (it needs root).
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,nr_inodes=40,mode=755", "tmpfs"])
            .arg(&at)
            .stderr(std::process::Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_release_starts_without_a_log_on_a_full_disk() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(place.dir.path().join("disk")) else { return };
    let mut launch = place.launch("echo hello; exec sleep 1000", Span::secs(1));
    launch.logs = disk.0.join("log");
    let mut filler = fs::File::create(disk.0.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 4096]).is_ok() {}
    let mut number = 0;
    while fs::File::create(disk.0.join(number.to_string())).is_ok() {
        number += 1;
    }
    let started = runtime().start(&launch).await.unwrap().unwrap();
    assert!(started.app.lives());
    assert_eq!(started.log, None);
    runtime().stop(&launch).await.unwrap();
}

#[tokio::test]
async fn what_a_dead_application_left_behind_hears_the_stop_signal() {
    let place = Place::new();
    let script = "setsid sh -c 'trap \"exit 0\" TERM; echo $$ > left; while :; do sleep 0.05; done' &\n\
                  while ! [ -s left ]; do sleep 0.05; done; exit 1";
    let launch = place.launch(script, Span::secs(30));
    let started = runtime().start(&launch).await.unwrap().unwrap();
    until("the application's end", || !started.app.lives()).await;
    let left = read_id(&place.file("left")).unwrap();
    assert!(left.lives());
    let begun = Instant::now();
    let stopped = runtime().stop(&launch).await.unwrap();
    assert_eq!((stopped.ran, stopped.killed, left.lives()), (true, 0, false));
    assert!(begun.elapsed() < Duration::from_secs(20), "it waited for nothing");
}
