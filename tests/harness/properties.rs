//! What must hold of a host at rest, whatever was done to it: the global properties P1 to P10 of
//! reference/RELIABILITY.md 2.4, judged by what lies on its disk, what runs, and what the coordinator says of it. P8, the audit
//! log, is no host's: whoever gives the orders counts its records (`tests/kills`).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use windlass_agent::control::{self, AgentStatus, Question};
use windlass_agent::held;
use windlass_agent::inspect::AppInspection;
use windlass_agent::layout::Layout;
use windlass_agent::link;
use windlass_agent::processes;
use windlass_agent::shim::order::RunDir;
use windlass_proto::bundle::{AuthorPublicKey, Trust};
use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, OpId};
use windlass_proto::phase::Phase;
use windlass_proto::spec::Runtime;
use windlass_release::State;

use crate::fleet::{Fleet, Host};
use crate::wait::pass;

/// Files that an agent may have open: sockets, journal, store, the runtime's own.
const OPEN_FILES: usize = 64;

/// One host under observation. It remembers what it has seen: some things may only grow, others may only change by an order.
#[derive(Debug)]
pub struct Properties<'a> {
    fleet: &'a Fleet,
    host: Host,
    layout: Layout,
    trust: Trust,
    around: BTreeMap<PathBuf, Mark>,
    seen: BTreeMap<AppName, Seen>,
    /// What was broken once stays broken.
    broken: BTreeSet<String>,
}

/// What tells whether a file was touched.
type Mark = (u64, i64, i64);

/// What was seen of an app.
#[derive(Debug, Clone)]
struct Seen {
    floor: u64,
    counter: u64,
    epoch: u64,
    seq: u64,
    confirmed: Option<Digest>,
    op: Option<OpId>,
}

impl<'a> Properties<'a> {
    /// Of the N-th host, from 1, as it is now.
    pub fn of(fleet: &'a Fleet, number: u32) -> Self {
        let host = fleet.host(number);
        let dir = host.state_dir.parent().unwrap();
        let settings: toml::Table = std::fs::read_to_string(dir.join("agent.toml")).unwrap().parse().unwrap();
        let keys = settings["policy"]["author_keys"].as_array().unwrap();
        let keys = keys.iter().map(|key| key.as_str().unwrap().parse::<AuthorPublicKey>().unwrap());
        let layout = Layout::new(&host.state_dir, dir.join("run")).unwrap();
        let (around, trust) = (around(&host), Trust::new(keys, 1).unwrap());
        Self { fleet, host, layout, trust, around, seen: BTreeMap::new(), broken: BTreeSet::new() }
    }

    /// Panics unless all of them hold soon.
    #[track_caller]
    pub fn hold(&mut self) {
        let broken = self.within(Duration::from_secs(30));
        assert!(
            broken.is_empty(),
            "{} breaks what must always hold:\n  {}",
            self.host.name,
            broken.join("\n  ")
        );
    }

    /// Waits until all of them hold, at most for so long; then what does not.
    pub fn within(&mut self, limit: Duration) -> Vec<String> {
        let deadline = Instant::now() + limit;
        loop {
            let now = self.broken_now();
            if now.is_empty() && self.broken.is_empty() {
                return now;
            }
            if Instant::now() >= deadline || !self.broken.is_empty() {
                return self.broken.iter().cloned().chain(now).collect();
            }
            pass(Duration::from_millis(20));
        }
    }

    /// What the journal says of an app.
    pub fn state(&self, app: &str) -> Option<State> {
        let inspected = control::inspection_of(&self.layout).ok()?;
        state_of(inspected.iter().find(|inspected| inspected.releases.app.as_str() == app)?)
    }

    /// What the host says instead of a state: for whoever wants to know why there is none.
    pub fn said(&self) -> String {
        match control::inspection_of(&self.layout) {
            Ok(inspected) => format!("{inspected:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn broken_now(&mut self) -> Vec<String> {
        let mut broken = Vec::new();
        let inspected = match control::inspection_of(&self.layout) {
            Ok(inspected) => inspected,
            Err(error) => return vec![format!("the host cannot be inspected: {error}")],
        };
        let shown = self.fleet.windlass(&["host", "show", &self.host.name, "-o", "json"]);
        let shown = if shown.code == 0 { shown.json() } else { Value::Null };
        for app in &inspected {
            let Some(state) = state_of(app) else { continue };
            self.remember(app, &state);
            if !state.is_settled() {
                broken.push(format!("P9 {}: still {}", state.app, state.phase()));
                continue;
            }
            let rows = shown["apps"].as_array().into_iter().flatten();
            let row = rows.clone().find(|row| row["app"] == state.app.as_str());
            broken.extend(self.releases(app, &state));
            broken.extend(agreed(&state, row.unwrap_or(&Value::Null)));
            broken.extend(self.running(&state));
            broken.extend(self.clutter(&state.app));
        }
        if around(&self.host) != self.around {
            self.broken.insert("P7: files beside the agent's own were changed".into());
        }
        broken.extend(self.leaks());
        broken
    }

    /// P3 and P6: what is compared with what was seen before.
    fn remember(&mut self, inspected: &AppInspection, state: &State) {
        let now = Seen {
            floor: inspected.floor.unwrap_or(0),
            counter: state.counter,
            epoch: state.epoch,
            seq: state.seq,
            confirmed: state.confirmed.as_ref().map(|release| release.digest),
            op: state.operation.as_ref().map(|operation| operation.op.clone()),
        };
        let Some(before) = self.seen.insert(state.app.clone(), now.clone()) else { return };
        let app = &state.app;
        if now.floor < before.floor || now.counter < before.counter || now.epoch < before.epoch {
            self.broken.insert(format!("P6 {app}: counter or epoch went down from {before:?} to {now:?}"));
        }
        if now.seq < before.seq {
            self.broken.insert(format!("P6 {app}: the journal went back from {} to {}", before.seq, now.seq));
        }
        let by_watch = state.phase() == Phase::Reverting || state.phase() == Phase::Reverted;
        if now.confirmed != before.confirmed && now.op == before.op && before.confirmed.is_some() && !by_watch
        {
            let what =
                format!("P3 {app}: confirmed changed from {:?} to {:?}", before.confirmed, now.confirmed);
            // The operation under observation may confirm its own release.
            let own = state.operation.as_ref().map(|operation| operation.to.digest);
            if now.confirmed != own || state.phase() != Phase::Confirmed {
                self.broken.insert(what);
            }
        }
    }

    /// P1 and P5: one release is current, the same that is confirmed, and every release here is whole and signed.
    fn releases(&self, inspected: &AppInspection, state: &State) -> Vec<String> {
        let (app, mut broken) = (&state.app, Vec::new());
        let digest =
            |release: &Option<windlass_proto::release::ReleaseRef>| release.as_ref().map(|r| r.digest);
        let (current, confirmed) = (digest(&state.current), digest(&state.confirmed));
        let quarantined = state.phase() == Phase::Quarantined;
        if current != confirmed && !quarantined {
            broken.push(format!("P1 {app}: at rest on {current:?}, but {confirmed:?} is confirmed"));
        }
        let links = (&inspected.releases.current, &inspected.releases.confirmed);
        if links != (&current, &confirmed) && !quarantined {
            broken.push(format!("P1 {app}: the links say {links:?}, the journal {current:?}, {confirmed:?}"));
        }
        if !inspected.releases.problem.is_empty() {
            broken.push(format!("P1 {app}: {}", inspected.releases.problem));
        }
        for held in held::digests(&self.layout, app) {
            let dir = self.layout.release(app, &held);
            if let Err(error) = held::verify(&self.layout, app, &held) {
                broken.push(format!("P1 {app}: {} is not whole: {error}", dir.display()));
            }
            if held::envelope(&dir).map(|envelope| envelope.verify(&self.trust).is_err()).unwrap_or(true) {
                broken.push(format!("P1 {app}: {} is not signed", dir.display()));
            }
        }
        for kept in current.iter().chain(&confirmed) {
            if !self.layout.release(app, kept).is_dir() {
                broken.push(format!("P1 {app}: {kept} is named and not here"));
            }
        }
        if confirmed.is_some_and(|it| link::confirmed_at(&self.layout.release(app, &it)).is_none()) {
            broken.push(format!("P5 {app}: {confirmed:?} does not bear the mark of a confirmed release"));
        }
        broken
    }

    /// P1 and P4: of the processes, and whether traffic may come.
    fn running(&self, state: &State) -> Vec<String> {
        let (app, mut broken) = (&state.app, Vec::new());
        let of_app = self.layout.releases(app);
        let exes = processes::all().into_iter().filter(|process| process.lives());
        let exes = exes.filter_map(|process| process.id.exe()).filter(|exe| exe.starts_with(&of_app));
        let exes: Vec<PathBuf> = exes.collect();
        let wanted = state.wanted().map(|release| self.layout.tree(app, &release.digest));
        if let Some(other) = exes.iter().find(|exe| !wanted.as_ref().is_some_and(|dir| exe.starts_with(dir)))
        {
            broken.push(format!("P1 {app}: {} runs", other.display()));
        }
        let run = RunDir(self.layout.app_run(app));
        let ready = std::fs::read_to_string(run.ready()).unwrap_or_default();
        let Some(release) = state.wanted() else {
            if !ready.is_empty() {
                broken.push(format!("P4 {app}: in traffic while nothing of it is to run"));
            }
            return broken;
        };
        let manifest = held::manifest(&self.layout.release(app, &release.digest), &release.digest);
        let runs = manifest.is_ok_and(|manifest| matches!(manifest.release.runtime, Runtime::Process { .. }));
        if runs && exes.is_empty() {
            broken.push(format!("P1 {app}: nothing runs"));
        }
        if ready != format!("{} {}\n", release.version, release.digest) {
            broken.push(format!("P4 {app}: out of traffic, or another release is in it: {ready:?}"));
        }
        broken
    }

    /// P10: temporary links and files, shims without an app, remains of stagings, trash.
    fn clutter(&self, app: &AppName) -> Vec<String> {
        let mut broken = Vec::new();
        let dirs = [self.layout.app(app), self.layout.app_run(app), self.layout.app_logs(app)];
        let held = held::digests(&self.layout, app).into_iter().map(|held| self.layout.release(app, &held));
        for dir in dirs.into_iter().chain([self.layout.releases(app)]).chain(held) {
            let temporary = |name: &String| name.starts_with('.') || name.ends_with(".tmp");
            let hidden = names(&dir).into_iter().filter(temporary);
            broken.extend(hidden.map(|name| format!("P10 {app}: {} left behind", dir.join(name).display())));
        }
        for dir in [self.layout.staging(), self.layout.trash()] {
            let left = names(&dir);
            if !left.is_empty() {
                broken.push(format!("P10 {app}: {} holds {}", dir.display(), left.join(", ")));
            }
        }
        let order = RunDir(self.layout.app_run(app)).order();
        let shims = processes::all().into_iter().filter(|process| process.lives());
        let shims = shims.filter(|process| process.id.is_shim_of(&order)).count();
        if shims > 1 {
            broken.push(format!("P10 {app}: {shims} shims"));
        }
        broken
    }

    fn leaks(&self) -> Vec<String> {
        let status = control::ask::<AgentStatus>(&self.layout, Question::Status);
        let Ok(Some(status)) = status else { return vec!["the agent does not answer".into()] };
        let open = names(Path::new(&format!("/proc/{}/fd", status.pid))).len();
        if open > OPEN_FILES { vec![format!("P10: the agent has {open} files open")] } else { Vec::new() }
    }
}

/// P2: the coordinator says of the host what the host says of itself.
fn agreed(state: &State, row: &Value) -> Vec<String> {
    let text = |release: &Option<windlass_proto::release::ReleaseRef>| {
        release.as_ref().map_or(Value::Null, |release| release.digest.to_string().into())
    };
    let outcome = state.operation.as_ref().and_then(|operation| operation.outcome);
    let outcome = outcome.map_or(Value::Null, |outcome| outcome.word().into());
    let told = [
        ("phase", &row["phase"], Value::from(state.phase().word())),
        ("outcome", &row["outcome"], outcome),
        ("current", &row["digest"], text(&state.current)),
        ("confirmed", &row["confirmed"]["digest"], text(&state.confirmed)),
    ];
    let differ = told.into_iter().filter(|(_, shown, is)| *shown != is);
    differ
        .map(|(what, shown, is)| format!("P2 {}: {what} is {is}, the coordinator says {shown}", state.app))
        .collect()
}

fn state_of(inspected: &AppInspection) -> Option<State> {
    serde_json::from_value(inspected.state.as_ref()?.get("state")?.clone()).ok()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The files beside state and run directory, which are none of the agent's business.
fn around(host: &Host) -> BTreeMap<PathBuf, Mark> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(host.state_dir.parent().unwrap()).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_file() {
            found.insert(entry.path(), (meta.len(), meta.mtime(), meta.mtime_nsec()));
        }
    }
    found
}
