//! The one loop of the agent: an event, a step of the machine, the journal, the effects, the status.
//!
//! The `select!` only makes an input; `Driver::handle` deals with it and never waits for anything but the disk.

mod orders;
mod rules;
mod table;
mod unwilling;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use windlass_proto::id::{AppName, OpId};
use windlass_proto::phase::Phase;
use windlass_proto::time::Span;
use windlass_proto::trace::Spans;
use windlass_release::{BootTime, Effect, Event, LEASE_FRESH, Now, Refused, State, status, step};

use self::rules::{ending, in_words, instead, may_go_unrecorded};
use self::unwilling::Unwilling;
use crate::clock;
use crate::dispatch::{Finding, Found, Lanes, Yard};
use crate::exchange::{FromSession, Published, Under};
use crate::failpoint;
use crate::metrics::Counted;
use crate::network;
use crate::perform::chain;
use crate::pulse::Pulse;
use crate::recover::{Ledger, Left};
use crate::store::Change;
use crate::traced;

/// Longest sleep: the boot clock goes on in suspend, the runtime's timers do not.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Pause after the journal refused a step.
const REFUSED_FOR: Span = Span::secs(1);

/// How long effects may take to come to an end when the agent does.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Owns the states of all apps.
#[derive(Debug)]
pub struct Driver {
    apps: BTreeMap<AppName, App>,
    ledger: Ledger,
    yard: Yard,
    orders: mpsc::Receiver<FromSession>,
    found: mpsc::Receiver<Found>,
    published: watch::Sender<Published>,
    /// The leadership of the order at hand.
    ordering: Option<Under>,
    contact: Option<BootTime>,
    /// Where the coordinators are, once that is known.
    coordinators: Arc<OnceLock<Vec<SocketAddr>>>,
    /// The journal refused a step: nothing that is due is tried again before then.
    refused_until: BootTime,
    /// When releases are looked through next for what need not stay.
    sweep_at: BootTime,
    /// The highest number of a status of an app that was forgotten.
    newest_forgotten: u64,
    /// For the metrics.
    counted: Counted,
    /// To a collector of traces.
    spans: Spans,
}

#[derive(Debug)]
struct App {
    state: State,
    lanes: Lanes,
    detail: String,
    /// Under which the operation at hand was ordered, in this run of the agent.
    under: Option<Under>,
    /// Whether the journal has it. It has not before the first release was shown to be signed.
    on_record: bool,
}

/// Something to deal with.
enum Input {
    Session(FromSession),
    Found(Found),
    Timer,
}

impl Driver {
    /// A driver that has taken up again whatever was left; effects are under way and the status is published.
    pub fn new(
        ledger: Ledger,
        left: Vec<Left>,
        yard: Yard,
        orders: mpsc::Receiver<FromSession>,
        found: mpsc::Receiver<Found>,
        published: watch::Sender<Published>,
    ) -> Self {
        let mut driver = Self {
            apps: BTreeMap::new(),
            ledger,
            yard,
            orders,
            found,
            published,
            ordering: None,
            contact: None,
            coordinators: Arc::default(),
            refused_until: BootTime(0),
            sweep_at: BootTime(0),
            newest_forgotten: 0,
            counted: Counted::default(),
            spans: Spans::default(),
        };
        driver.sweep_later();
        let obeyed = driver.ledger.obeyed().cloned();
        driver.published.send_modify(|published| published.obeyed = obeyed);
        for Left { state, same_boot } in left {
            let app = state.app.clone();
            tracing::info!(%app, phase = %state.phase(), same_boot, "app recovered");
            driver.adopt(state, true);
            driver.found(&app, Event::Recovered { same_boot });
        }
        driver
    }

    /// Where the coordinators' addresses are put, by which it is seen whether there is a way to them.
    pub fn coordinators(&self) -> Arc<OnceLock<Vec<SocketAddr>>> {
        Arc::clone(&self.coordinators)
    }

    /// The same, telling a collector of traces.
    #[must_use]
    pub fn telling(self, spans: Spans) -> Self {
        Self { spans, ..self }
    }

    /// What it counts.
    pub fn counted(&self) -> Counted {
        self.counted.clone()
    }

    /// Runs until `stop`; then lets effects come to an end. Applications go on.
    pub async fn run(mut self, pulse: Pulse, stop: CancellationToken) {
        loop {
            pulse.beat();
            let pause = self.pause();
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(found) = self.found.recv() => Input::Found(found),
                Some(order) = self.orders.recv() => Input::Session(order),
                () = sleep(pause) => Input::Timer,
            };
            self.handle(input);
        }
        pulse.rest();
        let lanes = self.apps.into_values().map(|app| app.lanes.finish());
        // What they find now has no listener; it is found again at the next start.
        drop(self.found);
        if timeout(END_WITHIN, futures::future::join_all(lanes)).await.is_err() {
            tracing::warn!("effects did not end in time; they are taken up at the next start");
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Session(order) => self.order(order),
            Input::Found(Found { app, finding: Finding::Detail(text) }) => {
                self.tell(&app, text);
            }
            Input::Found(Found { app, finding: Finding::Outcome(outcome) }) => {
                if let Some(app) = self.apps.get(&app) {
                    app.lanes.performed.add(&outcome.performed);
                }
                let event = self.still_obeyed(&app, outcome.event);
                let event = self.if_it_fits(&app, event);
                let stepped = self.found(&app, event);
                if let (true, Some(process), Some(app)) = (stepped, outcome.process, self.apps.get_mut(&app))
                {
                    app.lanes.watch(app.state.run_turn, process);
                }
            }
            Input::Timer => {
                let now = BootTime(clock::boot_ms());
                let due = |app: &&App| app.state.wake_at().is_some_and(|at| at <= now);
                let due: Vec<_> = self.apps.values().filter(due).map(|app| app.state.app.clone()).collect();
                for app in due {
                    // A trial that nobody confirmed: what has become of the network?
                    self.look_at_network(&app, Phase::Trial);
                    self.found(&app, Event::Tick);
                }
                if now >= self.sweep_at {
                    self.sweep_later();
                    let settled = self.apps.values_mut().filter(|app| app.state.is_settled());
                    settled.for_each(|app| app.lanes.sweep());
                }
            }
        }
    }

    fn with_operation(&self, op: &OpId) -> Option<AppName> {
        let has_it = |app: &&App| app.state.operation.as_ref().is_some_and(|operation| operation.op == *op);
        self.apps.values().find(has_it).map(|app| app.state.app.clone())
    }

    fn look_at_network(&mut self, app: &AppName, during: Phase) {
        let Some(state) = self.apps.get(app).map(|app| &app.state).filter(|it| it.phase() == during) else {
            return;
        };
        // A trial may be shorter than a lease is fresh: what was heard before it says nothing of it.
        let trial = state.operation.as_ref().map(|operation| operation.order.host.confirm_timeout);
        let within = trial.map_or(LEASE_FRESH, |trial| LEASE_FRESH.min(Span(trial.0 / 2)));
        let within = if during == Phase::Trial { within } else { LEASE_FRESH };
        let now = BootTime(clock::boot_ms());
        let contact = self.contact.is_some_and(|at| now.since(at) < within);
        let coordinators = self.coordinators.get().map_or(&[][..], Vec::as_slice);
        let seen = network::look(contact, coordinators);
        self.found(app, Event::Network(seen));
    }

    fn highest_epoch(&self) -> u64 {
        self.apps.values().map(|app| app.state.epoch).max().unwrap_or(0)
    }

    /// A step by what the host itself has found. What does not apply any more needs no answer. Says whether it counted.
    fn found(&mut self, name: &AppName, event: Event) -> bool {
        let shown = tracing::enabled!(tracing::Level::DEBUG).then(|| format!("{event:?}"));
        match self.step(name, event) {
            Ok(()) => return true,
            Err(Unwilling::Refused(Refused::NothingDue)) => {}
            Err(why @ Unwilling::Refused(Refused::Overtaken { .. } | Refused::NotNow(_))) => {
                tracing::debug!(app = %name, %why, event = shown, "event refused");
            }
            Err(why) => tracing::warn!(app = %name, %why, event = shown, "event refused"),
        }
        false
    }

    /// One step of one app: decide, make durable, act, tell.
    fn step(&mut self, name: &AppName, event: Event) -> Result<(), Unwilling> {
        let now = Now { boot: BootTime(clock::boot_ms()), wall: clock::wall(), contact: self.contact };
        let place = self.place();
        let app = self.apps.get_mut(name).ok_or_else(|| Unwilling::NoApp(name.clone()))?;
        let shown = tracing::enabled!(tracing::Level::DEBUG).then(|| format!("{event:?}"));
        let mut next = step(&app.state, event, now)?;
        let (before, after) = (app.state.phase(), next.state.phase());
        let accepted = orders::accepted(self.ordering.as_ref(), app.under.as_ref(), &next.state);
        let on_record = app.on_record || next.state.has_place();
        let forgotten = if on_record && !app.on_record { place? } else { None };
        if let Some(former) = forgotten.as_ref().and_then(|name| self.apps.get(name)) {
            // What was obeyed for it was obeyed by the host.
            next.state.epoch = next.state.epoch.max(former.state.epoch);
        }
        let ledger = &mut self.ledger;
        let kept = match on_record {
            true => {
                tokio::task::block_in_place(|| ledger.keep_under(&next.state, accepted, forgotten.as_ref()))
            }
            false => Ok(()),
        };
        let app = self.apps.get_mut(name).ok_or_else(|| Unwilling::NoApp(name.clone()))?;
        if let Err(error) = kept {
            let error = chain(&error);
            self.published.send_if_modified(|published| published.add_problem(&error));
            if !may_go_unrecorded(before, after) {
                tracing::error!(app = %name, error, phase = %before, "step not taken: it cannot be made durable");
                self.refused_until = now.boot.after(REFUSED_FOR);
                return match instead(&app.state, &next.state, &error) {
                    Some(event) => {
                        if after == Phase::Assigned {
                            // Known, so that its failure is its own.
                            app.state = next.state;
                        }
                        self.step(name, event)
                    }
                    None => Err(Unwilling::Unrecorded(error)),
                };
            }
            tracing::error!(app = %name, error, phase = %after, "step taken although it cannot be made durable");
        }
        app.on_record = on_record;
        if on_record {
            app.lanes.performed.recorded();
        }
        if before != after {
            tracing::info!(app = %name, from = %before, phase = %after, event = shown, "phase");
            app.detail.clear();
        }
        self.point_confirmed(name, &next.effects);
        let app = self.apps.get_mut(name).ok_or_else(|| Unwilling::NoApp(name.clone()))?;
        let ended = ending(&app.state, &next.state);
        self.counted.step(&app.state, &next.state);
        if self.spans.is_on() {
            traced::over(&app.state, &next.state).into_iter().for_each(|span| self.spans.tell(span));
        }
        app.state = next.state;
        let redial = next.effects.contains(&Effect::Redial);
        app.lanes.dispatch(&app.state, next.effects, &in_words(now));
        if let Some(row) = ended {
            let host = self.yard.host.clone();
            // Nobody waits for the row, and nothing depends on it.
            drop(tokio::task::spawn_blocking(move || host.remember(vec![Change::Ended(row)])));
        }
        if redial {
            self.redial(name);
        }
        self.publish(name);
        if let Some(forgotten) = forgotten {
            self.forget(&forgotten);
        }
        Ok(())
    }

    /// The host says "confirmed" only when a boot without an agent would say so too. What fails here is tried again by
    /// the effect itself.
    fn point_confirmed(&self, name: &AppName, effects: &[Effect]) {
        for effect in effects {
            let Effect::WriteConfirmed { release } = effect else { continue };
            failpoint::before(effect.name());
            let pointed =
                tokio::task::block_in_place(|| self.yard.host.point_confirmed(name, release.as_ref()));
            if let Err(error) = pointed {
                tracing::error!(app = %name, error = chain(&error), "confirmed link not written yet");
            }
        }
    }

    /// New words about what an app is at, between two steps. They are worth no look at the host.
    fn tell(&mut self, name: &AppName, text: String) {
        let Some(app) = self.apps.get_mut(name) else { return };
        app.detail.clone_from(&text);
        self.published.send_if_modified(|published| match published.apps.get_mut(name) {
            Some(status) if status.detail != text => {
                Arc::make_mut(status).detail = text;
                true
            }
            _ => false,
        });
    }

    fn redial(&self, name: &AppName) {
        let effect = Effect::Redial.name();
        failpoint::before(effect);
        self.published.send_modify(|published| published.redials += 1);
        if let Some(app) = self.apps.get(name) {
            app.lanes.performed.after(effect);
        }
    }

    fn publish(&self, name: &AppName) {
        let Some(app) = self.apps.get(name) else { return };
        let observed = tokio::task::block_in_place(|| self.yard.host.observe(&app.state));
        let mut status = status(&app.state, observed);
        if !app.detail.is_empty() {
            status.detail.clone_from(&app.detail);
        }
        let (highest_epoch, obeyed) = (self.highest_epoch(), self.ledger.obeyed().cloned());
        self.published.send_modify(|published| {
            published.apps.insert(name.clone(), Arc::new(status));
            published.highest_epoch = highest_epoch;
            published.obeyed = obeyed;
        });
    }

    /// Until the next deadline of any app, or the next sweep.
    fn pause(&self) -> Duration {
        let now = BootTime(clock::boot_ms());
        let next = self.apps.values().filter_map(|app| app.state.wake_at()).min();
        let next = next.map(|at| at.max(self.refused_until));
        let next = next.map_or(self.sweep_at, |at| at.min(self.sweep_at));
        next.since(now).std().min(LONGEST_SLEEP)
    }

    fn sweep_later(&mut self) {
        self.sweep_at = BootTime(clock::boot_ms()).after(self.yard.host.retention.every);
    }
}
