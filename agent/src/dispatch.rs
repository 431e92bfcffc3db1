//! One app's lanes: what the machine asks for becomes tasks here, strictly one after the other where it is about what
//! runs, and beside that where it is about fetching.

pub(crate) mod stage;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, OpId};
use windlass_proto::release::ReleaseRef;
use windlass_release::{Checks, Effect, Event, Lane, Progress, Staging, State};

use crate::failpoint::{self, Performed};
use crate::hook::Stops;
use crate::mend::{self, Mend};
use crate::perform::{Brief, Host, Outcome, Teller, chain};
use crate::probe::engine::{self, Sight};
use crate::probe::{Target, Transcripts};
use crate::runtime::Launch;
use crate::runtime::process::{exited, in_words};
use crate::session::{Bulk, BulkError};
use crate::shim::order::Started;
use crate::staging::{Order, Stager};

/// Where connections for fetching come from.
#[async_trait]
pub trait Uplink: std::fmt::Debug + Send + Sync {
    /// A new connection.
    async fn channel(&self) -> Result<Channel, BulkError>;
}

#[async_trait]
impl Uplink for Bulk {
    async fn channel(&self) -> Result<Channel, BulkError> {
        Self::channel(self).await
    }
}

/// What a task found, for the driver.
#[derive(Debug)]
pub struct Found {
    /// Of this app.
    pub app: AppName,
    /// What.
    pub finding: Finding,
}

/// See [`Found`].
#[derive(Debug)]
pub enum Finding {
    /// For the machine.
    Outcome(Box<Outcome>),
    /// For people: what a probe is at.
    Detail(String),
}

/// What all lanes share.
#[derive(Debug, Clone)]
pub struct Yard {
    /// What effects work with.
    pub host: Arc<Host>,
    /// Brings releases here.
    pub stager: Arc<Stager>,
    /// The way to the coordinator.
    pub uplink: Arc<dyn Uplink>,
    /// How many releases may be staged at once.
    pub slots: Arc<Semaphore>,
    /// To the driver.
    pub found: mpsc::Sender<Found>,
    /// Why no release is taken, where that is so.
    pub safe_mode: Option<Arc<str>>,
}

/// The lanes of one app.
#[derive(Debug)]
pub struct Lanes {
    app: AppName,
    yard: Yard,
    job: Option<Job>,
    staging: Option<StageJob>,
    probing: Option<AbortOnDropHandle<()>>,
    watcher: Option<AbortOnDropHandle<()>>,
    transcripts: Arc<Transcripts>,
    keep: Arc<Mutex<Vec<Digest>>>,
    sweeping: Option<JoinHandle<()>>,
    /// What the app's next record is the first after.
    pub performed: Performed,
}

#[derive(Debug)]
struct Job {
    turn: u64,
    stops: Stops,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct StageJob {
    op: OpId,
    cancel: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Lanes {
    /// An app's lanes, with nothing on them.
    pub fn new(app: AppName, yard: Yard) -> Self {
        Self {
            app,
            yard,
            job: None,
            staging: None,
            probing: None,
            watcher: None,
            transcripts: Arc::default(),
            keep: Arc::default(),
            sweeping: None,
            performed: Performed::default(),
        }
    }

    /// Begins what a step asks for. `state` is the step's, durable by now; `contact` is the contact with the coordinator
    /// in words.
    pub fn dispatch(&mut self, state: &State, effects: Vec<Effect>, contact: &str) {
        *self.keep.lock().unwrap_or_else(PoisonError::into_inner) = state.keep();
        if let Some(job) = self.job.as_ref().filter(|job| job.turn != state.turn) {
            job.stops.cancel.cancel();
        }
        let mut in_order = Vec::new();
        for effect in effects {
            let name = effect.name();
            tracing::debug!(app = %self.app, turn = state.turn, effect = name, "effect begins");
            match effect {
                Effect::Stage { op, release } => self.stage(name, state, op, release),
                Effect::CancelStage { op } => self.at_once(name, |this| {
                    if this.staging.as_ref().is_some_and(|job| job.op == op) {
                        this.cancel_staging();
                    }
                }),
                Effect::Probe { release, checks } => {
                    self.at_once(name, |this| this.probe(state.probe_turn, release, checks));
                }
                Effect::StopProbes => self.at_once(name, |this| this.probing = None),
                // The driver's.
                Effect::Redial => {}
                other => {
                    debug_assert_eq!(other.lane(), Lane::Host);
                    in_order.push(other);
                }
            }
        }
        if state.run_turn == 0 {
            self.watcher = None;
        }
        if !in_order.is_empty() {
            self.begin(state, in_order, contact);
        }
    }

    /// Ends what is being fetched; nothing more is heard of it.
    pub fn cancel_staging(&self) {
        // It is not dropped: it has a half-written directory to remove.
        if let Some(job) = &self.staging {
            job.cancel.cancel();
        }
    }

    fn at_once(&mut self, effect: &'static str, work: impl FnOnce(&mut Self)) {
        failpoint::before(effect);
        work(self);
        self.performed.after(effect);
    }

    /// Performs effects in order, after what is still being done has ended or noticed that it is cancelled.
    fn begin(&mut self, state: &State, effects: Vec<Effect>, contact: &str) {
        let stops = Stops::default();
        let brief = Brief {
            app: self.app.clone(),
            turn: state.turn,
            operation: state.operation.clone(),
            stops: stops.clone(),
            contact: contact.to_owned(),
            teller: Teller { app: self.app.clone(), found: self.yard.found.clone() },
            transcripts: self.transcripts.clone(),
            keep: self.keep.clone(),
        };
        let before = self.job.take().map(|job| job.task);
        let mend = matches!(state.progress, Progress::Reverting { .. }).then(|| Mend {
            yard: self.yard.clone(),
            operation: state.operation.clone(),
            seen: state.counter,
        });
        let (host, found, cancelled) =
            (self.yard.host.clone(), self.yard.found.clone(), stops.cancel.clone());
        let unanswered = self.performed.clone();
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                // A panic in there was told by the runtime; what it leaves undone has a deadline in the machine.
                let _ = before.await;
            }
            // How the step's effect went is told when the hooks after it have passed.
            let mut answer = None;
            let performed = Performed::default();
            for effect in effects {
                let name = effect.name();
                failpoint::before(name);
                let outcome = if is_cancellable(&effect) {
                    cancelled.run_until_cancelled(host.perform(&brief, effect)).await.flatten()
                } else {
                    mend::perform(&host, &brief, effect, mend.as_ref()).await
                };
                performed.after(name);
                if let Some(outcome) = outcome {
                    let goes_on = matches!(&outcome.event, Event::Done { done, .. } if done.goes_on());
                    answer = Some(outcome);
                    if !goes_on {
                        break;
                    }
                }
            }
            if let Some(outcome) = answer {
                let finding = Finding::Outcome(Box::new(Outcome { performed, ..outcome }));
                let _ = found.send(Found { app: brief.app.clone(), finding }).await;
            } else {
                unanswered.add(&performed);
            }
        });
        self.job = Some(Job { turn: state.turn, stops, task });
    }

    /// Watches a process that was started or adopted under this turn, from now on.
    pub fn watch(&mut self, turn: u64, process: Box<Started>) {
        let (app, found, run) =
            (self.app.clone(), self.yard.found.clone(), self.yard.host.run_dir(&self.app));
        self.watcher = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let exit = exited(&run, &process).await;
            let how = exit.as_ref().map_or_else(|| "it vanished".to_owned(), |exit| in_words(Some(exit)));
            tracing::warn!(%app, pid = process.app.pid, how, "app ended");
            let finding = Finding::Outcome(Box::new(Event::AppExited { turn, how }.into()));
            let _ = found.send(Found { app, finding }).await;
        })));
    }

    fn probe(&mut self, turn: u64, release: ReleaseRef, checks: Checks) {
        let (app, found, host) = (self.app.clone(), self.yard.found.clone(), self.yard.host.clone());
        let transcripts = self.transcripts.clone();
        self.probing = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let loading = host.clone();
            let launch = tokio::task::spawn_blocking(move || loading.launch(&release)).await;
            let read = launch.map_err(|error| error.to_string());
            let launch = match read.and_then(|launch| launch.map_err(|error| chain(&error))) {
                Ok(launch) => launch,
                Err(problem) => {
                    let reason = format!("the release cannot be read, so it cannot be probed: {problem}");
                    let finding = Finding::Outcome(Box::new(Event::CannotProbe { turn, reason }.into()));
                    let _ = found.send(Found { app, finding }).await;
                    return;
                }
            };
            let target = Target { host: host.context.clone(), launch: Launch::clone(&launch) };
            let wrap = move |sight| {
                let finding = match sight {
                    Sight::Health(health) => {
                        Finding::Outcome(Box::new(Event::Health { turn, health }.into()))
                    }
                    Sight::Detail(text) => Finding::Detail(text),
                };
                Found { app: app.clone(), finding }
            };
            let _probing = engine::begin(target, checks, transcripts, found, wrap);
            std::future::pending::<()>().await;
        })));
    }

    fn stage(&mut self, name: &'static str, state: &State, op: OpId, release: ReleaseRef) {
        let order = Order {
            op: op.clone(),
            release: release.clone(),
            leave: state.operation.as_ref().map(|operation| operation.leave).unwrap_or_default(),
            seen: state.counter,
        };
        let cancel = CancellationToken::new();
        let (yard, cancelled, keep) = (self.yard.clone(), cancel.clone(), self.keep.clone());
        let before = self.staging.take();
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                before.cancel.cancel();
                let _ = before.task.await;
            }
            let Ok(_slot) = yard.slots.clone().acquire_owned().await else { return };
            failpoint::before(name);
            let _ = yard.found.send(staging(&order, Staging::Started, Performed::default())).await;
            let news = match stage::stage(yard.clone(), order.clone(), cancelled.clone()).await {
                Ok(()) => Staging::Done,
                Err(error) => {
                    tracing::warn!(op = %order.op, reason = error.reason(), "staging failed");
                    Staging::Failed { fault: error.fault(), reason: error.reason() }
                }
            };
            let performed = Performed::default();
            performed.after(name);
            if !cancelled.is_cancelled() {
                let _ = yard.found.send(staging(&order, news, performed)).await;
            }
            if cancelled.is_cancelled() {
                // The app was pruned when this was cancelled; a release that was staged all the same, and the remains that it
                // took the place of, would stay until the next deployment.
                let _ = tokio::task::spawn_blocking(move || yard.host.prune(&order.release.app, &keep)).await;
            }
        });
        self.staging = Some(StageJob { op, cancel, task: AbortOnDropHandle::new(task) });
    }

    /// Removes what need not stay, beside whatever else is done; an app at rest has nothing else to do.
    pub fn sweep(&mut self) {
        if self.sweeping.as_ref().is_some_and(|sweeping| !sweeping.is_finished()) {
            return;
        }
        let (host, app, keep) = (self.yard.host.clone(), self.app.clone(), self.keep.clone());
        self.sweeping = Some(tokio::task::spawn_blocking(move || host.prune(&app, &keep)));
    }

    /// Lets what must not be left half done come to its end.
    pub async fn finish(mut self) {
        self.staging = None;
        self.probing = None;
        self.watcher = None;
        if let Some(job) = self.job.take() {
            // A hook goes on without the agent.
            job.stops.leave.cancel();
            job.stops.cancel.cancel();
            let _ = job.task.await;
        }
        if let Some(sweeping) = self.sweeping.take() {
            // It has told of its failures.
            let _ = sweeping.await;
        }
    }
}

/// Waiting can be given up at any point; doing something must come to its end, or nobody knows what was done.
const fn is_cancellable(effect: &Effect) -> bool {
    matches!(effect, Effect::Drain { .. } | Effect::Stop { .. } | Effect::Smoke { .. })
}

fn staging(order: &Order, news: Staging, performed: Performed) -> Found {
    let event = Event::Staging { op: order.op.clone(), news };
    let finding = Finding::Outcome(Box::new(Outcome { performed, ..event.into() }));
    Found { app: order.release.app.clone(), finding }
}
