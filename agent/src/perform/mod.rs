//! The effects on what runs: each one idempotent, bounded in time, and answered by an event.

mod brief;
mod hooks;
mod on_disk;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use windlass_proto::digest::Digest;
use windlass_proto::id::AppName;
use windlass_proto::phase::{Attestation, Fault};
use windlass_proto::release::ReleaseRef;
use windlass_release::{Done, Effect, Event, Observed, State};

pub use self::brief::{Brief, Outcome, Teller};
use crate::attest;
use crate::drain::{self, DrainEnd};
use crate::evidence;
use crate::failpoint::{self, Barrier};
use crate::held::{self, HeldError};
use crate::hook::ledger::Ledger;
use crate::hook::runner::HookRunner;
use crate::hook::{self, HookError};
use crate::layout::Layout;
use crate::link::{self, LinkError};
use crate::probe::{self, Target};
use crate::retain::Retention;
use crate::runtime::process::in_words;
use crate::runtime::{HostContext, Launch, RuntimeError, Runtimes};
use crate::shim::order::RunDir;
use crate::store::SharedStore;
use crate::traffic::{Driver, TrafficError};

/// For effects whose spec gives no time.
const DEADLINE: Duration = Duration::from_secs(120);

/// On top of a spec's own time, before the agent calls an effect stuck.
const MARGIN: Duration = Duration::from_secs(30);

/// Launches that are remembered; more than any host switches between.
const LAUNCHES: usize = 64;

/// All that effects work with.
#[derive(Debug)]
pub struct Host {
    /// Names of all paths.
    pub layout: Layout,
    /// What applications are told of the host.
    pub context: HostContext,
    /// What runs them.
    pub runtimes: Runtimes,
    /// What is remembered of releases.
    pub store: SharedStore,
    /// What runs hooks.
    pub hooks: Box<dyn HookRunner>,
    /// How applications get traffic.
    pub traffic: Driver,
    /// Which releases stay.
    pub retention: Retention,
    launches: Mutex<BTreeMap<Digest, Arc<Launch>>>,
}

/// Why an effect did not work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Held(#[from] HeldError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error(transparent)]
    Traffic(#[from] TrafficError),
    #[error("a thread of the agent failed")]
    Thread(#[from] tokio::task::JoinError),
}

impl Failure {
    const fn fault(&self) -> Fault {
        match self {
            Self::Runtime(error) => error.fault(),
            Self::Hook(error) => error.fault(),
            Self::Held(_) | Self::Link(_) | Self::Traffic(_) => Fault::Host,
            Self::Thread(_) => Fault::Agent,
        }
    }
}

impl Host {
    /// A host with these parts.
    pub fn new(
        layout: Layout,
        context: HostContext,
        runtimes: Runtimes,
        hooks: Box<dyn HookRunner>,
        traffic: Driver,
        store: SharedStore,
        retention: Retention,
    ) -> Self {
        Self { layout, context, runtimes, store, hooks, traffic, retention, launches: Mutex::default() }
    }

    /// How a release that is complete here is run.
    pub fn launch(&self, release: &ReleaseRef) -> Result<Arc<Launch>, HeldError> {
        let mut launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launch) = launches.get(&release.digest) {
            return Ok(launch.clone());
        }
        let digest = &release.digest;
        let launch = Arc::new(held::launch(&self.layout, release)?);
        if launches.len() >= LAUNCHES {
            launches.clear();
        }
        launches.insert(*digest, launch.clone());
        Ok(launch)
    }

    /// The app's run directory.
    pub fn run_dir(&self, app: &AppName) -> RunDir {
        RunDir(self.layout.app_run(app))
    }

    /// What only the host itself can say of an app.
    pub fn observe(&self, state: &State) -> Observed {
        let current = link::current_target(&self.layout, &state.app).ok().flatten();
        let attested = match state.wanted().map(|release| self.launch(release)) {
            Some(Ok(launch)) => attest::attest(current.as_deref(), Some(&launch)),
            Some(Err(_)) => Attestation::default(),
            None => attest::attest(current.as_deref(), None),
        };
        let failed = state.operation.as_ref().filter(|operation| operation.fault.is_some());
        let evidence = failed.map(|operation| evidence::load(&self.layout.evidence(), &operation.op));
        Observed {
            attested,
            held: held::digests(&self.layout, &state.app),
            evidence: evidence.unwrap_or_default(),
            hooks: state
                .operation
                .as_ref()
                .map(|operation| self.hooks_of(&state.app, &operation.op))
                .unwrap_or_default(),
        }
    }

    fn hooks_of(&self, app: &AppName, op: &windlass_proto::id::OpId) -> Vec<windlass_proto::phase::HookRun> {
        Ledger::read(&hook::run_dir(&self.run_dir(app)).0, op).runs()
    }

    /// Performs an effect to its end; `None` for those that nobody waits for.
    pub async fn perform(self: &Arc<Self>, brief: &Brief, effect: Effect) -> Option<Outcome> {
        let name = effect.name();
        let limit = self.limit(&effect);
        let turn = brief.turn;
        let answered = effect.is_answered() || matches!(effect, Effect::Hook { must_pass: true, .. });
        let failed = |fault, reason| {
            let event = Event::Failed { turn, fault, reason };
            answered.then(|| Outcome::from(event))
        };
        match timeout(limit, self.try_perform(brief, effect)).await {
            Ok(Ok(outcome)) => outcome,
            // Only the agent's own end cancels its threads: what came of the effect, the next one finds out.
            Ok(Err(Failure::Thread(error))) if error.is_cancelled() => None,
            Ok(Err(failure)) => {
                let reason = chain(&failure);
                tracing::warn!(app = %brief.app, effect = name, reason, "effect failed");
                failed(failure.fault(), reason)
            }
            Err(_) => {
                let reason = format!("{name} did not end within {} s", limit.as_secs());
                tracing::error!(app = %brief.app, effect = name, reason, "effect is stuck");
                failed(Fault::Agent, reason)
            }
        }
    }

    fn limit(&self, effect: &Effect) -> Duration {
        match effect {
            Effect::Drain { release } => self.launch(release).map_or(DEADLINE, |launch| {
                self.traffic.limit()
                    + DEADLINE
                    + launch.spec.drain.delay.std()
                    + launch.spec.drain.timeout.std()
            }),
            Effect::Stop { release } => {
                self.launch(release).map_or(DEADLINE, |launch| launch.spec.stop.grace.std() + MARGIN)
            }
            // The checks bound themselves.
            Effect::Smoke { release } => self.launch(release).map_or(DEADLINE, |launch| {
                launch.spec.smoke.iter().map(|probe| probe.timeout.std()).sum::<Duration>() + MARGIN
            }),
            Effect::Hook { release, hook, .. } => {
                self.launch(release).map_or(DEADLINE, |launch| hook::limit(&launch, *hook) + MARGIN)
            }
            // A large release is read in full before it is switched to.
            Effect::Switch { .. } => Duration::from_secs(3600),
            _ => DEADLINE + self.traffic.limit(),
        }
    }

    async fn try_perform(
        self: &Arc<Self>,
        brief: &Brief,
        effect: Effect,
    ) -> Result<Option<Outcome>, Failure> {
        let turn = brief.turn;
        let done = |done| Ok(Some(Outcome::from(Event::Done { turn, done })));
        match effect {
            Effect::Drain { release } => {
                // Before anything is taken out: what is to come must still be what was staged.
                if let Some(to) = brief.to() {
                    let host = self.clone();
                    spawn_blocking(move || held::verify(&host.layout, &to.app, &to.digest)).await??;
                }
                let launch = self.loaded(release).await?;
                let started = self.runtimes.of(&launch.spec.runtime).find(&launch).await;
                let told = |words| brief.teller.tell(words);
                self.traffic.take_out(&self.context, &brief.app, &launch.run).await?;
                failpoint::at(Barrier::DrainBegun);
                match drain::drain(&self.context, &launch, started.as_ref(), told).await {
                    DrainEnd::Drained(drained) => done(Done::Drained(drained)),
                    DrainEnd::TimedOut(drained) => done(Done::DrainTimedOut(drained)),
                }
            }
            Effect::Undrain { release } => {
                let launch = self.loaded(release).await?;
                self.traffic.put_back(&self.context, &launch).await?;
                done(Done::Undrained)
            }
            Effect::Stop { release } => {
                let launch = self.loaded(release).await?;
                let runtime = self.runtimes.of(&launch.spec.runtime);
                let started = runtime.find(&launch).await;
                let stop = runtime.stop(&launch);
                let (stopped, cut) =
                    drain::counting_cuts(&self.context, &launch, started.as_ref(), stop).await;
                stopped?;
                done(Done::Stopped { cut })
            }
            Effect::Switch { to } => {
                let (host, app, keep) = (self.clone(), brief.app.clone(), brief.to());
                spawn_blocking(move || host.switch(&app, to.as_ref(), keep.as_ref())).await??;
                done(Done::Switched)
            }
            Effect::Start { release } => {
                let launch = self.loaded(release).await?;
                let process = self.runtimes.of(&launch.spec.runtime).start(&launch).await?;
                let process = process.map(Box::new);
                Ok(Some(Outcome { process, ..Event::Done { turn, done: Done::Started }.into() }))
            }
            Effect::Adopt { release } => {
                let launch = self.loaded(release).await?;
                Ok(Some(adopt(self.runtimes.of(&launch.spec.runtime), &launch, turn).await))
            }
            Effect::Smoke { release } => {
                let launch = self.loaded(release).await?;
                let target = Target { host: self.context.clone(), launch: Launch::clone(&launch) };
                match probe::smoke(&target, &brief.transcripts).await {
                    Ok(()) => done(Done::SmokePassed),
                    Err(failed) => done(Done::SmokeFailed { why: failed.to_string() }),
                }
            }
            Effect::Hook { release, hook, round, must_pass } => {
                let launch = self.loaded(release).await?;
                let ended = self.hook(brief, launch, hook, round, must_pass).await;
                match ended {
                    Err(error) if must_pass => Err(error.into()),
                    Err(error) => {
                        tracing::warn!(app = %brief.app, %hook, error = chain(&error), "hook failed, which is only noted");
                        Ok(None)
                    }
                    Ok(()) => Ok(None),
                }
            }
            Effect::Admit { release } => {
                let launch = self.loaded(release).await?;
                self.traffic.put_back(&self.context, &launch).await?;
                done(Done::Admitted)
            }
            Effect::Withdraw => {
                self.traffic.take_out(&self.context, &brief.app, &self.run_dir(&brief.app)).await?;
                Ok(None)
            }
            Effect::WriteConfirmed { release } => {
                self.write_confirmed(&brief.app, release).await;
                Ok(None)
            }
            Effect::FreezeEvidence { op, release } => {
                self.freeze(brief, op, release.digest).await;
                Ok(None)
            }
            Effect::Prune { .. } => {
                let (host, app, keep) = (self.clone(), brief.app.clone(), brief.keep.clone());
                spawn_blocking(move || host.prune(&app, &keep)).await?;
                Ok(None)
            }
            // The dispatcher's own.
            Effect::Stage { .. }
            | Effect::CancelStage { .. }
            | Effect::Probe { .. }
            | Effect::StopProbes
            | Effect::Redial => Ok(None),
        }
    }

    async fn loaded(self: &Arc<Self>, release: ReleaseRef) -> Result<Arc<Launch>, Failure> {
        let host = self.clone();
        Ok(spawn_blocking(move || host.launch(&release)).await??)
    }
}

async fn adopt(runtime: &dyn crate::runtime::Runtime, launch: &Launch, turn: u64) -> Outcome {
    let is_static = !launch.spec.runtime.has_process();
    let found = runtime.find(launch).await.filter(|found| found.release.digest == launch.release.digest);
    if found.is_some()
        && let Err(error) = runtime.renew(launch).await
    {
        // It runs, and its unit is rewritten at its next start in any case.
        tracing::warn!(app = %launch.release.app, error = chain(&error), "not renewed");
    }
    if is_static || found.is_some() {
        let process = found.map(Box::new);
        return Outcome { process, ..Event::Done { turn, done: Done::Adopted }.into() };
    }
    let exit = launch.run.read_started().and_then(|started| launch.run.read_exited(&started.mark));
    Event::AppExited { turn, how: in_words(exit.as_ref()) }.into()
}

/// An error and its causes in one sentence.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Transparent errors repeat their cause.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
