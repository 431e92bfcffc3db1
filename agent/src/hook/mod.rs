//! Runs the hooks of a release: each command on record before it begins and when it has ended, bounded in time and
//! output, and with nothing left of it afterwards. See [`windlass_proto::spec::hooks`] for when which hook is run.
//!
//! * [`runner`]: what runs a command apart from the agent; [`mod@unit`]: the same by systemd. [`ledger`]: what is on record.

pub mod ledger;
pub mod runner;
pub mod unit;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use windlass_proto::limits::HOOK_TAIL;
use windlass_proto::phase::{Evidence, Fault, HookName, HookRun};
use windlass_proto::spec::Hook;
use windlass_proto::spec::hooks::TRY_LATER;
use windlass_proto::time::Span;
use windlass_release::{HOOK_AT_MOST, Operation};

use self::ledger::{Entry, Key, Ledger};
use self::runner::{End, HookRunner};
use crate::backoff::Backoff;
use crate::clock;
use crate::file::FileError;
use crate::perform::chain;
use crate::runtime::process::in_words;
use crate::runtime::surroundings::{Prepared, Surroundings};
use crate::runtime::{HostContext, Launch, RuntimeError, data};
use crate::shim::ends::Output;
use crate::shim::order::{Order, RunDir};

/// From SIGTERM to SIGKILL for a command whose time is over, and for what one left running.
const GRACE: Duration = Duration::from_secs(10);

/// The same where something else must be done at once.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// For ending one command beyond its own time: see [`GRACE`] and [`crate::runtime::kill`].
pub const ENDING: Duration = Duration::from_secs(30);

/// Between two runs of a command that asked for it.
const LATER: Backoff = Backoff { first: Duration::from_secs(2), most: Duration::from_secs(30) };

/// Most of a failed command's output that goes into the evidence.
const EVIDENCE_OUTPUT: usize = 32 * 1024;

/// Why a hook did not pass.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The command ended otherwise than with 0, or not in time.
    #[error("hook {hook} ({command}): {end}{}", last_line(.output))]
    Failed {
        /// Which hook.
        hook: HookName,
        /// Its program.
        command: String,
        /// How it ended.
        end: String,
        /// The last of its output.
        output: String,
        /// It asked to be tried later until its time was over.
        later: bool,
    },
    /// The agent was killed with it, and nobody knows how it ended.
    #[error(
        "hook {hook} ({command}) was running when the agent ended and how it ended is not known; it is not idempotent, so it is \
         not run again"
    )]
    Unknown {
        /// Which hook.
        hook: HookName,
        /// Its program.
        command: String,
    },
    /// It could not be started or ended.
    #[error("hook {hook}")]
    Runtime {
        /// Which hook.
        hook: HookName,
        /// Why.
        source: RuntimeError,
    },
    /// What cannot be put on record is not run.
    #[error("hook {hook} cannot be put on record")]
    Record {
        /// Which hook.
        hook: HookName,
        /// Why.
        source: FileError,
    },
    /// Something else is to be done.
    #[error("hook {hook} is no longer wanted")]
    Cancelled {
        /// Which hook.
        hook: HookName,
    },
}

impl HookError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Failed { later: false, .. } => Fault::App,
            Self::Failed { later: true, .. } | Self::Record { .. } => Fault::Host,
            Self::Runtime { source, .. } => source.fault(),
            Self::Unknown { .. } | Self::Cancelled { .. } => Fault::Agent,
        }
    }
}

fn last_line(output: &str) -> String {
    output
        .lines()
        .next_back()
        .filter(|line| !line.is_empty())
        .map_or_else(String::new, |line| format!(": {line}"))
}

/// How a hook is told to end before its time.
#[derive(Debug, Clone, Default)]
pub struct Stops {
    /// Something else is to be done: end it.
    pub cancel: CancellationToken,
    /// The agent ends: let it go on, the next agent takes it up.
    pub leave: CancellationToken,
}

/// Makes known that the ledger has something new, and whether a command runs now.
pub type Told<'a> = dyn Fn(bool) -> BoxFuture<'a, ()> + Send + Sync + 'a;

/// One hook to be run.
#[derive(Debug)]
pub struct Call {
    /// The host.
    pub host: HostContext,
    /// The release whose hook it is.
    pub launch: Arc<Launch>,
    /// The operation that it is part of.
    pub operation: Operation,
    /// Which hook.
    pub hook: HookName,
    /// See [`windlass_release::Effect::Hook`].
    pub round: u64,
    /// Whether its failure counts.
    pub must_pass: bool,
}

/// Where the files of an app's hooks lie: those of the one that runs, and the ledger.
pub fn run_dir(app: &RunDir) -> RunDir {
    RunDir(app.0.join("hook"))
}

/// Longest that a hook may take, with ending it.
pub fn limit(launch: &Launch, hook: HookName) -> Duration {
    let commands = u32::try_from(launch.spec.hooks.of(hook).len()).unwrap_or(u32::MAX);
    launch.spec.hooks.longest(hook).std() + ENDING * commands
}

impl Call {
    /// Runs the commands of the hook one after the other; what is on record as ended is not run again. `told` is called
    /// when there is something new in the ledger, with whether a command runs now.
    pub async fn run(
        &self,
        runner: &dyn HookRunner,
        stops: &Stops,
        told: &Told<'_>,
    ) -> Result<(), HookError> {
        let begun = Instant::now();
        for (index, command) in self.launch.spec.hooks.of(self.hook).iter().enumerate() {
            if stops.cancel.is_cancelled() || stops.leave.is_cancelled() {
                return Err(HookError::Cancelled { hook: self.hook });
            }
            let limit = match self.must_pass {
                true => command.timeout.std(),
                false => command.timeout.std().min(HOOK_AT_MOST.std().saturating_sub(begun.elapsed())),
            };
            let ended = self.command(index, command, limit, runner, stops, told).await;
            told(false).await;
            ended?;
        }
        Ok(())
    }

    async fn command(
        &self,
        index: usize,
        command: &Hook,
        limit: Duration,
        runner: &dyn HookRunner,
        stops: &Stops,
        told: &Told<'_>,
    ) -> Result<(), HookError> {
        let key = Key { release: self.launch.release.digest, hook: self.hook, index, round: self.round };
        let run = run_dir(&self.launch.run);
        let mut ledger = Ledger::read(&run.0, &self.operation.op);
        let boot = clock::boot_id().unwrap_or_default();
        let known = ledger.find(&key).cloned();
        let mut adopted = known.is_some();
        let mut entry = known.unwrap_or_else(|| self.entry(key, command, boot.clone()));
        if entry.run.took.is_some() {
            return self.verdict(&entry);
        }
        let spent = match entry.boot == boot {
            true => Duration::from_millis(clock::boot_ms().saturating_sub(entry.begun)),
            false => limit,
        };
        let deadline = Instant::now() + limit.saturating_sub(spent);
        let mut end = None;
        while end.is_none() {
            let since = Instant::now();
            if !std::mem::take(&mut adopted) {
                self.begin(&mut ledger, &mut entry, &run, command, runner).await?;
            }
            told(true).await;
            let ended = tokio::select! {
                biased;
                () = stops.leave.cancelled() => return Err(HookError::Cancelled { hook: self.hook }),
                () = stops.cancel.cancelled() => None,
                ended = runner.ended(&run, &entry.mark) => Some(ended),
                () = sleep_until(deadline) => Some(End::Exit(overdue(&entry.mark))),
            };
            let cancelled = ended.is_none();
            let grace = if cancelled { CANCEL_GRACE } else { GRACE };
            // What it left running is ended with it, however it ended.
            let cleared = runner.end(&run, &entry.mark, grace).await;
            let output = run.read_exited(&entry.mark).and_then(|exit| exit.output).unwrap_or_default();
            entry.run.output = output.last(HOOK_TAIL);
            entry.run.exit = None;
            end = match (ended, cleared) {
                (_, Err(error)) => Some(chain(&error)),
                (None, Ok(())) => Some("no longer wanted".to_owned()),
                (Some(End::NeverBegun), Ok(())) => None,
                (Some(End::Unknown), Ok(())) if command.idempotent => None,
                (Some(End::Unknown), Ok(())) => Some(UNKNOWN.to_owned()),
                (Some(End::Exit(exit)), Ok(())) if exit.code == Some(TRY_LATER) => {
                    entry.run.exit = exit.code;
                    let pause = LATER.wait(entry.run.runs, (1.0 + rand::random::<f64>()) / 2.0);
                    // One that would be cut short is not begun.
                    let next = since.elapsed().max(Duration::from_millis(500));
                    if Instant::now() + pause + next < deadline {
                        tokio::select! {
                            biased;
                            () = stops.leave.cancelled() => return Err(HookError::Cancelled { hook: self.hook }),
                            () = stops.cancel.cancelled() => Some("no longer wanted".to_owned()),
                            () = sleep(pause) => None,
                        }
                    } else {
                        entry.later = true;
                        Some(format!(
                            "asked {} times to be tried later (exit code {TRY_LATER})",
                            entry.run.runs
                        ))
                    }
                }
                (Some(End::Exit(exit)), Ok(())) if exit.code.is_none() && exit.signal.is_none() => {
                    Some(format!("not ended after {}", Span(limit.as_millis() as u64)))
                }
                (Some(End::Exit(exit)), Ok(())) => {
                    entry.run.exit = exit.code;
                    Some(in_words(Some(&exit)))
                }
            };
        }
        entry.run.end = end.unwrap_or_default();
        entry.run.took = Some(clock::boot_ms().saturating_sub(entry.begun));
        // Without the record a further agent finds the exit that the runner wrote down.
        if let Err(error) = ledger.keep(&run.0, &entry) {
            tracing::warn!(hook = %self.hook, error = chain(&error), "end of a hook not put on record");
        }
        tracing::info!(app = %self.launch.release.app, hook = %self.hook, end = entry.run.end, "hook ended");
        self.verdict(&entry)
    }

    fn entry(&self, key: Key, command: &Hook, boot: String) -> Entry {
        let run = HookRun {
            hook: self.hook,
            version: self.launch.release.version.clone(),
            command: command
                .run
                .first()
                .map(|program| program.chars().take(200).collect())
                .unwrap_or_default(),
            at: clock::wall(),
            took: None,
            runs: 0,
            exit: None,
            end: String::new(),
            output: String::new(),
        };
        Entry { key, mark: String::new(), boot, begun: clock::boot_ms(), later: false, run }
    }

    /// Puts the start on record, then makes it.
    async fn begin(
        &self,
        ledger: &mut Ledger,
        entry: &mut Entry,
        run: &RunDir,
        command: &Hook,
        runner: &dyn HookRunner,
    ) -> Result<(), HookError> {
        let hook = self.hook;
        let order = self.order(command).map_err(|source| HookError::Runtime { hook, source })?;
        entry.mark.clone_from(&order.mark);
        entry.run.runs += 1;
        ledger.keep(&run.0, entry).map_err(|source| HookError::Record { hook, source })?;
        runner.start(run, &order).await.map_err(|source| {
            entry.run.end = chain(&source);
            entry.run.took = Some(clock::boot_ms().saturating_sub(entry.begun));
            let _ = ledger.keep(&run.0, entry);
            HookError::Runtime { hook, source }
        })
    }

    fn order(&self, command: &Hook) -> Result<Order, RuntimeError> {
        let Prepared { program, args } = Prepared::new(&self.host, &self.launch, &command.run)?;
        let Surroundings { mut env, user } = Surroundings::new(&self.host, &self.launch)?;
        // The hooks of an application's first release come before its first start.
        data::prepare(&self.launch.data, user)?;
        let former = self.operation.from.as_ref().map(|from| from.version.to_string()).unwrap_or_default();
        for (name, value) in [
            ("WINDLASS_HOOK", self.hook.to_string()),
            ("WINDLASS_RELEASE_DIR", self.launch.dir.to_string_lossy().into_owned()),
            ("WINDLASS_OLD_VERSION", former),
            ("WINDLASS_NEW_VERSION", self.operation.to.version.to_string()),
            ("WINDLASS_ROLLOUT", self.operation.rollout.to_string()),
        ] {
            env.insert(name.to_owned(), value);
        }
        Ok(Order {
            release: self.launch.release.clone(),
            mark: format!("{:032x}", rand::random::<u128>()),
            program,
            args,
            dir: self.launch.dir.clone(),
            env,
            user,
            memory_max: None,
            open_files: None,
            log: None,
        })
    }

    fn verdict(&self, Entry { run, later, .. }: &Entry) -> Result<(), HookError> {
        let (hook, command) = (self.hook, run.command.clone());
        match run {
            run if run.passed() => Ok(()),
            run if run.end == UNKNOWN => Err(HookError::Unknown { hook, command }),
            run => Err(HookError::Failed {
                hook,
                command,
                end: run.end.clone(),
                output: run.output.clone(),
                later: *later,
            }),
        }
    }
}

const UNKNOWN: &str = "not known: the agent was ended with it";

/// Stands for a command that its time is over for.
fn overdue(mark: &str) -> crate::shim::order::Exited {
    crate::shim::order::Exited {
        mark: mark.to_owned(),
        code: None,
        signal: None,
        out_of_memory: false,
        at: clock::wall(),
        output: None,
    }
}

/// The hooks of an operation as evidence: one line each, and the output of what failed.
pub fn evidence(app: &RunDir, operation: &windlass_proto::id::OpId) -> Vec<Evidence> {
    let run: RunDir = run_dir(app);
    let path: PathBuf = run.0.clone();
    let ledger = Ledger::read(&path, operation);
    let item = |entry: &Entry| {
        let HookRun { hook, version, command, took, end, .. } = &entry.run;
        let took = took.map_or_else(|| "running".to_owned(), |ms| format!("{end} after {}", Span(ms)));
        let mut text = format!("{hook} of {version}: {command}: {took}");
        if !entry.run.passed() {
            let output = run.read_exited(&entry.mark).and_then(|exit| exit.output);
            let output = output
                .as_ref()
                .map_or_else(|| entry.run.output.clone(), |it: &Output| it.last(EVIDENCE_OUTPUT));
            if !output.is_empty() {
                text.push('\n');
                text.push_str(&output);
            }
        }
        Evidence { kind: "hook".to_owned(), at: entry.run.at, text }
    };
    ledger.entries().iter().map(item).collect()
}
