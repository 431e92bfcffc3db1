//! A shell without a host: performs the machine's effects in memory, as told, and checks after each step what must
//! always hold.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, OpId, ReleaseVersion, RolloutId};
use windlass_proto::phase::{Drained, Fault, HookName, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::{HostOrder, HostSpec};
use windlass_proto::time::{Span, Timestamp};
use windlass_release::{
    Assign, BootTime, Checks, Done, Effect, Event, Health, Lane, Now, Refused, Staging, State, step,
};

pub fn app() -> AppName {
    AppName::new("web").unwrap()
}

/// Release `n`: version `1.n.0`, counter `n`.
pub fn release(n: u8) -> ReleaseRef {
    ReleaseRef {
        app: app(),
        version: ReleaseVersion::new(format!("1.{n}.0")).unwrap(),
        digest: Digest::from_bytes([n; 32]),
        counter: u64::from(n),
    }
}

pub fn op(n: u32) -> OpId {
    OpId::new(format!("op-{n}")).unwrap()
}

pub fn order() -> HostOrder {
    HostOrder {
        host: HostSpec::default(),
        min_healthy_time: Span::secs(10),
        healthy_deadline: Span::secs(300),
    }
}

pub fn assign(n: u32, to: u8) -> Assign {
    Assign {
        op: op(n),
        rollout: RolloutId::new(format!("r-{n}")).unwrap(),
        epoch: 1,
        to: release(to),
        order: order(),
        rollback: false,
        grant: None,
        trace: None,
    }
}

/// What the world does to effects.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// Releases whose staging fails.
    pub not_stageable: Vec<u8>,
    /// Releases whose process cannot be started.
    pub not_startable: Vec<u8>,
    /// Releases whose startup probe fails.
    pub no_startup: Vec<u8>,
    /// Releases that never become ready.
    pub not_ready: Vec<u8>,
    /// Releases whose smoke checks fail.
    pub smoke_fails: Vec<u8>,
    /// Drains run into their time-out under `on_timeout: abort`.
    pub drain_hangs: bool,
    /// The link cannot be moved to these.
    pub no_switch_to: Vec<u8>,
    /// Nothing can be stopped.
    pub no_stop: bool,
    /// Hooks that fail, by release.
    pub hook_fails: Vec<(u8, HookName)>,
}

/// The host as it really is, and the state as the journal has it.
#[derive(Debug, Clone)]
pub struct Host {
    pub state: State,
    pub boot: u64,
    pub contact: Option<u64>,
    pub weather: Weather,
    pub link: Option<u8>,
    pub confirmed_link: Option<u8>,
    pub running: Option<u8>,
    pub pending: Option<(u64, Effect)>,
    /// Hooks asked for in the same step, before and after what is pending.
    pub before: Vec<Effect>,
    pub after: Vec<Effect>,
    /// Hooks that were run, in order.
    pub hooks: Vec<(u8, HookName)>,
    pub staging: Option<OpId>,
    pub probing: Option<(u64, u8, Checks)>,
    /// Load balancers may send requests.
    pub in_traffic: bool,
    /// All effects performed so far.
    pub log: Vec<Effect>,
    /// Reverts begun since a person last did something (assigned, released).
    pub reverts: u32,
    /// A crash is due after so many more steps.
    pub crash_in: Option<Crash>,
    pub crashed: bool,
}

/// When the agent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// After so many more steps.
    pub steps: u32,
    /// So many of that step's effects were performed.
    pub effects: usize,
    /// And the host with it.
    pub reboot: bool,
}

fn n_of(release: &ReleaseRef) -> u8 {
    release.digest.as_bytes()[0]
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    pub fn new() -> Self {
        Self {
            state: State::new(app()),
            boot: 1000,
            contact: None,
            weather: Weather::default(),
            link: None,
            confirmed_link: None,
            running: None,
            pending: None,
            before: Vec::new(),
            after: Vec::new(),
            hooks: Vec::new(),
            staging: None,
            probing: None,
            in_traffic: false,
            log: Vec::new(),
            reverts: 0,
            crash_in: None,
            crashed: false,
        }
    }

    /// A host that runs release `n`, confirmed, the watch window over.
    pub fn on(n: u8) -> Self {
        let mut host = Self::new();
        for release in 1..=n {
            host.deploy(100 + u32::from(release), release);
            assert_eq!(host.phase(), Phase::Confirmed);
            host.boot += 3_600_000;
        }
        host.log.clear();
        host.hooks.clear();
        host
    }

    /// The whole way to the trial and the confirm.
    pub fn deploy(&mut self, n: u32, to: u8) {
        self.must(Event::Assign(assign(n, to)));
        self.settle();
        self.permit(n);
        self.settle();
        self.confirm(n);
    }

    pub fn now(&self) -> Now {
        Now {
            boot: BootTime(self.boot),
            wall: Timestamp(1_700_000_000_000 + i64::try_from(self.boot).unwrap()),
            contact: self.contact.map(BootTime),
        }
    }

    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    pub fn must(&mut self, event: Event) {
        let shown = format!("{event:?}");
        if let Err(refused) = self.feed(event) {
            panic!("{shown} refused while {}: {refused}", self.phase());
        }
    }

    pub fn permit(&mut self, n: u32) {
        self.contact = Some(self.boot);
        let expires = BootTime(self.boot + 30_000);
        self.must(Event::Permit { op: op(n), epoch: self.state.epoch, expires });
    }

    pub fn confirm(&mut self, n: u32) {
        self.boot += 10;
        let session_opened_at = BootTime(self.boot);
        self.must(Event::Confirm { op: op(n), epoch: self.state.epoch, session_opened_at });
    }

    /// One event: step, check, make durable, perform (unless the agent dies in between).
    pub fn feed(&mut self, event: Event) -> Result<(), Refused> {
        let person = matches!(event, Event::ReleaseQuarantine { .. } | Event::Assign(_));
        let next = step(&self.state, event.clone(), self.now())?;
        self.check(&event, &next.state);
        if person {
            self.reverts = 0;
        }
        let automatic = next.state.phase() == Phase::Reverting && self.phase() != Phase::Reverting;
        if automatic && !matches!(event, Event::ReleaseQuarantine { .. } | Event::Abort { .. }) {
            self.reverts += 1;
            assert!(self.reverts <= 2, "at most the trial's or the watch's own revert");
        }
        // The record must fit: journal first.
        let json = serde_json::to_string(&next.state).unwrap();
        assert!(json.len() <= 4096, "{} bytes: {json}", json.len());
        assert_eq!(serde_json::from_str::<State>(&json).unwrap(), next.state);
        self.state = next.state;
        let mut left = next.effects.len();
        let dies = self.crash_in.take_if(|crash| crash.steps == 0);
        if let Some(crash) = &mut self.crash_in {
            crash.steps -= 1;
        }
        if let Some(crash) = dies {
            left = left.min(crash.effects);
        }
        let turn = self.state.turn;
        // Cancelled, but perhaps too late.
        if let Some((_, effect)) = self.pending.take_if(|(of, _)| *of != turn) {
            self.apply(&effect);
        }
        if next.effects.iter().any(Effect::is_answered) {
            self.before.clear();
            self.after.clear();
        }
        for effect in next.effects.into_iter().take(left) {
            self.perform(turn, effect);
        }
        if let Some(crash) = dies {
            self.crashed = true;
            self.crash(crash.reboot);
        }
        Ok(())
    }

    /// The agent dies and comes back; with `reboot` the host does.
    pub fn crash(&mut self, reboot: bool) {
        // What was in flight may or may not have happened: here it has, without the outcome being known.
        if let Some((_, effect)) = self.pending.take() {
            self.apply(&effect);
        }
        self.staging = None;
        self.probing = None;
        if reboot {
            self.running = None;
            self.boot = 50;
            self.contact = None;
            self.link = self.confirmed_link;
        } else {
            self.boot += 200;
            self.contact = None;
        }
        self.must(Event::Recovered { same_boot: !reboot });
    }

    fn perform(&mut self, turn: u64, effect: Effect) {
        if let Effect::Hook { .. } = effect {
            match self.pending {
                Some((of, _)) if of == turn => self.after.push(effect),
                _ => self.before.push(effect),
            }
            return;
        }
        self.log.push(effect.clone());
        match &effect {
            Effect::Stage { op, .. } => self.staging = Some(op.clone()),
            Effect::CancelStage { .. } => self.staging = None,
            Effect::Probe { release, checks, .. } => self.probing = Some((turn, n_of(release), *checks)),
            Effect::StopProbes => self.probing = None,
            Effect::Withdraw => self.in_traffic = false,
            Effect::WriteConfirmed { release } => self.confirmed_link = release.as_ref().map(n_of),
            Effect::Redial => self.contact = Some(self.boot),
            Effect::Prune { keep } => {
                for n in [self.link, self.confirmed_link].into_iter().flatten() {
                    assert!(keep.contains(&release(n).digest), "release {n} is pruned while linked");
                }
            }
            _ => {}
        }
        if effect.is_answered() {
            assert_eq!(effect.lane(), Lane::Host);
            self.pending = Some((turn, effect));
        }
    }

    /// What the effect does to the host, whether or not anybody hears of it.
    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Stop { .. } => {
                assert!(!self.in_traffic, "stopped while in traffic");
                if !self.weather.no_stop {
                    self.running = None;
                }
            }
            Effect::Drain { .. } => self.in_traffic = false,
            Effect::Undrain { .. } | Effect::Admit { .. } => self.in_traffic = true,
            Effect::Switch { to } => {
                let to = to.as_ref().map(n_of);
                if !to.is_some_and(|to| self.weather.no_switch_to.contains(&to)) {
                    self.link = to;
                }
            }
            Effect::Start { release } if !self.weather.not_startable.contains(&n_of(release)) => {
                assert!(self.running.is_none_or(|n| n == n_of(release)), "two releases at once");
                assert_eq!(self.link, Some(n_of(release)), "started what the link does not name");
                self.running = Some(n_of(release));
            }
            _ => {}
        }
    }

    /// The outcome of what is in flight, as the weather has it.
    pub fn answer(&mut self) -> bool {
        let Some((turn, effect)) = self.pending.take() else { return false };
        let (before, after) = (std::mem::take(&mut self.before), std::mem::take(&mut self.after));
        if let Some(failed) = self.run_hooks(turn, before) {
            self.must(failed);
            return true;
        }
        if self.state.turn != turn {
            // The agent died with a hook.
            return true;
        }
        self.apply(&effect);
        let done = |done| Event::Done { turn, done };
        let failed = |reason: &str| Event::Failed { turn, fault: Fault::Host, reason: reason.into() };
        let event = match &effect {
            Effect::Drain { .. } if self.weather.drain_hangs => {
                done(Done::DrainTimedOut(Drained { in_flight: 3, closed: 1, cut: 0 }))
            }
            Effect::Drain { .. } => done(Done::Drained(Drained { in_flight: 2, closed: 2, cut: 0 })),
            Effect::Undrain { .. } => done(Done::Undrained),
            Effect::Stop { .. } if self.weather.no_stop => failed("it will not die"),
            Effect::Stop { .. } => done(Done::Stopped { cut: 0 }),
            Effect::Switch { to: Some(to) } if self.weather.no_switch_to.contains(&n_of(to)) => {
                failed("no such directory")
            }
            Effect::Switch { .. } => done(Done::Switched),
            Effect::Start { release } if self.weather.not_startable.contains(&n_of(release)) => {
                failed("exec format error")
            }
            Effect::Start { .. } => done(Done::Started),
            Effect::Adopt { release } if self.running == Some(n_of(release)) => done(Done::Adopted),
            Effect::Adopt { .. } => Event::AppExited { turn, how: "not running".into() },
            Effect::Smoke { release } if self.weather.smoke_fails.contains(&n_of(release)) => {
                done(Done::SmokeFailed { why: "status 500".into() })
            }
            Effect::Smoke { .. } => done(Done::SmokePassed),
            Effect::Admit { .. } => done(Done::Admitted),
            other => panic!("{other:?} has no answer"),
        };
        let goes_on = matches!(&event, Event::Done { done, .. } if done.goes_on());
        let failed = if goes_on { self.run_hooks(turn, after) } else { None };
        if self.state.turn == turn {
            self.must(failed.unwrap_or(event));
        }
        true
    }

    /// Runs hooks; the event of the first that must pass and does not.
    fn run_hooks(&mut self, turn: u64, hooks: Vec<Effect>) -> Option<Event> {
        for effect in hooks {
            let Effect::Hook { release, hook, must_pass, .. } = effect else { continue };
            let of = (n_of(&release), hook);
            if self.feed(Event::Hook { turn, running: Some(hook) }).is_err() || self.state.turn != turn {
                return None;
            }
            self.hooks.push(of);
            if must_pass && self.weather.hook_fails.contains(&of) {
                let reason = format!("hook {hook} failed");
                return Some(Event::Failed { turn, fault: Fault::App, reason });
            }
            if self.feed(Event::Hook { turn, running: None }).is_err() || self.state.turn != turn {
                return None;
            }
        }
        None
    }

    /// What staging and the probes say, as the weather has it; false when they have nothing new.
    pub fn observe(&mut self) -> bool {
        if let Some(op) = self.staging.take() {
            let to = n_of(&self.state.operation.as_ref().unwrap().to);
            let news = if self.weather.not_stageable.contains(&to) {
                Staging::Failed { fault: Fault::Policy, reason: "signature by an unknown key".into() }
            } else {
                Staging::Done
            };
            let staged = self.feed(Event::Staging { op: op.clone(), news: Staging::Started }).is_ok();
            return staged && self.feed(Event::Staging { op, news }).is_ok();
        }
        if let Some((turn, n, checks)) = self.probing {
            let health = match checks {
                Checks::Startup if self.weather.no_startup.contains(&n) => {
                    Health::StartupFailed { why: "connection refused".into() }
                }
                Checks::Startup => Health::StartupPassed,
                Checks::Service if self.weather.not_ready.contains(&n) => {
                    Health::NotReady { why: "status 503".into() }
                }
                Checks::Service => Health::Ready,
            };
            self.probing = None;
            return self.feed(Event::Health { turn, health }).is_ok();
        }
        false
    }

    /// Advances to the next deadline, if there is one.
    pub fn tick(&mut self) -> bool {
        match self.state.wake_at() {
            Some(at) => {
                self.boot = self.boot.max(at.0);
                self.must(Event::Tick);
                true
            }
            None => false,
        }
    }

    /// Lets happen what happens by itself, up to a trial or to where only somebody from outside goes on.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            if self.answer() || self.observe() {
                self.boot += 5;
                continue;
            }
            if self.phase() == Phase::Trial || !self.tick() {
                return;
            }
        }
        panic!("never settles; {} and {:?}", self.phase(), self.state);
    }

    /// The same, and past the trial's end without a confirm.
    pub fn exhaust(&mut self) {
        for _ in 0..10 {
            self.settle();
            if self.phase() != Phase::Trial || !self.tick() {
                return;
            }
        }
        panic!("never ends; {}", self.phase());
    }

    /// What must hold from each state to the next.
    fn check(&self, event: &Event, next: &State) {
        let old = &self.state;
        assert!(next.seq > old.seq);
        assert!(next.epoch >= old.epoch && next.counter >= old.counter && next.turn >= old.turn);
        let left_down = matches!(event, Event::ReleaseQuarantine { leave_down: true, .. });
        if left_down {
            assert_eq!((&next.current, &next.confirmed), (&None, &old.confirmed), "down, with its way back");
        } else if let (Some(operation), false) = (&next.operation, next.current == old.current) {
            assert!(
                next.current == Some(operation.to.clone())
                    || next.current == operation.from
                    || next.current == next.confirmed,
                "current is neither from nor to: {next:?}"
            );
        }
        if next.confirmed != old.confirmed {
            let by_confirm = matches!(event, Event::Confirm { .. }) && next.phase() == Phase::Confirmed;
            let by_watch = old.phase() == Phase::Confirmed
                && next.phase() == Phase::Reverting
                && next.confirmed.as_ref() == old.history.first();
            assert!(by_confirm || by_watch, "{event:?} changed what is confirmed");
        }
        if next.phase() == Phase::Reverting
            && old.phase() != Phase::Reverting
            && let Some(to) = &next.confirmed
        {
            assert!(old.past().confirmed.contains(&to.digest), "a revert goes to what was confirmed here");
        }
        if old.phase() == Phase::Confirmed && matches!(event, Event::Abort { .. }) {
            panic!("an abort changed a confirmed host");
        }
        if next.phase() == Phase::Draining && old.phase() == Phase::Staged {
            assert!(self.now().in_contact(), "drained without contact");
        }
        let settled = [Phase::Confirmed, Phase::Reverted, Phase::Failed];
        if settled.contains(&next.phase()) {
            assert_eq!(next.current, next.confirmed, "settled on what is not confirmed");
        }
    }
}
