//! One host: what really runs and is linked there, its agent's journal, and a shell that performs effects in simulated
//! time. It checks what must hold from each step of its machine to the next.

use std::collections::BTreeMap;

use windlass_proto::digest::Digest;
use windlass_proto::phase::{AppStatus, Attestation, Drained, Fault, Phase};
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::{Span, Timestamp};
use windlass_release::{
    BootTime, Checks, Done, Effect, Event, Health, Now, Observed, Progress, Refused, Staging, State,
    Supervision, status, step,
};

use crate::scenario::{Nature, app, release};
use windlass_tests::dice::Dice;

/// What will happen on the host by itself.
#[derive(Debug, Clone)]
pub(crate) enum Due {
    /// The effect of this turn ends.
    Answer(u64),
    /// Staging of an operation ends.
    Staged(windlass_proto::id::OpId),
    /// The probes have something to say.
    Probe(u64, Checks),
    /// The release shows what it is.
    Nature(u64),
    /// The machine wants to wake up.
    Tick,
}

/// A session as the agent sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) opened_at: BootTime,
    /// The last answer on it, or its dialling.
    pub(crate) answered: i64,
}

pub(crate) struct Host {
    /// What the journal holds.
    pub(crate) state: State,
    pub(crate) natures: BTreeMap<u8, Nature>,
    pub(crate) up: bool,
    /// Rises with each start of the agent: what was due for the one before is void.
    pub(crate) life: u64,
    pub(crate) sessions: u64,
    pub(crate) session: Option<Session>,
    pub(crate) contact: Option<BootTime>,
    /// Simulated time at which this boot began.
    pub(crate) booted: i64,
    pub(crate) link: Option<Digest>,
    pub(crate) confirmed_link: Option<Digest>,
    pub(crate) running: Option<Digest>,
    pending: Option<(u64, Effect)>,
    /// Releases that were ever confirmed here.
    confirmed_ever: Vec<Digest>,
    /// The agent dies after so many more steps, with so many of that step's effects done.
    pub(crate) dies: Option<(u64, usize)>,
    /// Since confirm the host went back by itself.
    pub(crate) by_itself: bool,
}

/// What the world is to do after a step.
#[derive(Debug, Default)]
pub(crate) struct After {
    pub(crate) due: Vec<(u64, Due)>,
    pub(crate) redial: bool,
    pub(crate) died: bool,
}

impl Host {
    /// A host that has long run release 1.
    pub(crate) fn new() -> Self {
        let first = release(1);
        let mut state = State::new(app());
        state.counter = first.counter;
        (state.current, state.confirmed) = (Some(first.clone()), Some(first.clone()));
        state.progress = Progress::Confirmed;
        state.supervision = Supervision::Up { since: BootTime(0) };
        let on = Some(first.digest);
        Self {
            state,
            natures: BTreeMap::new(),
            up: true,
            life: 1,
            sessions: 0,
            session: None,
            contact: None,
            booted: -1000,
            link: on,
            confirmed_link: on,
            running: on,
            pending: None,
            confirmed_ever: vec![first.digest],
            dies: None,
            by_itself: false,
        }
    }

    pub(crate) fn boot_time(&self, now: i64) -> BootTime {
        BootTime(u64::try_from(now - self.booted).unwrap())
    }

    fn now(&self, now: i64) -> Now {
        Now { boot: self.boot_time(now), wall: Timestamp(now), contact: self.contact }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state.phase()
    }

    pub(crate) fn status(&self) -> Box<AppStatus> {
        let impostor = self.state.current.as_ref().is_some_and(|it| self.nature(it) == Nature::Impostor);
        let proven = self.running.filter(|running| self.link == Some(*running) && !impostor);
        let attested = Attestation { ok: proven.is_some(), digest: proven, ..Attestation::default() };
        Box::new(status(&self.state, Observed { attested, held: vec![], evidence: vec![], hooks: vec![] }))
    }

    fn nature(&self, release: &ReleaseRef) -> Nature {
        let n = release.digest.as_bytes()[0];
        let at_hand = self.state.operation.as_ref().is_some_and(|operation| operation.to == *release);
        // What was confirmed by an earlier operation works here.
        if self.state.past().confirmed.contains(&release.digest) && !at_hand {
            return Nature::Good;
        }
        self.natures.get(&n).copied().unwrap_or(Nature::Good)
    }

    /// One event of the machine: checked, made durable, performed.
    pub(crate) fn feed(&mut self, event: Event, now: i64, dice: &mut Dice) -> Result<After, Refused> {
        let next = step(&self.state, event.clone(), self.now(now))?;
        self.check(&event, &next.state);
        self.state = next.state;
        let mut after = After::default();
        let mut effects = next.effects;
        if let Some((steps, done)) = &mut self.dies {
            if *steps == 0 {
                effects.truncate(*done);
                after.died = true;
            } else {
                *steps -= 1;
            }
        }
        let turn = self.state.turn;
        if let Some((_, effect)) = self.pending.take_if(|(of, _)| *of != turn)
            && dice.chance(50)
        {
            // Cancelled too late.
            self.apply(&effect);
        }
        for effect in effects {
            self.perform(turn, effect, &mut after, dice);
        }
        if let Some(at) = self.state.wake_at() {
            let delay = at.since(self.boot_time(now)).0;
            after.due.push((delay.max(1), Due::Tick));
        }
        if after.died {
            self.dies = None;
        }
        Ok(after)
    }

    fn perform(&mut self, turn: u64, effect: Effect, after: &mut After, dice: &mut Dice) {
        match &effect {
            Effect::Stage { op, .. } => after.due.push((200 + dice.below(2000), Due::Staged(op.clone()))),
            Effect::Probe { checks, .. } => {
                after.due.push((200 + dice.below(1500), Due::Probe(turn, *checks)))
            }
            Effect::WriteConfirmed { release } => self.confirmed_link = release.as_ref().map(|r| r.digest),
            Effect::Redial => after.redial = true,
            Effect::Prune { keep } => {
                let linked = [self.link, self.confirmed_link];
                for digest in linked.into_iter().flatten() {
                    assert!(keep.contains(&digest), "pruned while linked");
                }
            }
            _ => {}
        }
        if effect.is_answered() {
            let long = match &effect {
                Effect::Drain { release } if self.leaving(release) == Nature::DrainsTooLong => 200_000,
                Effect::Drain { .. } | Effect::Stop { .. } => 3000,
                _ => 300,
            };
            after.due.push((50 + dice.below(long), Due::Answer(turn)));
            self.pending = Some((turn, effect));
        }
    }

    /// A drain that hangs is the fault of connections to the old release; here the new one stands for it.
    fn leaving(&self, _old: &ReleaseRef) -> Nature {
        self.state.operation.as_ref().map_or(Nature::Good, |operation| self.nature(&operation.to))
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Stop { .. } => self.running = None,
            Effect::Switch { to } => self.link = to.as_ref().map(|release| release.digest),
            Effect::Start { release } if self.nature(release) != Nature::DoesNotStart => {
                assert!(self.running.is_none_or(|other| other == release.digest), "two releases at once");
                assert_eq!(self.link, Some(release.digest), "started what the link does not name");
                self.running = Some(release.digest);
            }
            _ => {}
        }
    }

    /// The event that something due turns into, if it still matters.
    pub(crate) fn happens(&mut self, due: Due, after: &mut After, dice: &mut Dice) -> Option<Event> {
        match due {
            Due::Tick => Some(Event::Tick),
            Due::Answer(turn) => {
                let (of, effect) = self.pending.take_if(|(of, _)| *of == turn)?;
                self.apply(&effect);
                Some(self.answer(of, &effect))
            }
            Due::Staged(op) => {
                let operation = self.state.operation.as_ref().filter(|operation| operation.op == op)?;
                let news = if self.nature(&operation.to) == Nature::NotStageable {
                    Staging::Failed { fault: Fault::Policy, reason: "signature by an unknown key".into() }
                } else if dice.chance(2) {
                    Staging::Failed { fault: Fault::Transport, reason: "the coordinator went away".into() }
                } else {
                    Staging::Done
                };
                Some(Event::Staging { op, news })
            }
            Due::Probe(turn, checks) => {
                if turn != self.state.probe_turn {
                    return None;
                }
                let current = self.state.current.clone()?;
                let health = match (checks, self.nature(&current)) {
                    (Checks::Startup, _) => Health::StartupPassed,
                    (Checks::Service, Nature::NeverReady) => Health::NotReady { why: "status 503".into() },
                    (Checks::Service, nature) => {
                        let young = self.state.phase() != Phase::Confirmed || self.state.watch.is_some();
                        if young && matches!(nature, Nature::DiesInTrial | Nature::DiesInWatch) {
                            after.due.push((2500 + dice.below(4000), Due::Nature(turn)));
                        }
                        Health::Ready
                    }
                };
                Some(Event::Health { turn, health })
            }
            Due::Nature(turn) => {
                let health = Health::LivenessFailed { why: "status 500".into() };
                (turn == self.state.probe_turn).then_some(Event::Health { turn, health })
            }
        }
    }

    fn answer(&self, turn: u64, effect: &Effect) -> Event {
        let done = |done| Event::Done { turn, done };
        match effect {
            Effect::Drain { .. } => done(Done::Drained(Drained { in_flight: 2, closed: 2, cut: 0 })),
            Effect::Undrain { .. } => done(Done::Undrained),
            Effect::Stop { .. } => done(Done::Stopped { cut: 0 }),
            Effect::Switch { .. } => done(Done::Switched),
            Effect::Start { release } if self.nature(release) == Nature::DoesNotStart => {
                Event::Failed { turn, fault: Fault::App, reason: "exec format error".into() }
            }
            Effect::Start { release } if self.nature(release) == Nature::HookFails => {
                Event::Failed { turn, fault: Fault::App, reason: "hook application_start failed".into() }
            }
            Effect::Start { .. } => done(Done::Started),
            Effect::Adopt { release } if self.running == Some(release.digest) => done(Done::Adopted),
            Effect::Adopt { .. } => Event::AppExited { turn, how: "not running".into() },
            Effect::Smoke { release } if self.nature(release) == Nature::SmokeFails => {
                done(Done::SmokeFailed { why: "status 500".into() })
            }
            Effect::Smoke { .. } => done(Done::SmokePassed),
            Effect::Admit { .. } => done(Done::Admitted),
            other => panic!("{other:?} has no answer"),
        }
    }

    /// The agent dies, perhaps with the host.
    pub(crate) fn die(&mut self, reboot: bool, now: i64, down: u64, dice: &mut Dice) {
        if let Some((_, effect)) = self.pending.take()
            && dice.chance(50)
        {
            self.apply(&effect);
        }
        let journal = serde_json::to_string(&self.state).unwrap();
        self.state = serde_json::from_str(&journal).unwrap();
        self.up = false;
        self.life += 1;
        (self.session, self.contact) = (None, None);
        if reboot {
            self.running = None;
            self.link = self.confirmed_link;
            self.booted = now + i64::try_from(down).unwrap() - 5000;
        }
    }

    fn check(&mut self, event: &Event, next: &State) {
        let old = &self.state;
        assert!(next.epoch >= old.epoch && next.counter >= old.counter, "P6: {event:?}");
        assert!(next.seq > old.seq);
        if next.confirmed != old.confirmed {
            let by_confirm = matches!(event, Event::Confirm { .. }) && next.phase() == Phase::Confirmed;
            let by_watch = old.phase() == Phase::Confirmed && next.confirmed.as_ref() == old.history.first();
            assert!(by_confirm || by_watch, "P3: {event:?} changed what is confirmed");
            if by_confirm {
                let digest = next.confirmed.as_ref().unwrap().digest;
                assert_eq!(self.running, Some(digest), "confirmed what does not run");
                let release = next.confirmed.clone().unwrap();
                assert_ne!(self.nature(&release), Nature::Impostor, "confirmed what is not attested");
                self.confirmed_ever.push(digest);
            }
            self.by_itself = by_watch;
        }
        if next.phase() == Phase::Reverting
            && let Some(to) = &next.confirmed
        {
            assert!(self.confirmed_ever.contains(&to.digest), "P5: a revert to what was never confirmed");
        }
        if next.phase() == Phase::Draining && old.phase() == Phase::Staged {
            assert!(self.contact.is_some(), "drained without contact");
        }
    }

    /// Whether the rollout's doing has the host out of service, or serving unconfirmed.
    pub(crate) fn is_out(&self) -> bool {
        matches!(
            self.phase(),
            Phase::Draining
                | Phase::Undraining
                | Phase::Stopping
                | Phase::Switching
                | Phase::Starting
                | Phase::Verifying
                | Phase::Admitting
                | Phase::Trial
        ) || self.phase() == Phase::Reverting && !self.by_itself
    }
}

/// How long an agent takes to dial again when nothing answers.
pub(crate) const DIAL_AGAIN: Span = Span::secs(10);
