//! Following a rollout to its end.
//!
//! [`follow`] reads the stream and decides when to stop; what is shown is pure: [`live`] for a terminal,
//! [`changes`] as lines elsewhere, [`summary`] at the end, [`seen`] in both. [`retry`] and [`interrupt`] are for anything that follows.

pub mod changes;
pub mod interrupt;
pub mod live;
pub mod retry;
pub mod seen;
pub mod summary;

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use windlass_proto::rpc::{ErrorKind, Rollout, RolloutRequest};
use windlass_proto::shown::Texts as _;
use windlass_proto::time::Span;

use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json, text};
use interrupt::Interrupt;
use live::Screen;
use retry::Retry;

const REDRAW: Duration = Duration::from_millis(200);

/// What whoever follows a rollout wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// That it succeeds.
    Success,
    /// That it ends with its hosts back where they were: it was aborted.
    Abort,
    /// That it ends, however: it was aborted for what takes its place. It is not what was asked about, so that programs
    /// read nothing of it.
    MakeWay,
}

/// Follows a rollout until it ended, needs a person, or the watcher has had enough. `first` is its state as known.
pub async fn follow(
    invocation: &Invocation,
    client: &Client,
    id: &str,
    first: Option<Rollout>,
    aim: Aim,
    timeout: Option<Span>,
) -> Result {
    let mut interrupt = Interrupt::listen()?;
    let deadline = timeout.map(|span| Instant::now() + span.std());
    let mut watcher = Watcher::new(invocation, aim);
    if let Some(first) = first {
        watcher.take(first)?;
    }
    let mut retry = Retry::default();
    loop {
        let end = {
            let session = Box::pin(session(&mut watcher, client, id, &mut retry));
            tokio::select! {
                end = session => end?,
                () = interrupt.first() => End::Detached,
                () = past(deadline) => End::TimedOut,
            }
        };
        match end {
            End::Settled(exit) => return watcher.finish(exit),
            End::Detached => return Ok(watcher.detached(id)),
            End::TimedOut => return Err(watcher.timed_out(id, timeout)),
            End::Broken(status) => {
                let patient = tokio::select! {
                    patient = watcher.wait(&mut retry, &status) => patient,
                    () = interrupt.first() => return Ok(watcher.detached(id)),
                    () = past(deadline) => return Err(watcher.timed_out(id, timeout)),
                };
                if !patient {
                    watcher.screen.clear();
                    let error = client.failure(&format!("cannot follow rollout {id}"), &status);
                    return Err(match ErrorKind::of(&status).is_transient() {
                        true => error.hint(format!("windlass rollout watch {id}    (the rollout goes on)")),
                        false => error,
                    });
                }
            }
        }
    }
}

enum End {
    Settled(Exit),
    Broken(Status),
    Detached,
    TimedOut,
}

async fn past(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// One stream of the coordinator, until it says the last word or breaks.
async fn session(watcher: &mut Watcher<'_>, client: &Client, id: &str, retry: &mut Retry) -> Result<End> {
    if let Some(exit) = watcher.settled() {
        return Ok(End::Settled(exit));
    }
    let request = RolloutRequest { id: id.to_owned(), reason: String::new() };
    let mut stream = match client.rollouts.clone().watch(request).await {
        Ok(response) => tonic::Response::into_inner(response),
        Err(status) => return Ok(End::Broken(status)),
    };
    let mut tick = tokio::time::interval(REDRAW);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            next = client.next(&mut stream) => match next {
                Ok(Some(rollout)) => {
                    retry.reset();
                    watcher.take(rollout)?;
                    if let Some(exit) = watcher.settled() {
                        return Ok(End::Settled(exit));
                    }
                }
                Ok(None) => return Ok(End::Broken(Status::unavailable("the coordinator ended the stream"))),
                Err(status) => return Ok(End::Broken(status)),
            },
            _ = tick.tick() => {
                watcher.redraw();
                if let Some(exit) = watcher.settled() {
                    return Ok(End::Settled(exit));
                }
            }
        }
    }
}

struct Watcher<'a> {
    invocation: &'a Invocation,
    aim: Aim,
    screen: Screen,
    /// For people.
    last: Option<Rollout>,
    /// The same for programs, where one reads.
    raw: Option<Rollout>,
    away: bool,
    /// Since when the rollout waits for hosts to come back.
    waiting_since: Option<Instant>,
}

impl<'a> Watcher<'a> {
    fn new(invocation: &'a Invocation, aim: Aim) -> Self {
        let screen = if invocation.out.is_live() { Screen::terminal() } else { Screen::none() };
        Self { invocation, aim, screen, last: None, raw: None, away: false, waiting_since: None }
    }

    /// A state of the rollout came.
    fn take(&mut self, rollout: Rollout) -> Result<()> {
        let out = &self.invocation.out;
        if self.last.as_ref().is_some_and(|last| last.version == rollout.version && rollout.version != 0) {
            return Ok(());
        }
        if std::mem::take(&mut self.away) && !self.screen.is_live() {
            out.talk(&format!("{} {} the coordinator is back", text::clock(text::now_ms()), rollout.id));
        }
        if out.format == Format::Jsonl && self.aim != Aim::MakeWay {
            out.line(&json::wrap("Rollout", json::rollout(&rollout)).to_string())?;
        }
        let raw = out.format.is_structured().then(|| rollout.clone());
        let rollout = rollout.for_eyes();
        if !self.screen.is_live() {
            for line in changes::lines(self.last.as_ref(), &rollout) {
                out.talk(&format!("{} {} {line}", text::clock(text::now_ms()), rollout.id));
            }
        }
        self.waiting_since =
            summary::waits_for_hosts(&rollout).then(|| self.waiting_since.unwrap_or_else(Instant::now));
        (self.last, self.raw) = (Some(rollout), raw);
        self.redraw();
        Ok(())
    }

    fn redraw(&mut self) {
        if let Some(rollout) = &self.last {
            self.screen.draw(&live::render(rollout, text::now_ms(), self.away));
        }
    }

    /// How watching ends now, if it does.
    fn settled(&self) -> Option<Exit> {
        let waited = self.waiting_since.map_or(Duration::ZERO, |since| since.elapsed());
        let rollout = self.last.as_ref()?;
        match self.aim {
            Aim::Success => summary::verdict(rollout, waited),
            Aim::Abort => summary::verdict_of_abort(rollout),
            Aim::MakeWay => (rollout.ended_at_ms != 0).then_some(Exit::Done),
        }
    }

    /// Says that the coordinator is away, and waits; false when patience is at its end.
    async fn wait(&mut self, retry: &mut Retry, status: &Status) -> bool {
        let first = !std::mem::replace(&mut self.away, true);
        if first && ErrorKind::of(status).is_transient() && !self.screen.is_live() {
            let id = self.last.as_ref().map_or("", |r| r.id.as_str());
            let now = text::clock(text::now_ms());
            self.invocation.out.talk(&format!("{now} {id} the coordinator is away; trying again"));
        }
        self.redraw();
        retry.wait(status).await
    }

    fn finish(&mut self, exit: Exit) -> Result {
        self.screen.clear();
        let Some(rollout) = &self.last else { return Ok(exit) };
        let out = &self.invocation.out;
        match out.format {
            _ if self.aim == Aim::MakeWay => {}
            Format::Json | Format::Yaml => {
                let rollout = self.raw.as_ref().unwrap_or(rollout);
                out.object(&json::wrap("Rollout", json::rollout(rollout)))?;
            }
            Format::Name => out.line(&rollout.id)?,
            _ => {}
        }
        match exit {
            Exit::Done if self.aim != Aim::Success => {
                let (title, place) = (summary::title(rollout), summary::where_the_fleet_is(rollout));
                out.step("Aborted", &format!("{title}: {place}"));
                Ok(Exit::Done)
            }
            Exit::Done => {
                for (verb, line) in summary::success(rollout) {
                    out.step(verb, &line);
                }
                Ok(Exit::Done)
            }
            exit => {
                for line in summary::failures(rollout) {
                    out.talk(&line);
                }
                Err(summary::error(rollout, exit))
            }
        }
    }

    fn detached(&mut self, id: &str) -> Exit {
        self.screen.clear();
        let out = &self.invocation.out;
        out.talk(&format!("Detached: rollout {id} goes on."));
        out.talk(&format!("windlass rollout watch {id}    (to follow it again)"));
        if self.aim == Aim::Success {
            out.talk(&format!("windlass rollout abort {id}    (to stop it and go back)"));
        }
        Exit::Interrupted
    }

    fn timed_out(&mut self, id: &str, timeout: Option<Span>) -> ExpectedError {
        self.screen.clear();
        let timeout = timeout.unwrap_or_default();
        ExpectedError::new(
            Exit::TimedOut,
            format!("rollout {id} is still under way after {timeout}; it goes on"),
        )
        .hint(format!("windlass rollout watch {id}"))
    }
}
