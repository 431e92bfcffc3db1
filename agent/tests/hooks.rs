//! Hooks with real processes: what hangs, floods, forks, holds on or asks to come back; and agents that are killed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use nix::sys::signal::Signal;
use windlass_agent::config::HostPolicy;
use windlass_agent::hook::ledger::Ledger;
use windlass_agent::hook::runner::{HookRunner as _, ShimRunner};
use windlass_agent::hook::{Call, HookError, Stops, evidence, run_dir};
use windlass_agent::processes;
use windlass_agent::runtime::kill::{members, signal};
use windlass_agent::runtime::{HostContext, Launch};
use windlass_agent::shim::order::RunDir;
use windlass_proto::digest::Digest;
use windlass_proto::phase::{Fault, HookName, HookRun};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::{HostOrder, ReleaseSpec};
use windlass_proto::time::Span;
use windlass_release::Operation;

/// A release with one hook, `after_install`, in a directory of its own.
struct Place {
    dir: tempfile::TempDir,
    mark: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(started) = self.hook_dir().read_started() {
            for member in members(&started) {
                signal(member.id, Signal::SIGKILL);
            }
        }
    }
}

fn release(n: u8) -> ReleaseRef {
    ReleaseRef {
        app: "shop".parse().unwrap(),
        version: format!("{n}.0").parse().unwrap(),
        digest: Digest::from_bytes([n; 32]),
        counter: n.into(),
    }
}

impl Place {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let mark = format!("{:032x}", rand::random::<u128>());
        let path = dir.path().join("tree/hook");
        fs::write(&path, format!("#!/bin/sh\nexport TEST_MARK={mark}\necho run >> runs\n{script}\n"))
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, mark }
    }

    fn run(&self) -> RunDir {
        RunDir(self.dir.path().join("run"))
    }

    fn hook_dir(&self) -> RunDir {
        run_dir(&self.run())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("tree").join(name)
    }

    /// How often the hook was begun.
    fn runs(&self) -> usize {
        fs::read_to_string(self.file("runs")).unwrap_or_default().lines().count()
    }

    fn told(&self) -> HookRun {
        self.ledger().runs().pop().unwrap()
    }

    fn ledger(&self) -> Ledger {
        Ledger::read(&self.hook_dir().0, &"op-1".parse().unwrap())
    }

    /// Whether anything that the hook began lives. Between two commands of a loop nothing does: wait for it.
    fn lives(&self) -> bool {
        let line = format!("TEST_MARK={}", self.mark);
        processes::all().iter().any(|p| p.lives() && p.id.has_environment(&line))
    }

    fn call(&self, timeout: Span, idempotent: bool) -> Call {
        let spec = format!(
            r#"{{"runtime": {{"kind": "static"}}, "hooks": {{"after_install": [
                {{"run": ["hook", "{{release.version}}"], "timeout": "{timeout}", "idempotent": {idempotent}}}]}}}}"#
        );
        let spec: ReleaseSpec = serde_json::from_str(&spec).unwrap();
        let launch = Launch {
            release: release(2),
            spec,
            dir: self.dir.path().join("tree"),
            run: self.run(),
            logs: self.dir.path().join("log"),
            data: self.dir.path().join("data"),
        };
        let policy = HostPolicy {
            author_keys: vec![],
            threshold: 1,
            apps: vec!["*".into()],
            allow_root: true,
            users: vec![],
        };
        Call {
            host: HostContext {
                name: "host-1".parse().unwrap(),
                address: [127, 0, 0, 1].into(),
                labels: Default::default(),
                policy,
            },
            launch: Arc::new(launch),
            operation: Operation {
                op: "op-1".parse().unwrap(),
                rollout: "r-1".parse().unwrap(),
                epoch: 1,
                from: Some(release(1)),
                to: release(2),
                order: HostOrder {
                    host: Default::default(),
                    min_healthy_time: Span(0),
                    healthy_deadline: Span::secs(60),
                },
                rollback: false,
                leave: windlass_proto::grant::Leave::Newest,
                trace: None,
                switched_at: None,
                outcome: None,
                fault: None,
                reason: String::new(),
                drained: None,
                confirmed_late: false,
                hook: None,
                network_before: Default::default(),
                network_in_trial: Default::default(),
                complaint: String::new(),
            },
            hook: HookName::AfterInstall,
            round: 1,
            must_pass: true,
        }
    }

    async fn done(&self, timeout: Span) -> Result<(), HookError> {
        done(&self.call(timeout, false)).await
    }
}

fn runner() -> ShimRunner {
    ShimRunner::new(env!("CARGO_BIN_EXE_windlass-agent").into())
}

async fn done(call: &Call) -> Result<(), HookError> {
    let (runner, stops, told) = (runner(), Stops::default(), |_| async {}.boxed());
    let ended = call.run(&runner, &stops, &told);
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("a hook ends")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_hook_is_told_where_it_is_and_what_it_did_is_told() {
    let place = Place::new(
        "pwd; echo $1 $WINDLASS_HOOK $WINDLASS_OLD_VERSION $WINDLASS_NEW_VERSION $WINDLASS_ROLLOUT >&2",
    );
    place.done(Span::secs(10)).await.unwrap();
    let run = place.told();
    assert!(run.passed() && run.end == "exit code 0" && run.runs == 1, "{run:?}");
    let tree = fs::canonicalize(place.file("")).unwrap();
    assert_eq!(run.output, format!("{}\n2.0 after_install 1.0 2.0 r-1", tree.display()));
    // On record as passed, it is not run again.
    place.done(Span::secs(10)).await.unwrap();
    assert_eq!(place.runs(), 1);
    // Another asking is another run.
    let again = Call { round: 2, ..place.call(Span::secs(10), false) };
    done(&again).await.unwrap();
    assert_eq!(place.runs(), 2);
}

#[tokio::test]
async fn a_failure_names_the_hook_and_its_last_words() {
    let place = Place::new("echo looking; echo no such table >&2; exit 3");
    let error = place.done(Span::secs(10)).await.unwrap_err();
    assert_eq!(error.to_string(), "hook after_install (hook): exit code 3: no such table");
    assert_eq!(error.fault(), Fault::App);
    let items = evidence(&place.run(), &"op-1".parse().unwrap());
    assert!(items[0].kind == "hook" && items[0].text.ends_with("\nlooking\nno such table"), "{items:?}");
    fs::remove_file(place.file("hook")).unwrap();
    let gone = Call { round: 2, ..place.call(Span::secs(1), false) };
    assert_eq!(done(&gone).await.unwrap_err().fault(), Fault::App);
}

#[tokio::test]
async fn what_ignores_sigterm_and_leaves_its_session_is_killed_at_the_time_out() {
    let place = Place::new(
        "trap '' TERM\nsetsid sh -c 'trap \"\" TERM; setsid sleep 1000 & sleep 1000' &\n\
         (setsid env -i sleep 1001 &)\nwhile :; do sleep 1; done",
    );
    let begun = Instant::now();
    let error = place.done(Span(500)).await.unwrap_err();
    assert!(error.to_string().contains("not ended after 500ms"), "{error}");
    assert!(begun.elapsed() > Duration::from_secs(10), "it had its ten seconds");
    assert!(!place.lives());
    let started = place.hook_dir().read_started().unwrap();
    assert!(members(&started).is_empty() && !started.shim().unwrap().lives());
}

#[tokio::test]
async fn a_bounded_fork_bomb_is_killed_whole() {
    let place = Place::new(
        "trap '' TERM\nbomb() { [ $1 -gt 0 ] && { bomb $(($1 - 1)) & bomb $(($1 - 1)) & }; sleep 1000; }\nbomb 6",
    );
    let call = place.call(Span::secs(3), false);
    let stops = Stops::default();
    let runner = runner();
    let told = |_| async {}.boxed();
    let ended = call.run(&runner, &stops, &told);
    let cancel = async {
        until("the bomb", || place.runs() == 1).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        stops.cancel.cancel();
    };
    let (ended, ()) = tokio::join!(ended, cancel);
    assert!(ended.is_err());
    assert!(!place.lives(), "nothing is left of it");
}

#[tokio::test]
async fn a_flood_costs_neither_memory_nor_disk() {
    let place = Place::new("echo first; head -c 1000000000 /dev/zero; echo; echo last");
    place.done(Span::secs(50)).await.unwrap();
    assert_eq!(place.told().output, "last");
    let exited =
        fs::read_dir(place.hook_dir().0).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>();
    assert!(exited < 1_000_000, "{exited} bytes");
}

#[tokio::test]
async fn what_it_leaves_running_is_ended_with_it_whoever_holds_the_pipe() {
    let place = Place::new("sleep 1000 & setsid sleep 1000 & echo done");
    let begun = Instant::now();
    place.done(Span::secs(30)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(29), "it did not wait for the time-out");
    assert_eq!(place.told().output, "done");
    assert!(!place.lives());
    let place = Place::new("exec >&- 2>&-; sleep 0.2; exit 4");
    assert!(place.done(Span::secs(30)).await.unwrap_err().to_string().contains("exit code 4"));
}

#[tokio::test]
async fn exit_code_21_is_tried_again_within_the_time_out() {
    let place = Place::new("[ $(wc -l < runs) -ge 2 ] || exit 21; echo now");
    place.done(Span::secs(30)).await.unwrap();
    assert_eq!((place.told().runs, place.told().output.as_str()), (2, "now"));

    let place = Place::new("exit 21");
    let error = place.done(Span::secs(3)).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Host);
    assert!(error.to_string().contains("to be tried later (exit code 21)"), "{error}");
    assert_eq!(place.told().exit, Some(21));
}

#[tokio::test]
async fn a_hook_outlives_the_agent_and_is_taken_up_again() {
    let place = Place::new("while [ ! -e go ]; do sleep 0.05; done; echo went; exit 5");
    let call = place.call(Span::secs(30), false);
    tokio::select! {
        ended = done(&call) => panic!("{ended:?}"),
        () = until("the hook", || place.runs() == 1 && place.hook_dir().read_started().is_some()) => {}
    }
    // Nobody waits for it any more, as when the agent was killed.
    until("it lives on", || place.lives()).await;
    let again = tokio::spawn(async move { done(&call).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    fs::write(place.file("go"), "").unwrap();
    let error = again.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("exit code 5: went"), "{error}");
    assert_eq!(place.runs(), 1);
}

#[tokio::test]
async fn an_end_that_nobody_waited_for_is_read_from_the_record() {
    let place = Place::new("sleep 0.3; exit 0");
    let call = place.call(Span::secs(30), false);
    tokio::select! {
        ended = done(&call) => panic!("{ended:?}"),
        () = until("the hook", || place.runs() == 1 && place.hook_dir().read_started().is_some()) => {}
    }
    let started = place.hook_dir().read_started().unwrap();
    until("its end", || !started.shim().unwrap().lives()).await;
    done(&call).await.unwrap();
    assert_eq!(place.runs(), 1);
}

#[tokio::test]
async fn without_a_record_only_an_idempotent_hook_is_run_again() {
    for idempotent in [false, true] {
        let place = Place::new("[ $(wc -l < runs) -ge 2 ] || sleep 1000");
        let call = place.call(Span::secs(30), idempotent);
        tokio::select! {
            ended = done(&call) => panic!("{ended:?}"),
            () = until("the hook", || place.runs() == 1 && place.hook_dir().read_started().is_some()) => {}
        }
        // The shim first: nobody is left to write the end down.
        let started = place.hook_dir().read_started().unwrap();
        for process in [started.shim().unwrap(), started.app] {
            signal(process, Signal::SIGKILL);
        }
        let ended = done(&call).await;
        assert!(!place.lives());
        match idempotent {
            true => assert_eq!((ended.is_ok(), place.runs()), (true, 2)),
            false => {
                let error = ended.unwrap_err();
                assert!(error.to_string().contains("not idempotent"), "{error}");
                assert_eq!((error.fault(), place.runs()), (Fault::Agent, 1));
            }
        }
    }
}

#[tokio::test]
async fn what_was_put_on_record_but_never_begun_is_begun() {
    let place = Place::new("echo hello");
    let call = place.call(Span::secs(30), false);
    // As after a kill between the record and the start.
    let begun = runner().ended(&place.hook_dir(), "m").await;
    assert_eq!(begun, windlass_agent::hook::runner::End::NeverBegun);
    done(&call).await.unwrap();
    let path = place.hook_dir().0.join("hooks.json");
    let record = fs::read_to_string(&path).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let entry = &mut record["entries"][0];
    entry["mark"] = "never".into();
    entry["run"]["took"] = serde_json::Value::Null;
    fs::write(&path, record.to_string()).unwrap();
    done(&call).await.unwrap();
    assert_eq!(place.runs(), 2);
}

#[tokio::test]
async fn a_hook_that_is_no_longer_wanted_is_ended_soon_and_one_whose_agent_ends_goes_on() {
    let place = Place::new("trap '' TERM; while :; do sleep 1; done");
    let call = place.call(Span::secs(50), false);
    let (stops, told, runner) = (Stops::default(), |_| async {}.boxed(), runner());
    let begun = until("the hook", || place.runs() == 1);
    let (ended, ()) = tokio::join!(call.run(&runner, &stops, &told), async {
        begun.await;
        stops.leave.cancel();
    });
    assert!(matches!(ended, Err(HookError::Cancelled { .. })), "{ended:?}");
    until("it lives on", || place.lives()).await;
    let stops = Stops::default();
    let since = Instant::now();
    let (ended, ()) = tokio::join!(call.run(&runner, &stops, &told), async { stops.cancel.cancel() });
    assert!(ended.is_err());
    until("its end", || !place.lives()).await;
    assert!(since.elapsed() < Duration::from_secs(49), "it did not wait for the time-out");
}
