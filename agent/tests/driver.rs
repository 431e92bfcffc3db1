//! The driver with real processes under the real shim: through a deployment, and killed in the middle of it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use windlass_agent::clock;
use windlass_agent::config::HostPolicy;
use windlass_agent::dispatch::{Uplink, Yard};
use windlass_agent::driver::Driver;
use windlass_agent::exchange::{Answers, FromSession, Order, Published, Under};
use windlass_agent::held;
use windlass_agent::hook::runner::ShimRunner;
use windlass_agent::journal::Journal;
use windlass_agent::layout::Layout;
use windlass_agent::link;
use windlass_agent::perform::Host;
use windlass_agent::pin;
use windlass_agent::recover::Ledger;
use windlass_agent::retain::Retention;
use windlass_agent::runtime::kill::{members, signal};
use windlass_agent::runtime::process::find;
use windlass_agent::runtime::{HostContext, Runtimes};
use windlass_agent::session::BulkError;
use windlass_agent::shim::order::RunDir;
use windlass_agent::staging::{Patience, Stager};
use windlass_agent::store::{MemoryStore, ReleaseStore as _};
use windlass_agent::traffic;
use windlass_proto::bundle::{AuthorKey, Envelope, Tree};
use windlass_proto::fence::{Fence, LeaderId, Led, Offer, SignedFence};
use windlass_proto::id::{AppName, OpId, RolloutId};
use windlass_proto::limits::{APPS, APPS_TOLD, FIRST_RELEASES};
use windlass_proto::phase::{AppStatus, Fault, Outcome, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::rpc;
use windlass_proto::spec::{HostOrder, HostSpec, OnContactLost, ReleaseSpec};
use windlass_proto::time::Span;
use windlass_release::{Assign, BootTime};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn app() -> AppName {
    AppName::new("shop").unwrap()
}

fn op(n: u32) -> OpId {
    OpId::new(format!("op-{n}")).unwrap()
}

/// A host's directories; whatever still runs at the end is killed.
struct Place {
    dir: tempfile::TempDir,
    key: AuthorKey,
    retention: Retention,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(started) = self.run().read_started() {
            for member in members(&started) {
                signal(member.id, Signal::SIGKILL);
            }
        }
    }
}

impl Place {
    fn new() -> Self {
        let (dir, key) = (tempfile::tempdir().unwrap(), AuthorKey::generate().unwrap());
        let place = Self { dir, key, retention: Retention::default() };
        place.layout().create().unwrap();
        place.layout().create_app(&app()).unwrap();
        place
    }

    fn layout(&self) -> Layout {
        Layout::new(self.dir.path().join("state"), self.dir.path().join("run")).unwrap()
    }

    fn run(&self) -> RunDir {
        RunDir(self.layout().app_run(&app()))
    }

    fn policy(&self) -> HostPolicy {
        HostPolicy {
            author_keys: vec![self.key.public().to_string()],
            threshold: 1,
            apps: vec!["*".into()],
            allow_root: true,
            users: Vec::new(),
        }
    }

    /// A release that is on the host already (made after the last prune, which takes what was never confirmed): a program, and a check that says whether it is ready.
    fn release(&self, counter: u64, program: &str, ready: &str) -> ReleaseRef {
        self.release_alive_while(counter, program, ready, "exit 0")
    }

    fn release_alive_while(&self, counter: u64, program: &str, ready: &str, alive: &str) -> ReleaseRef {
        let source = self.dir.path().join(format!("source-{counter}"));
        fs::create_dir(&source).unwrap();
        for (name, script) in [("app", program), ("ready", ready), ("alive", alive)] {
            fs::write(source.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(source.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let spec: ReleaseSpec = serde_json::from_str(
            r#"{"runtime":{"kind":"process","command":["app"]},"stop":{"grace":"10s"},
                "probes":{"readiness":{"exec":{"command":["ready"]},"period":"100ms","failure_threshold":2},
                          "liveness":{"exec":{"command":["alive"]},"period":"100ms","failure_threshold":2}}}"#,
        )
        .unwrap();
        let version = format!("1.{counter}").parse().unwrap();
        let manifest = Tree::scan(&source).unwrap().manifest(app(), version, counter, spec).unwrap();
        let mut envelope = Envelope::new(&manifest);
        envelope.sign(&self.key);
        let digest = manifest.digest();
        let release = self.layout().release(&app(), &digest);
        fs::create_dir(&release).unwrap();
        fs::write(self.layout().envelope(&app(), &digest), envelope.encode()).unwrap();
        fs::rename(&source, self.layout().tree(&app(), &digest)).unwrap();
        for file in ["app", "ready", "alive"] {
            let path = self.layout().tree(&app(), &digest).join(file);
            fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
        }
        held::verify(&self.layout(), &app(), &digest).unwrap();
        manifest.release_ref()
    }

    /// What the next prune takes: nobody waits for that, and it would take a release that is being made, too.
    fn bait(&self) -> PathBuf {
        let bait = self.layout().release(&app(), &windlass_proto::digest::Digest::from_bytes([0xee; 32]));
        fs::create_dir(&bait).unwrap();
        bait
    }

    fn good(&self, counter: u64) -> ReleaseRef {
        self.release(counter, &format!("exec sleep 100{counter}"), "exit 0")
    }

    /// A signed release of another app that is on the host already; nothing runs.
    fn another(&self, app: &str) -> ReleaseRef {
        self.another_as(app, r#"{"runtime":{"kind":"static"}}"#)
    }

    fn another_as(&self, app: &str, spec: &str) -> ReleaseRef {
        let (app, layout) = (AppName::new(app).unwrap(), self.layout());
        let source = self.dir.path().join(format!("source-{app}"));
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), app.as_str()).unwrap();
        let spec: ReleaseSpec = serde_json::from_str(spec).unwrap();
        let version = "1.0".parse().unwrap();
        let manifest = Tree::scan(&source).unwrap().manifest(app.clone(), version, 1, spec).unwrap();
        let mut envelope = Envelope::new(&manifest);
        envelope.sign(&self.key);
        layout.create_app(&app).unwrap();
        fs::create_dir(layout.release(&app, &manifest.digest())).unwrap();
        fs::write(layout.envelope(&app, &manifest.digest()), envelope.encode()).unwrap();
        fs::set_permissions(source.join("file"), fs::Permissions::from_mode(0o444)).unwrap();
        fs::rename(&source, layout.tree(&app, &manifest.digest())).unwrap();
        manifest.release_ref()
    }

    /// Apps on record.
    fn on_record(&self) -> Vec<String> {
        let recovered = windlass_agent::journal::peek(self.layout().state()).unwrap().unwrap();
        recovered.latest.states.keys().map(ToString::to_string).collect()
    }

    fn current(&self) -> Option<windlass_proto::digest::Digest> {
        link::current(&self.layout(), &app()).unwrap()
    }

    fn confirmed(&self) -> Option<windlass_proto::digest::Digest> {
        link::confirmed(&self.layout(), &app()).unwrap()
    }

    fn pid(&self) -> Option<u32> {
        find(&self.run()).map(|started| started.app.pid)
    }
}

#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Uplink for Nowhere {
    async fn channel(&self) -> Result<tonic::transport::Channel, BulkError> {
        // All that is staged here is held already, so that nobody ever connects.
        Ok(tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy())
    }
}

/// An agent's driver, in a runtime of its own, so that it can be killed like a process.
struct Agent {
    runtime: tokio::runtime::Runtime,
    orders: mpsc::Sender<FromSession>,
    published: watch::Receiver<Published>,
    store: Arc<MemoryStore>,
    stop: CancellationToken,
    answers: mpsc::Sender<rpc::AgentMessage>,
    answered: std::cell::RefCell<mpsc::Receiver<rpc::AgentMessage>>,
}

impl Agent {
    fn start(place: &Place) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let guard = runtime.enter();
        let layout = place.layout();
        let (journal, recovered) = Journal::open(layout.state()).unwrap();
        let (ledger, left) = Ledger::open(journal, &recovered, &layout, clock::boot_id().unwrap());
        let store = Arc::new(MemoryStore::default());
        let context = HostContext {
            name: "host-1".parse().unwrap(),
            address: [127, 0, 0, 1].into(),
            labels: Default::default(),
            policy: place.policy(),
        };
        let shim = PathBuf::from(env!("CARGO_BIN_EXE_windlass-agent"));
        let runtimes = Runtimes::new(context.clone(), shim.clone(), shim.clone());
        let hooks = Box::new(ShimRunner::new(shim));
        let host = Arc::new(Host::new(
            layout.clone(),
            context,
            runtimes,
            hooks,
            traffic::Driver::None,
            store.clone(),
            place.retention,
        ));
        let (orders, orders_rx) = mpsc::channel(64);
        let (found, found_rx) = mpsc::channel(64);
        let (published_tx, published) = watch::channel(Published::default());
        let stager = Arc::new(Stager::new(layout, place.policy(), Patience::default()).unwrap());
        // Many, for what never arrives holds one for long.
        let slots = Arc::new(Semaphore::new(100));
        let yard = Yard { host, stager, uplink: Arc::new(Nowhere), slots, found, safe_mode: None };
        let stop = CancellationToken::new();
        let (stopped, store_of) = (stop.clone(), store);
        runtime.spawn(async move {
            Driver::new(ledger, left, yard, orders_rx, found_rx, published_tx)
                .run(Default::default(), stopped)
                .await;
        });
        drop(guard);
        let (answers, answered) = mpsc::channel(1024);
        Self { runtime, orders, published, store: store_of, stop, answers, answered: answered.into() }
    }

    /// No task gets another turn.
    fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }

    fn say(&self, order: Order) {
        self.say_under(None, order);
    }

    fn say_under(&self, under: Option<Under>, order: Order) {
        let now = BootTime(clock::boot_ms());
        let answers = Answers::by(self.answers.clone());
        self.orders
            .blocking_send(FromSession { opened_at: now, received_at: now, under, answers, order })
            .unwrap();
    }

    /// The next refusal.
    fn refusal(&self) -> rpc::Refused {
        let mut refused = None;
        let next = || {
            let message = self.answered.borrow_mut().try_recv().ok()?;
            let Some(rpc::agent_message::Kind::Refused(refused)) = message.kind else { return None };
            Some(refused)
        };
        let deadline = Instant::now() + PATIENCE;
        while refused.is_none() {
            assert!(Instant::now() < deadline, "nothing was refused in time");
            std::thread::park_timeout(Duration::from_millis(5));
            refused = next();
        }
        refused.unwrap()
    }

    /// Has a release ordered under a fence.
    fn assign_under(&self, under: &Under, n: u32, to: &ReleaseRef) {
        let epoch = under.offer.signed.fence.epoch;
        self.say_under(Some(under.clone()), Order::Assign(Box::new(order_to(n, to, epoch))));
    }

    /// What the host has obeyed, as epoch, leader and mark.
    fn obeyed(&self) -> Option<(u64, u8, u64)> {
        let led = self.published.borrow().obeyed.as_ref()?.led();
        Some((led.fence.epoch, led.fence.leader.0[0], led.mark))
    }

    fn assign(&self, n: u32, to: &ReleaseRef, change: impl FnOnce(&mut Assign)) {
        let mut assign = order_to(n, to, 1);
        change(&mut assign);
        self.say(Order::Assign(Box::new(assign)));
    }

    fn permit(&self, n: u32) {
        self.say(Order::Lease);
        self.say(Order::Permit { op: op(n), epoch: 1, ttl: Span::secs(30) });
    }

    fn status(&self) -> Option<Arc<AppStatus>> {
        self.published.borrow().apps.get(&app()).cloned()
    }

    fn until(&self, what: &str, reached: impl Fn(&AppStatus) -> bool) -> Arc<AppStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if let Some(status) = status.clone().filter(|status| reached(status)) {
                return status;
            }
            assert!(Instant::now() < deadline, "not {what} in time: {status:#?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn until_phase(&self, n: u32, phase: Phase) -> Arc<AppStatus> {
        self.until(phase.word(), |status| status.op == Some(op(n)) && status.phase == phase)
    }

    /// The whole way; returns when the host is tidy again.
    fn deploy(&self, place: &Place, n: u32, to: &ReleaseRef) -> Arc<AppStatus> {
        let bait = place.bait();
        self.assign(n, to, |_| {});
        self.until_phase(n, Phase::Staged);
        self.permit(n);
        self.until_phase(n, Phase::Trial);
        self.say(Order::Confirm { op: op(n), epoch: 1 });
        let status = self.until_phase(n, Phase::Confirmed);
        eventually("pruned", || !bait.exists());
        status
    }
}

fn order_to(n: u32, to: &ReleaseRef, epoch: u64) -> Assign {
    Assign {
        op: op(n),
        rollout: RolloutId::new(format!("r-{n}")).unwrap(),
        epoch,
        to: to.clone(),
        order: HostOrder {
            host: HostSpec { confirm_timeout: Span::secs(60), ..HostSpec::default() },
            min_healthy_time: Span(100),
            healthy_deadline: Span::secs(20),
        },
        rollback: false,
        grant: None,
        trace: None,
    }
}

/// A leadership that shows this entry of its lineage.
fn under(epoch: u64, leader: u8, mark: u64, follows: Option<(u64, u8, u64)>) -> Under {
    let fence = |epoch, leader| Fence { epoch, leader: LeaderId([leader; 16]) };
    let signed = SignedFence { fence: fence(epoch, leader), signature: vec![leader] };
    let follows = follows.map(|(epoch, leader, mark)| Led { fence: fence(epoch, leader), mark });
    Under { offer: Arc::new(Offer { signed, follows }), mark }
}

fn eventually(what: &str, reached: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "not {what} in time");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_deployment_goes_through_and_is_attested() {
    let place = Place::new();
    let one = place.good(1);
    let agent = Agent::start(&place);
    let status = agent.deploy(&place, 1, &one);
    assert!(status.attested.ok, "{status:?}");
    assert_eq!((status.attested.digest, status.current.clone()), (Some(one.digest), Some(one.clone())));
    let redials = agent.published.borrow().redials;
    let former = place.pid().unwrap();
    let two = place.good(2);
    let status = agent.deploy(&place, 2, &two);
    assert_eq!((status.attested.digest, status.confirmed.clone()), (Some(two.digest), Some(two.clone())));
    assert_eq!(agent.published.borrow().redials, redials + 1);
    assert_ne!(place.pid(), Some(former));
    assert!(status.phase_times[&Phase::Stopping] < 5000, "it heard its stop signal");
    eventually("linked", || place.confirmed() == Some(two.digest));
    assert_eq!(place.current(), Some(two.digest));
    assert!(status.held.contains(&one.digest) && status.held.contains(&two.digest));
    eventually("in history", || agent.store.history(&app()).unwrap().len() == 2);
    agent.stop.cancel();
    agent.kill();
    assert!(place.run().ready().exists(), "load balancers may send requests");
    assert!(place.pid().is_some(), "the app outlives its agent");
}

#[test]
fn a_release_that_never_gets_ready_goes_back_with_evidence() {
    let place = Place::new();
    let one = place.good(1);
    let agent = Agent::start(&place);
    agent.deploy(&place, 1, &one);
    let two = place.release(2, "echo I am broken; exec sleep 1002", "echo nope; exit 1");
    agent.assign(2, &two, |assign| assign.order.healthy_deadline = Span(1500));
    agent.until_phase(2, Phase::Staged);
    agent.permit(2);
    let status = agent.until_phase(2, Phase::Reverted);
    assert_eq!((status.outcome, status.fault), (Some(Outcome::Reverted), Some(Fault::App)));
    assert!(status.reason.contains("not ready"), "{}", status.reason);
    assert!(status.attested.ok && status.attested.digest == Some(one.digest), "{status:?}");
    assert!(status.evidence.iter().any(|item| item.kind == "log" && item.text.contains("I am broken")));
    assert!(status.evidence.iter().any(|item| item.kind == "probe" && item.text.contains("nope")));
    agent.kill();
}

#[test]
fn a_release_that_crashes_goes_back_at_once() {
    let place = Place::new();
    let one = place.good(1);
    let agent = Agent::start(&place);
    agent.deploy(&place, 1, &one);
    let two = place.release(2, "exit 3", "exit 0");
    agent.assign(2, &two, |_| {});
    agent.until_phase(2, Phase::Staged);
    agent.permit(2);
    let status = agent.until_phase(2, Phase::Reverted);
    assert!(status.reason.contains("exit code 3"), "{}", status.reason);
    assert_eq!(status.fault, Some(Fault::App));
    agent.kill();
}

#[test]
fn a_first_release_that_fails_leaves_nothing() {
    let place = Place::new();
    let one = place.release(1, "exit 3", "exit 0");
    let agent = Agent::start(&place);
    agent.assign(1, &one, |_| {});
    agent.until_phase(1, Phase::Staged);
    agent.permit(1);
    let status = agent.until_phase(1, Phase::Reverted);
    assert_eq!((status.current.clone(), place.current(), place.pid()), (None, None, None));
    agent.kill();
}

#[test]
fn without_a_lease_nothing_is_taken_out() {
    let place = Place::new();
    let one = place.good(1);
    let agent = Agent::start(&place);
    agent.deploy(&place, 1, &one);
    let two = place.good(2);
    agent.assign(2, &two, |_| {});
    agent.until_phase(2, Phase::Staged);
    agent.kill();
    let agent = Agent::start(&place);
    agent.until_phase(2, Phase::Staged);
    agent.say(Order::Permit { op: op(2), epoch: 1, ttl: Span::secs(30) });
    agent.say(Order::Assign(Box::new(Assign {
        op: op(3),
        rollout: RolloutId::new("r-3").unwrap(),
        epoch: 0,
        to: one.clone(),
        order: HostOrder {
            host: HostSpec::default(),
            min_healthy_time: Span(0),
            healthy_deadline: Span::secs(1),
        },
        rollback: false,
        grant: None,
        trace: None,
    })));
    agent.say(Order::Abort { op: op(2), epoch: 1, reason: "enough".into() });
    let status = agent.until_phase(2, Phase::Idle);
    assert_eq!((status.outcome, status.fault), (Some(Outcome::Skipped), None));
    assert_eq!(status.reason, "not touched: enough");
    assert!(!status.phase_times.contains_key(&Phase::Draining));
    assert_eq!(place.current(), Some(one.digest));
    agent.kill();
}

#[test]
fn what_is_obeyed_is_journalled_with_the_first_release_and_others_are_not_obeyed() {
    let place = Place::new();
    let agent = Agent::start(&place);
    // A release that no author has signed binds nobody.
    let digest = windlass_proto::digest::Digest::from_bytes([7; 32]);
    let unsigned = ReleaseRef { app: app(), version: "1.0".parse().unwrap(), digest, counter: 1 };
    let nobody = under(9, 9, 1, None);
    agent.assign_under(&nobody, 1, &unsigned);
    agent.until_phase(1, Phase::Staging);
    let bait = place.bait();
    agent.say_under(Some(nobody), Order::Abort { op: op(1), epoch: 9, reason: "enough".into() });
    agent.until_phase(1, Phase::Idle);
    eventually("pruned", || !bait.exists());
    assert_eq!((agent.obeyed(), agent.published.borrow().highest_epoch), (None, 0));

    let one = place.good(1);
    agent.assign_under(&under(5, 1, 4, None), 2, &one);
    agent.until_phase(2, Phase::Staged);
    assert_eq!(agent.obeyed(), Some((5, 1, 4)));
    // Lower, equal and higher; with an order's epoch that is not the session's; and older than fences.
    let redials = agent.published.borrow().redials;
    for wrong in [
        under(4, 1, 1, None),
        under(5, 2, 1, Some((5, 1, 4))),
        under(6, 2, 1, None),
        under(6, 2, 1, Some((5, 1, 3))),
        under(u64::MAX, 2, 1, Some((5, 1, 4))),
    ] {
        let abort = Order::Abort { op: op(2), epoch: wrong.offer.signed.fence.epoch, reason: "wrong".into() };
        agent.say_under(Some(wrong), abort);
    }
    agent.say_under(Some(under(5, 1, 0, None)), Order::Abort { op: op(2), epoch: 6, reason: "wrong".into() });
    agent.say(Order::Abort { op: op(2), epoch: 9, reason: "wrong".into() });
    eventually("six sessions are given up", || agent.published.borrow().redials == redials + 6);
    assert_eq!(agent.status().unwrap().phase, Phase::Staged);
    agent.kill();

    // It is on disk, and a coordinator that knows it is obeyed.
    let agent = Agent::start(&place);
    eventually("it is read again", || agent.obeyed() == Some((5, 1, 4)));
    let next = under(6, 3, 0, Some((5, 1, 7)));
    agent.say(Order::Lease);
    let permit = Order::Permit { op: op(2), epoch: 6, ttl: Span::secs(30) };
    agent.say_under(Some(next.clone()), permit);
    agent.until_phase(2, Phase::Trial);
    assert_eq!(agent.obeyed(), Some((6, 3, 0)));
    let bait = place.bait();
    agent.say_under(Some(next), Order::Confirm { op: op(2), epoch: 6 });
    agent.until_phase(2, Phase::Confirmed);
    eventually("pruned", || !bait.exists());
    let two = place.good(2);
    agent.assign_under(&under(6, 3, 8, None), 3, &two);
    agent.until_phase(3, Phase::Staged);
    assert_eq!(agent.obeyed(), Some((6, 3, 8)));
    agent.kill();
}

#[test]
fn a_crashed_app_is_started_again() {
    let place = Place::new();
    let one = place.good(1);
    let agent = Agent::start(&place);
    agent.deploy(&place, 1, &one);
    let first = find(&place.run()).unwrap();
    signal(first.app, Signal::SIGSEGV);
    eventually("started again", || place.pid().is_some_and(|pid| pid != first.app.pid));
    let status = agent.until("attested", |status| status.attested.ok && status.attested.pid != first.app.pid);
    assert_eq!(status.phase, Phase::Confirmed);
    eventually("in traffic", || place.run().ready().exists());
    agent.kill();
}

#[test]
fn without_a_confirm_the_host_goes_back_or_out_as_the_order_says() {
    let place = Place::new();
    let one = place.good(1);
    let agent = Agent::start(&place);
    agent.deploy(&place, 1, &one);
    let two = place.good(2);
    for (n, policy, phase) in
        [(2, OnContactLost::Revert, Phase::Reverted), (3, OnContactLost::Stop, Phase::Quarantined)]
    {
        agent.assign(n, &two, |assign| {
            assign.order.host.confirm_timeout = Span(300);
            assign.order.host.on_contact_lost = policy;
        });
        agent.until_phase(n, Phase::Staged);
        agent.permit(n);
        let status = agent.until_phase(n, phase);
        assert_eq!(status.fault, Some(Fault::Transport));
        assert!(status.reason.contains("no confirm came within 300ms"), "{}", status.reason);
        if phase == Phase::Reverted {
            assert_eq!(status.attested.digest, Some(one.digest));
            // What nobody confirmed is pruned; it comes again as by a second download.
            let tree = place.layout().release(&app(), &two.digest);
            eventually("pruned", || !tree.exists());
            assert_eq!(place.good(2), two);
        } else {
            assert_eq!(place.pid(), None);
            assert!(!place.run().ready().exists());
        }
    }
    let release =
        |epoch| Order::ReleaseQuarantine { app: app(), epoch, leave_down: false, reason: "looked at".into() };
    agent.say(release(0));
    let refused = agent.refusal();
    assert_eq!((refused.app.as_str(), refused.fault()), ("shop", rpc::Fault::Policy), "{}", refused.reason);
    assert_eq!(agent.status().unwrap().phase, Phase::Quarantined);
    agent.say(release(1));
    let status = agent.until_phase(3, Phase::Reverted);
    assert_eq!((status.attested.ok, status.attested.digest), (true, Some(one.digest)));
    agent.kill();
}

#[test]
fn a_release_that_dies_in_the_watch_window_goes_back_by_itself_and_stays_there() {
    let place = Place::new();
    let one = place.good(1);
    let agent = Agent::start(&place);
    agent.deploy(&place, 1, &one);
    let dead = place.dir.path().join("dead");
    let alive = format!("test ! -e {}", dead.display());
    let two = place.release_alive_while(2, "exec sleep 1002", "exit 0", &alive);
    agent.deploy(&place, 2, &two);
    fs::write(&dead, "").unwrap();
    let status = agent.until_phase(2, Phase::Reverted);
    assert_eq!((status.outcome, status.fault), (Some(Outcome::Reverted), Some(Fault::App)));
    assert!(status.reason.contains("soon after confirm"), "{}", status.reason);
    assert_eq!((status.confirmed.clone(), status.attested.digest), (Some(one.clone()), Some(one.digest)));
    assert_eq!((place.current(), place.confirmed()), (Some(one.digest), Some(one.digest)));
    // Also for the next agent.
    agent.kill();
    let agent = Agent::start(&place);
    let status = agent.until("attested", |status| status.attested.ok);
    assert_eq!((status.phase, status.attested.digest), (Phase::Reverted, Some(one.digest)));
    agent.kill();
}

#[test]
fn a_killed_agent_finds_its_app_again_without_touching_it() {
    let place = Place::new();
    let one = place.good(1);
    let agent = Agent::start(&place);
    agent.deploy(&place, 1, &one);
    let pid = place.pid();
    agent.kill();
    let agent = Agent::start(&place);
    let status = agent.until("attested", |status| status.attested.ok);
    assert_eq!((status.phase, place.pid()), (Phase::Confirmed, pid));
    // And it is watched again.
    let first = find(&place.run()).unwrap();
    signal(first.app, Signal::SIGKILL);
    eventually("started again", || place.pid().is_some_and(|again| Some(again) != pid));
    agent.kill();
}

/// The agent is killed as soon as it reports a phase: whatever the phase, the deployment ends on one of the releases.
#[test]
fn killed_in_any_phase_it_ends_on_one_release() {
    for phase in [
        Phase::Assigned,
        Phase::Staged,
        Phase::Draining,
        Phase::Stopping,
        Phase::Switching,
        Phase::Starting,
        Phase::Verifying,
        Phase::Admitting,
        Phase::Trial,
        Phase::Confirmed,
    ] {
        let place = Place::new();
        let one = place.good(1);
        let agent = Agent::start(&place);
        agent.deploy(&place, 1, &one);
        let two = place.good(2);
        agent.assign(2, &two, |_| {});
        let at_or_past = |status: &AppStatus| status.op == Some(op(2)) && status.phase >= phase;
        if phase >= Phase::Staged {
            agent.until_phase(2, Phase::Staged);
        }
        if phase > Phase::Staged {
            agent.permit(2);
        }
        if phase == Phase::Confirmed {
            agent.until_phase(2, Phase::Trial);
            agent.say(Order::Confirm { op: op(2), epoch: 1 });
        }
        agent.until("there", at_or_past);
        agent.kill();

        let agent = Agent::start(&place);
        let mut status = agent.until("at rest", |status| {
            matches!(status.phase, Phase::Staged | Phase::Trial | Phase::Confirmed | Phase::Failed)
        });
        if status.phase == Phase::Staged {
            agent.permit(2);
            status = agent.until_phase(2, Phase::Trial);
        }
        if status.phase == Phase::Trial {
            agent.say(Order::Confirm { op: op(2), epoch: 1 });
        }
        let status = agent.until("ended", |status| status.outcome.is_some() && status.attested.ok);
        let expected = match (status.phase, status.outcome) {
            (Phase::Confirmed, Some(Outcome::Confirmed)) => two.digest,
            (Phase::Failed, Some(Outcome::Failed)) => one.digest,
            other => panic!("killed while {phase}: {other:?}"),
        };
        assert_eq!(status.attested.digest, Some(expected), "killed while {phase}");
        eventually("linked", || place.confirmed() == Some(expected) && place.current() == Some(expected));
        assert_eq!(find(&place.run()).unwrap().release.digest, expected);
        agent.kill();
    }
}

#[test]
fn what_need_not_stay_goes_by_itself_and_what_is_pinned_stays() {
    let mut place = Place::new();
    place.retention = Retention { every: Span(100), ..Retention::default() };
    let one = place.good(1);
    let agent = Agent::start(&place);
    agent.deploy(&place, 1, &one);
    agent.kill();
    let failed = place.good(2);
    let pin = |pinned| pin::set(&place.layout(), &app(), "1.2", pinned).unwrap();
    pin(true);
    let agent = Agent::start(&place);
    // A coordinator that is heard of all the time keeps nobody from it.
    let lease = || {
        agent.say(Order::Lease);
        std::thread::park_timeout(Duration::from_millis(20));
    };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(400) {
        lease();
    }
    assert_eq!(held::digests(&place.layout(), &app()).len(), 2, "pinned");
    pin(false);
    let deadline = Instant::now() + PATIENCE;
    while place.layout().release(&app(), &failed.digest).exists() {
        assert!(Instant::now() < deadline, "still there");
        lease();
    }
    assert_eq!(held::digests(&place.layout(), &app()), [one.digest]);
    agent.kill();
}

/// What nobody signed, of an app that nobody has.
fn invented(n: u32) -> ReleaseRef {
    ReleaseRef {
        app: AppName::new(format!("ghost-{n}")).unwrap(),
        version: "1.0".parse().unwrap(),
        digest: windlass_proto::digest::Digest::of(format!("ghost {n}").as_bytes()),
        counter: 1,
    }
}

fn phase_of(agent: &Agent, app: &AppName) -> Option<Phase> {
    agent.published.borrow().apps.get(app).map(|status| status.phase)
}

#[test]
fn unsigned_orders_take_no_place_no_directory_and_no_record() {
    let place = Place::new();
    let one = place.good(1);
    let agent = Agent::start(&place);
    agent.deploy(&place, 1, &one);
    let most = u32::try_from(FIRST_RELEASES).unwrap();
    let attack = || {
        for n in 0..most + 200 {
            agent.assign(1000 + n, &invented(n), |_| {});
        }
    };
    attack();
    for _ in 0..200 {
        let refused = agent.refusal();
        assert!(refused.not_yet && refused.reason.contains("first releases"), "{}", refused.reason);
    }
    let apps = || agent.published.borrow().apps.len();
    assert_eq!(apps(), 1 + FIRST_RELEASES);
    assert_eq!((held::apps(&place.layout()), place.on_record()), (vec![app()], vec!["shop".to_owned()]));
    // Who leads after that is not kept waiting, for an app that is here nor for one that is not.
    let two = place.good(2);
    agent.assign(2, &two, |_| {});
    agent.until_phase(2, Phase::Staged);
    let blog = place.another("blog");
    agent.assign_under(&under(2, 2, 1, None), 3, &blog);
    eventually("staged", || phase_of(&agent, &blog.app) == Some(Phase::Staged));
    // One made room, the one that has been fetching for longest, and says so.
    let given_up =
        || (0..most).filter(|n| phase_of(&agent, &invented(*n).app) == Some(Phase::Failed)).count();
    eventually("one was given up, and said so", || given_up() == 1);
    assert_eq!(place.on_record(), ["blog", "shop"]);
    agent.kill();
    // Nothing is left of the rest.
    let agent = Agent::start(&place);
    agent.until("there", |_| true);
    assert_eq!(
        agent.published.borrow().apps.keys().map(ToString::to_string).collect::<Vec<_>>(),
        ["blog", "shop"]
    );
    agent.kill();
}

#[test]
fn a_full_host_says_so_and_a_first_release_that_failed_gives_its_place_away() {
    let place = Place::new();
    fs::remove_dir_all(place.layout().app(&app())).unwrap();
    let agent = Agent::start(&place);
    let releases: Vec<_> = (0..=APPS).map(|n| place.another(&format!("app-{n:02}"))).collect();
    for (n, release) in (1..).zip(&releases[..APPS]) {
        agent.assign(n, release, |_| {});
        eventually("staged", || phase_of(&agent, &release.app) == Some(Phase::Staged));
    }
    let last = &releases[APPS];
    agent.assign(100, last, |_| {});
    let refused = agent.refusal();
    assert_eq!(
        (refused.op_id.as_str(), refused.fault(), refused.not_yet),
        ("op-100", rpc::Fault::Host, false)
    );
    assert!(refused.reason.contains("64 apps, as many as a host takes"), "{}", refused.reason);

    // Two first releases end before they began; the one that ended first makes room.
    for n in [3, 7] {
        agent.say(Order::Abort { op: op(n), epoch: 1, reason: "no".into() });
        let app = &releases[n as usize - 1].app;
        eventually("dropped", || phase_of(&agent, app) == Some(Phase::Idle));
    }
    agent.assign(101, last, |_| {});
    eventually("staged", || phase_of(&agent, &last.app) == Some(Phase::Staged));
    let gone = &releases[2].app;
    assert_eq!((phase_of(&agent, gone), phase_of(&agent, &releases[6].app)), (None, Some(Phase::Idle)));
    assert!(!place.on_record().contains(&gone.to_string()) && place.on_record().len() == APPS);
    assert!(agent.published.borrow().apps.len() <= APPS_TOLD);
    agent.kill();
    let agent = Agent::start(&place);
    eventually("there", || phase_of(&agent, &last.app) == Some(Phase::Staged));
    assert_eq!(phase_of(&agent, gone), None);
    agent.kill();
}

/// Whatever plan and order say of it.
#[test]
fn a_unit_where_there_is_no_systemd_fails_before_anything_is_touched() {
    if windlass_agent::features::no_systemd().is_none() {
        return;
    }
    let place = Place::new();
    let agent = Agent::start(&place);
    let unit = place.another_as("blog", r#"{"runtime":{"kind":"systemd","command":["file"]},"probes":{"readiness":{"exec":{"command":["file"]}}}}"#);
    agent.assign(1, &unit, |_| {});
    eventually("failed", || phase_of(&agent, &unit.app) == Some(Phase::Failed));
    let status = agent.published.borrow().apps[&unit.app].clone();
    assert_eq!((status.fault, status.outcome), (Some(Fault::Host), Some(Outcome::Failed)));
    assert!(status.reason.contains("no release.runtime.kind: systemd on this host"), "{}", status.reason);
    agent.kill();
}
