//! The effects on what runs: each one idempotent, bounded in time, and answered by an event.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, OpId};
use windlass_proto::phase::{Attestation, Fault};
use windlass_proto::release::ReleaseRef;
use windlass_release::{Done, Effect, Event, Observed, State};

use crate::drain::{self, DrainEnd};
use crate::evidence::{self, Scene};
use crate::held::{self, HeldError};
use crate::layout::Layout;
use crate::link::{self, LinkError};
use crate::probe::{self, Target, Transcripts};
use crate::retain::{self, Candidate};
use crate::runtime::process::in_words;
use crate::runtime::{HostContext, Launch, RuntimeError, Runtimes};
use crate::shim::order::{RunDir, Started};
use crate::store::{Change, EvidenceRow, SharedStore};
use crate::{attest, clock};

/// For effects whose spec gives no time.
const DEADLINE: Duration = Duration::from_secs(120);

/// On top of a spec's own time, before the agent calls an effect stuck.
const MARGIN: Duration = Duration::from_secs(30);

/// Longest that freezing evidence may hold a revert up.
const EVIDENCE_DEADLINE: Duration = Duration::from_secs(5);

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
    launches: Mutex<BTreeMap<Digest, Arc<Launch>>>,
}

/// What an effect came to.
#[derive(Debug)]
pub struct Outcome {
    /// For the machine.
    pub event: Event,
    /// The process to watch from now on.
    pub process: Option<Box<Started>>,
}

/// What the effects of one step have in common.
#[derive(Debug, Clone)]
pub struct Brief {
    /// The app.
    pub app: AppName,
    /// The step's turn.
    pub turn: u64,
    /// Where the operation at hand goes.
    pub to: Option<ReleaseRef>,
    /// Why it fails, as far as known.
    pub reason: String,
    /// The contact with the coordinator, in words.
    pub contact: String,
    /// The app's last probe checks.
    pub transcripts: Arc<Transcripts>,
    /// What retention must leave, as the newest state has it.
    pub keep: Arc<Mutex<Vec<Digest>>>,
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
    File(#[from] crate::file::FileError),
    #[error("a thread of the agent failed")]
    Thread(#[from] tokio::task::JoinError),
}

impl Failure {
    const fn fault(&self) -> Fault {
        match self {
            Self::Runtime(error) => error.fault(),
            Self::Held(_) | Self::Link(_) | Self::File(_) => Fault::Host,
            Self::Thread(_) => Fault::Agent,
        }
    }
}

impl Host {
    /// A host with these parts.
    pub fn new(layout: Layout, context: HostContext, runtimes: Runtimes, store: SharedStore) -> Self {
        Self { layout, context, runtimes, store, launches: Mutex::default() }
    }

    /// How a release that is complete here is run.
    pub fn launch(&self, release: &ReleaseRef) -> Result<Arc<Launch>, HeldError> {
        let mut launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launch) = launches.get(&release.digest) {
            return Ok(launch.clone());
        }
        let ReleaseRef { app, digest, .. } = release;
        let manifest = held::manifest(&self.layout.release(app, digest), digest)?;
        let launch = Arc::new(Launch {
            release: manifest.release_ref(),
            spec: manifest.release,
            dir: self.layout.tree(app, digest),
            run: self.run_dir(app),
        });
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
        }
    }

    /// Performs an effect to its end; `None` for those that nobody waits for.
    pub async fn perform(self: &Arc<Self>, brief: &Brief, effect: Effect) -> Option<Outcome> {
        let name = effect.name();
        let limit = self.limit(&effect);
        let (turn, answered) = (brief.turn, effect.is_answered());
        let failed = |fault, reason| {
            let event = Event::Failed { turn, fault, reason };
            answered.then_some(Outcome { event, process: None })
        };
        match timeout(limit, self.try_perform(brief, effect)).await {
            Ok(Ok(outcome)) => outcome,
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
                DEADLINE + launch.spec.drain.delay.std() + launch.spec.drain.timeout.std()
            }),
            Effect::Stop { release } => {
                self.launch(release).map_or(DEADLINE, |launch| launch.spec.stop.grace.std() + MARGIN)
            }
            // The checks bound themselves.
            Effect::Smoke { release } => self.launch(release).map_or(DEADLINE, |launch| {
                launch.spec.smoke.iter().map(|probe| probe.timeout.std()).sum::<Duration>() + MARGIN
            }),
            // A large release is read in full before it is switched to.
            Effect::Switch { .. } => Duration::from_secs(3600),
            _ => DEADLINE,
        }
    }

    async fn try_perform(
        self: &Arc<Self>,
        brief: &Brief,
        effect: Effect,
    ) -> Result<Option<Outcome>, Failure> {
        let turn = brief.turn;
        let done = |done| Ok(Some(Outcome { event: Event::Done { turn, done }, process: None }));
        match effect {
            Effect::Drain { release } => {
                // Before anything is taken out: what is to come must still be what was staged.
                if let Some(to) = brief.to.clone() {
                    let host = self.clone();
                    spawn_blocking(move || held::verify(&host.layout, &to.app, &to.digest)).await??;
                }
                let launch = self.loaded(release).await?;
                match drain::drain(&self.context, &launch, |_| {}).await? {
                    DrainEnd::Drained(drained) => done(Done::Drained(drained)),
                    DrainEnd::TimedOut(drained) => done(Done::DrainTimedOut(drained)),
                }
            }
            Effect::Undrain { release } => {
                let launch = self.loaded(release).await?;
                drain::admit(&launch)?;
                done(Done::Undrained)
            }
            Effect::Stop { release } => {
                let launch = self.loaded(release).await?;
                self.runtimes.of(&launch.spec.runtime).stop(&launch).await?;
                done(Done::Stopped)
            }
            Effect::Switch { to } => {
                let (host, app, keep) = (self.clone(), brief.app.clone(), brief.to.clone());
                spawn_blocking(move || host.switch(&app, to.as_ref(), keep.as_ref())).await??;
                done(Done::Switched)
            }
            Effect::Start { release } => {
                let launch = self.loaded(release).await?;
                let process = self.runtimes.of(&launch.spec.runtime).start(&launch).await?;
                let process = process.map(Box::new);
                Ok(Some(Outcome { event: Event::Done { turn, done: Done::Started }, process }))
            }
            Effect::Adopt { release } => {
                let launch = self.loaded(release).await?;
                Ok(Some(adopt(self.runtimes.of(&launch.spec.runtime), &launch, turn)))
            }
            Effect::Smoke { release } => {
                let launch = self.loaded(release).await?;
                let target = Target { host: self.context.clone(), launch: Launch::clone(&launch) };
                match probe::smoke(&target, &brief.transcripts).await {
                    Ok(()) => done(Done::SmokePassed),
                    Err(failed) => done(Done::SmokeFailed { why: failed.to_string() }),
                }
            }
            Effect::Admit { release } => {
                let launch = self.loaded(release).await?;
                drain::admit(&launch)?;
                done(Done::Admitted)
            }
            Effect::Withdraw => {
                drain::withdraw(&self.run_dir(&brief.app))?;
                Ok(None)
            }
            Effect::WriteConfirmed { release } => {
                self.write_confirmed(&brief.app, release).await;
                Ok(None)
            }
            Effect::FreezeEvidence { op, .. } => {
                self.freeze(brief, op).await;
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

    /// Moves `current`. A release is read in full before it is linked, unless the drain did that a moment ago.
    fn switch(
        &self,
        app: &AppName,
        to: Option<&ReleaseRef>,
        drained_for: Option<&ReleaseRef>,
    ) -> Result<(), Failure> {
        let current = link::current(&self.layout, app).ok().flatten();
        match to {
            None => link::clear_current(&self.layout, app)?,
            Some(to) if current == Some(to.digest) => {}
            Some(to) => {
                let fresh = current.is_some() && drained_for.is_some_and(|it| it.digest == to.digest);
                if !fresh {
                    held::verify(&self.layout, app, &to.digest)?;
                }
                link::set_current(&self.layout, app, &to.digest)?;
            }
        }
        Ok(())
    }

    /// The journal has the truth already, and recovery writes the link again; so a few attempts are enough.
    async fn write_confirmed(self: &Arc<Self>, app: &AppName, release: Option<ReleaseRef>) {
        for attempt in 0..5_u32 {
            let (host, app_of, release) = (self.clone(), app.clone(), release.clone());
            let written = spawn_blocking(move || host.try_write_confirmed(&app_of, release.as_ref())).await;
            match written {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::error!(%app, attempt, error = chain(&error), "confirmed link not written")
                }
                Err(error) => tracing::error!(%app, attempt, %error, "confirmed link not written"),
            }
            tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
        }
    }

    fn try_write_confirmed(&self, app: &AppName, release: Option<&ReleaseRef>) -> Result<(), LinkError> {
        let Some(release) = release else { return link::clear_confirmed(&self.layout, app) };
        if link::confirmed(&self.layout, app).ok().flatten() == Some(release.digest) {
            return Ok(());
        }
        link::set_confirmed(&self.layout, app, &release.digest, clock::wall())?;
        if let Ok(row) = held::row(&self.layout, app, &release.digest) {
            self.remember(vec![Change::Put(row)]);
        }
        Ok(())
    }

    async fn freeze(self: &Arc<Self>, brief: &Brief, op: OpId) {
        let (host, brief) = (self.clone(), brief.clone());
        let app = brief.app.clone();
        let frozen = spawn_blocking(move || {
            let notes = if brief.reason.is_empty() { Vec::new() } else { vec![brief.reason.clone()] };
            let run = host.run_dir(&brief.app);
            let items = evidence::collect(&Scene {
                run: &run,
                transcripts: brief.transcripts.all(),
                current: link::current_target(&host.layout, &brief.app).ok().flatten(),
                link: brief.contact.clone(),
                notes,
            });
            let bytes = items.iter().map(|item| item.text.len() as u64).sum();
            evidence::keep(&host.layout.evidence(), &op, &items)?;
            let row = EvidenceRow { op: op.clone(), at: clock::wall(), file: format!("{op}.json"), bytes };
            host.remember(vec![Change::Frozen { app: brief.app, row }]);
            Ok::<_, crate::file::FileError>(())
        });
        match timeout(EVIDENCE_DEADLINE, frozen).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%app, error = chain(&error), "evidence not kept"),
            Ok(Err(error)) => tracing::warn!(%app, %error, "evidence not kept"),
            Err(_) => tracing::warn!(%app, "evidence not kept in time"),
        }
    }

    fn prune(&self, app: &AppName, keep: &Mutex<Vec<Digest>>) {
        let candidates: Vec<Candidate> = held::digests(&self.layout, app)
            .into_iter()
            .map(|digest| Candidate {
                digest,
                confirmed_at: link::confirmed_at(&self.layout.release(app, &digest)),
            })
            .collect();
        let (current, confirmed) =
            match (link::current(&self.layout, app), link::confirmed(&self.layout, app)) {
                (Ok(current), Ok(confirmed)) => (current, confirmed),
                // Links that cannot be read protect everything.
                _ => return,
            };
        // Held to the end: what an operation names from now on must not be among what is removed.
        let keep = keep.lock().unwrap_or_else(PoisonError::into_inner);
        let prunable = retain::to_prune(&candidates, current, confirmed, &keep, retain::KEEP);
        let rows: Vec<_> =
            prunable.iter().filter_map(|digest| held::row(&self.layout, app, digest).ok()).collect();
        if let Err(error) = retain::prune(&self.layout, app, &prunable) {
            tracing::warn!(%app, %error, "releases not pruned");
        }
        drop(keep);
        self.remember(rows.into_iter().map(|row| Change::Remove(row.release)).collect());
        if let Err(error) = retain::empty_trash(&self.layout) {
            tracing::warn!(%error, "trash not emptied");
        }
    }

    /// Writes rows. Nothing depends on them, so a failure is only told. Blocks.
    pub fn remember(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.store.apply(changes) {
            tracing::warn!(error = chain(&error), "store not written");
        }
    }
}

fn adopt(runtime: &dyn crate::runtime::Runtime, launch: &Launch, turn: u64) -> Outcome {
    let is_static = matches!(launch.spec.runtime, windlass_proto::spec::Runtime::Static { .. });
    let found = runtime.find(&launch.run).filter(|found| found.release.digest == launch.release.digest);
    if is_static || found.is_some() {
        return Outcome { event: Event::Done { turn, done: Done::Adopted }, process: found.map(Box::new) };
    }
    let exit = launch.run.read_started().and_then(|started| launch.run.read_exited(&started.mark));
    Outcome { event: Event::AppExited { turn, how: in_words(exit.as_ref()) }, process: None }
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
