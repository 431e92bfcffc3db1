//! One host with one app, deployed to again and again while something is done to it.

mod struck;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use windlass_proto::phase::Phase;
use windlass_proto::rpc::audit::Head;
use windlass_release::State;
use windlass_tests::agent::{Agent, Ways};
use windlass_tests::app::App;
use windlass_tests::disk::{Disk, Format};
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;
use windlass_tests::programs::agent_with_failpoints;
use windlass_tests::properties::Properties;
use windlass_tests::wait::pass;

use crate::story::{Make, Runtime, Story};
use crate::strike::{At, How, Strike};

/// Longest that a deployment may take, with all that happens.
const LIMIT: Duration = Duration::from_secs(90);

/// How long after the end a strike is waited for.
const LATE: Duration = Duration::from_secs(2);

/// How often a deployment is repeated that was not the one that was wanted.
const REPEATS: usize = 4;

/// Longest that the host may then take to have all its properties.
const PROPERTIES: Duration = Duration::from_secs(30);

/// What runs a command with another boot's id: `BOOT_ID` is a file that says so.
const ANOTHER_BOOT: &str = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";

/// What became of one deployment.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Strikes that were real.
    pub(crate) strikes: usize,
    /// The phase at the end.
    pub(crate) end: Option<Phase>,
    /// What is not as it must be.
    pub(crate) violations: Vec<String>,
    /// The points passed, in order; of the last agent only where one was killed.
    pub(crate) passed: Vec<String>,
    /// The operator aborted when the host was past the phase in which to abort: a machine under load.
    pub(crate) aborted_late: bool,
}

impl Seen {
    /// Panics unless it was as it is without a strike.
    #[track_caller]
    pub(crate) fn must_be(&self, story: Story) {
        assert_eq!(self.violations, [""; 0], "{story}, undisturbed");
        assert_eq!(self.end, Some(story.end()), "{story}, undisturbed");
    }
}

/// The host, and what is deployed on it.
pub(crate) struct Field {
    // Ended before the fleet that it is of.
    agent: Agent,
    disk: Option<Disk>,
    fleet: Rc<Fleet>,
    runtime: Runtime,
    app: App,
    /// What is confirmed.
    version: String,
    /// The last record of the audit log.
    audited: Head,
    deployments: u32,
    drains_slowly: bool,
    points: tempfile::TempDir,
}

impl Field {
    /// A host on which the first release is confirmed. With a disk of its own, so that it can be broken, it needs root.
    pub(crate) fn new(runtime: Runtime, disk: Option<Format>) -> Self {
        let fleet = Rc::new(fleet::new().hosts(1).up());
        let points = tempfile::tempdir().unwrap();
        let dir = points.path().to_str().unwrap().to_owned();
        let boot_id = points.path().join("boot-id");
        let within: &[&str] =
            if disk.is_some() { &["unshare", "--mount", "sh", "-c", ANOTHER_BOOT] } else { &[] };
        let within = within.iter().map(|&word| word.to_owned());
        let ways = Ways {
            program: Some(agent_with_failpoints()),
            variables: vec![("WINDLASS_FAILPOINTS_DIR".into(), dir)],
            within: within.chain(disk.map(|_| boot_id.to_str().unwrap().to_owned())).collect(),
            ..Ways::default()
        };
        write_boot_id(&boot_id, 0);
        let mut agent = Agent::take(&fleet, 1, ways);
        let disk = disk.map(|format| {
            agent.program.kill();
            let mib = if format == Format::Xfs { 320 } else { 160 };
            let disk = Disk::over(&agent.host.state_dir, mib, format);
            agent.program.restart();
            disk
        });
        let app = App::new("web", free_port(1));
        let audited = audited(&fleet, Head::default()).unwrap();
        let (version, deployments, drains_slowly) = (String::new(), 0, false);
        let mut field =
            Self { agent, disk, fleet, runtime, app, version, audited, deployments, drains_slowly, points };
        field.deploy(Story::Succeeds, &[]).must_be(Story::Succeeds);
        field
    }

    /// Has on the host what the story begins with. How it drains is up to the release that is drained.
    pub(crate) fn prepare(&mut self, story: Story) {
        let slowly = story == Story::AbortedDraining;
        if slowly != self.drains_slowly {
            self.drains_slowly = slowly;
            self.deploy(Story::Succeeds, &[]).must_be(Story::Succeeds);
        }
        if story == Story::FollowsAbort {
            self.deploy(Story::AbortedStaging, &[]).must_be(Story::AbortedStaging);
        }
    }

    /// Deploys the next release as the story goes; the first of these strikes the agent, the second the agent after that, and
    /// so on.
    pub(crate) fn deploy(&mut self, story: Story, strikes: &[Strike]) -> Seen {
        let (mut violations, mut tries) = (Vec::new(), 0);
        loop {
            let mut seen = self.deploy_once(story, strikes);
            // What is wrong with an attempt that does not count is wrong all the same.
            violations.append(&mut seen.violations);
            tries += 1;
            // What nobody waits for, such as pruning, is on record with its own deployment or with the next one.
            let missed = strikes.get(seen.strikes).is_some_and(|strike| strike.at.is_unpassed(&seen.passed));
            if !(seen.aborted_late || missed) || tries > REPEATS {
                return Seen { violations, ..seen };
            }
            self.prepare(story);
        }
    }

    fn deploy_once(&mut self, story: Story, strikes: &[Strike]) -> Seen {
        self.deployments += 1;
        let (old, new) = (self.version.clone(), format!("1.{}", self.deployments));
        let (runtime, drains_slowly) = (self.runtime, self.drains_slowly);
        Make { runtime, story, version: &new, drains_slowly }.write(&self.app);
        self.forget_passed();
        self.arm(strikes.first());
        let fleet = Rc::clone(&self.fleet);
        let mut properties = Properties::of(&fleet, 1);
        let spec = self.app.dir().join("windlass.yaml");
        let order = ["deploy", "-f", spec.to_str().unwrap(), "--version", &new, "--yes", "--detach"];
        self.fleet.windlass(&order).expect(0);
        let rollout = self.fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned();

        let since = Instant::now();
        let mut asked = since;
        let mut violations = Vec::new();
        let (mut struck, mut aborted, mut over) = (0, false, false);
        let state = loop {
            if let Some(strike) = strikes.get(struck).filter(|strike| self.is_struck(strike, since)) {
                struck += 1;
                violations.extend(self.strike(strike.how, &properties));
                self.forget_passed();
                self.arm(strikes.get(struck));
            }
            // Asking takes longer than some phases.
            if !over && asked.elapsed() > Duration::from_millis(200) {
                over = is_over(&self.fleet, &rollout);
                asked = Instant::now();
            }
            // Who stands still answers nobody, and some moments come after the end.
            let waits =
                |strike: &Strike| strike.how != How::Kill && (!over || matches!(strike.at, At::Moment(_)));
            if strikes.get(struck).is_some_and(waits) {
                pass(Duration::from_millis(5));
                continue;
            }
            let state = properties.state(&self.app.name).filter(|state| {
                state.operation.as_ref().is_some_and(|operation| operation.rollout.as_str() == rollout)
            });
            let phase = state.as_ref().map(State::phase);
            let in_it = |phase: &str| self.agent.phase(&self.app.name).as_deref() == Some(phase);
            if !aborted
                && state.is_some()
                && story.aborted_in().is_some_and(|at| phase == Some(at) || in_it(at.word()))
            {
                self.fleet.windlass(&["rollout", "abort", &rollout, "--yes"]).expect(0);
                aborted = true;
            }
            // On a bad disk the journal may be behind; what must hold is asked when it is mended.
            let settled = state.as_ref().is_some_and(State::is_settled);
            over = over || (settled && is_over(&self.fleet, &rollout));
            if (over && (settled || self.disk.is_some())) || since.elapsed() > LIMIT {
                break state;
            }
            pass(Duration::from_millis(10));
        };
        if !over {
            violations.push(format!("P9: the rollout goes on after {LIMIT:?}; {}", self.agent_now()));
        }
        // What strikes with the end, or after it.
        let end = Instant::now();
        while let Some(strike) = strikes.get(struck).filter(|_| end.elapsed() < LATE) {
            if self.is_struck(strike, since) {
                struck += 1;
                violations.extend(self.strike(strike.how, &properties));
                self.arm(strikes.get(struck));
            }
            pass(Duration::from_millis(10));
        }
        self.arm(None);
        if let Some(strike) = strikes.last().filter(|_| struck == strikes.len()) {
            violations.extend(self.mend(strike.how, &properties));
        }
        violations.extend(properties.within(PROPERTIES));
        let state = properties.state(&self.app.name).or(state);
        let end = state.as_ref().map(State::phase);
        let confirmed = state.and_then(|state| state.confirmed).map(|release| release.version.to_string());
        let confirmed = confirmed.unwrap_or_default();
        if confirmed != old && confirmed != new {
            violations.push(format!("P3: {confirmed} is confirmed, which is neither {old} nor {new}"));
        }
        if self.says().as_ref() != Some(&confirmed) {
            violations.push(format!("P1: {:?} is served and not {confirmed}", self.says()));
        }
        self.version = confirmed;
        // The bundle, the order, the abort.
        match audited(&self.fleet, self.audited) {
            Ok(head) if head.seq == self.audited.seq + 2 + u64::from(aborted) => self.audited = head,
            Ok(head) => violations.push(format!("P8: the audit log goes on from {} to {head}", self.audited)),
            Err(error) => violations.push(format!("P8: {error}")),
        }
        let aborted_late = story == Story::AbortedStaging && self.has_drained(&rollout);
        Seen { strikes: struck, end, violations, passed: self.passed(), aborted_late }
    }

    /// Whether the host came as far as draining.
    fn has_drained(&self, rollout: &str) -> bool {
        let shown = self.fleet.json(&["rollout", "show", rollout]);
        shown["hosts"][0]["phase_seconds"].get("draining").is_some()
    }

    fn is_struck(&mut self, strike: &Strike, since: Instant) -> bool {
        match strike.at {
            At::Moment(moment) => return since.elapsed() >= moment,
            At::Point(..) if strike.how != How::Kill => return self.agent.program.is_stopped(),
            At::Point(..) => {}
        }
        let Some(status) = self.agent.program.ended() else { return false };
        let log = self.agent.log();
        assert_eq!(status.signal(), Some(9), "the agent ended otherwise: {}", tail(&log));
        true
    }

    fn passed_file(&self) -> PathBuf {
        self.points.path().join("passed")
    }

    fn passed(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.passed_file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn forget_passed(&self) {
        // There is none before the first.
        let _ = std::fs::remove_file(self.passed_file());
    }

    fn arm(&self, strike: Option<&Strike>) {
        let (file, next) = (self.points.path().join("arm"), self.points.path().join("next"));
        match strike.and_then(Strike::order) {
            Some(order) => {
                std::fs::write(&next, order).unwrap();
                std::fs::rename(next, file).unwrap();
            }
            None => {
                let _ = std::fs::remove_file(file);
            }
        }
    }
}

/// The end of the audit log, in which `known` must be, if it is whole.
fn audited(fleet: &Fleet, known: Head) -> Result<Head, String> {
    let checked = fleet.windlass(&["audit", "--check", &known.to_string(), "-o", "json"]);
    if checked.code != 0 {
        return Err(checked.stderr);
    }
    Ok(checked.json()["head"].as_str().unwrap().parse().unwrap())
}

fn write_boot_id(file: &Path, number: u32) {
    std::fs::write(file, format!("00000000-0000-4000-8000-{number:012x}\n")).unwrap();
}

fn is_over(fleet: &Fleet, rollout: &str) -> bool {
    let shown = fleet.windlass(&["rollout", "show", rollout, "-o", "json"]);
    let over = ["Succeeded", "RolledBack", "RollbackFailed", "Failed", "Cancelled", "Superseded"];
    shown.code == 0 && over.contains(&shown.json()["state"].as_str().unwrap_or_default())
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
