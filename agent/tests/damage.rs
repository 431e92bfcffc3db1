//! Bits flipped, files cut and removed, at every 4 KiB of the store and the journal and in every envelope: the agent comes up
//! in time, finds what can be found, and ends on what was confirmed.
//!
//! The ordinary run takes some of the places, `WINDLASS_LONG=1` all.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use windlass_agent::layout::{ENVELOPE, Layout};
use windlass_agent::recover::Ledger;
use windlass_agent::store::{Change, Health, HistoryRow};
use windlass_agent::{clock, held, link, storage};
use windlass_proto::bundle::{AuthorKey, Envelope, Tree};
use windlass_proto::digest::Digest;
use windlass_proto::id::AppName;
use windlass_proto::phase::Outcome;
use windlass_proto::release::ReleaseRef;
use windlass_proto::time::Timestamp;
use windlass_release::State;

const BLOCK: u64 = 4096;

/// Within this the agent has all of it, whatever it looks like and however busy the machine is.
const UP: Duration = Duration::from_secs(30);

/// A host with two apps and some history.
struct Whole {
    dir: tempfile::TempDir,
    confirmed: BTreeMap<AppName, ReleaseRef>,
    held: BTreeSet<Digest>,
}

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(u64),
    Cut(u64),
    /// A block of zeros, as a disk gives back what was never written.
    Zero(u64),
    Remove,
}

fn layout(dir: &Path) -> Layout {
    Layout::new(dir.join("state"), dir.join("run")).unwrap()
}

impl Whole {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let key = AuthorKey::generate().unwrap();
        let storage = storage::open(&layout, SystemTime::now()).unwrap();
        let (mut ledger, _) = Ledger::open(storage.journal, &storage.recovered, &layout, "boot".into());
        let store = storage.store.store;
        let mut confirmed = BTreeMap::new();
        let mut held = BTreeSet::new();
        for name in ["shop", "web"] {
            let app = AppName::new(name).unwrap();
            layout.create_app(&app).unwrap();
            let mut state = State::new(app.clone());
            for counter in 1..=4 {
                let release = release(&layout, &app, counter, &key);
                link::set_confirmed(&layout, &app, &release.digest, clock::wall()).unwrap();
                // As many records as a deployment makes.
                for seq in 0..12 {
                    state.seq = counter * 100 + seq;
                    ledger.keep(&state).unwrap();
                }
                state.history = state.confirmed.take().into_iter().chain(state.history).take(3).collect();
                state.counter = counter;
                state.current = Some(release.clone());
                state.confirmed = Some(release.clone());
                ledger.keep(&state).unwrap();
                let row = held::row(&layout, &app, &release.digest).unwrap();
                store.apply(vec![Change::Put(row)]).unwrap();
                for nth in 0..40 {
                    store.apply(vec![Change::Ended(ended(&release, nth))]).unwrap();
                }
                held.insert(release.digest);
                confirmed.insert(app.clone(), release);
            }
        }
        Self { dir, confirmed, held }
    }

    /// Does this to a copy, brings it up, and says how the store came up.
    fn survives(&self, file: &Path, damage: Damage) -> (Health, Option<String>, Duration) {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(self.dir.path(), copy.path());
        hurt(&copy.path().join(file), damage);
        let layout = layout(copy.path());
        let begun = Instant::now();
        let storage = storage::open(&layout, SystemTime::now()).unwrap();
        let problems = storage.problems();
        let safe_mode = storage.safe_mode.clone();
        let health = storage.store.health.clone();
        let (_, left) = Ledger::open(storage.journal, &storage.recovered, &layout, "boot".into());
        let took = begun.elapsed();
        let what = format!("{} {damage:?}: {health:?}", file.display());
        assert!(took < UP, "{what}: took {took:?}");
        assert_eq!(
            problems.is_empty(),
            health == Health::Good && safe_mode.is_none(),
            "{what}: {problems:?}"
        );
        let is_envelope = file.ends_with(ENVELOPE);
        let mut found = BTreeSet::new();
        for (app, release) in &self.confirmed {
            found.extend(storage.store.store.releases(app).unwrap().iter().map(|row| row.release.digest));
            let state = &left.iter().find(|left| left.state.app == *app).expect(&what).state;
            assert_eq!(state.confirmed.as_ref(), Some(release), "{what}");
            assert_eq!(state.counter, release.counter, "{what}");
        }
        let missing: Vec<_> = self.held.difference(&found).collect();
        assert!(missing.len() <= usize::from(is_envelope), "{what}: {missing:?} not found again");
        assert!(found.is_subset(&self.held), "{what}");
        (health, safe_mode, took)
    }
}

fn release(layout: &Layout, app: &AppName, counter: u64, key: &AuthorKey) -> ReleaseRef {
    let source = tempfile::tempdir_in(layout.staging()).unwrap();
    fs::write(source.path().join("file"), format!("{app} {counter}")).unwrap();
    let spec = serde_json::from_str(r#"{"runtime":{"kind":"static"}}"#).unwrap();
    let version = format!("1.{counter}").parse().unwrap();
    let manifest = Tree::scan(source.path()).unwrap().manifest(app.clone(), version, counter, spec).unwrap();
    let mut envelope = Envelope::new(&manifest);
    envelope.sign(key);
    let digest = manifest.digest();
    fs::create_dir(layout.release(app, &digest)).unwrap();
    fs::write(layout.envelope(app, &digest), envelope.encode()).unwrap();
    fs::rename(source.keep(), layout.tree(app, &digest)).unwrap();
    manifest.release_ref()
}

fn ended(release: &ReleaseRef, nth: u32) -> HistoryRow {
    let counter = release.counter;
    HistoryRow {
        op: format!("op-{}-{counter}-{nth}", release.app).parse().unwrap(),
        rollout: format!("r-{counter}").parse().unwrap(),
        release: release.clone(),
        from: None,
        ended_at: Timestamp(counter as i64),
        outcome: Outcome::Confirmed,
        fault: None,
        reason: format!("{nth} ").repeat(200),
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy_tree(&entry.path(), &to);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), to).unwrap();
        } else if kind.is_file() {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn hurt(file: &Path, damage: Damage) {
    match damage {
        Damage::Flip(at) => {
            let mut bytes = fs::read(file).unwrap();
            bytes[at as usize] ^= 0x10;
            fs::write(file, bytes).unwrap();
        }
        Damage::Cut(at) => fs::File::options().write(true).open(file).unwrap().set_len(at).unwrap(),
        Damage::Zero(at) => {
            let mut bytes = fs::read(file).unwrap();
            let end = bytes.len().min((at + BLOCK) as usize);
            bytes[at as usize..end].fill(0);
            fs::write(file, bytes).unwrap();
        }
        Damage::Remove => fs::remove_file(file).unwrap(),
    }
}

/// The files below, relative to the host's directory.
fn files(dir: &Path, below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.join("state").join(below)];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.push(path.strip_prefix(dir).unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// Of a file of this size: every block, or where it is long and nobody has the time, the first ones and then some.
fn damages(bytes: u64) -> Vec<Damage> {
    let long = std::env::var_os("WINDLASS_LONG").is_some();
    let mut damages = vec![Damage::Remove, Damage::Cut(0)];
    for block in 0..bytes.div_ceil(BLOCK) {
        if long || block < 12 || block.is_multiple_of(37) {
            let at = block * BLOCK;
            damages.extend([Damage::Flip(at), Damage::Cut(at), Damage::Zero(at)]);
            let inside = [at + 9, at + 700, at + BLOCK / 2 + 3].into_iter().filter(|inside| *inside < bytes);
            damages.extend(inside.map(Damage::Flip));
        }
    }
    damages
}

#[allow(clippy::print_stderr, reason = "whoever runs the tests should see it")]
fn survives_all(whole: &Whole, below: &str) -> Vec<(PathBuf, Damage, Health, Option<String>)> {
    let mut seen = Vec::new();
    let mut slowest = Duration::ZERO;
    for file in files(whole.dir.path(), below) {
        let bytes = fs::metadata(whole.dir.path().join(&file)).unwrap().len();
        for damage in damages(bytes) {
            let (health, safe_mode, took) = whole.survives(&file, damage);
            slowest = slowest.max(took);
            seen.push((file.clone(), damage, health, safe_mode));
        }
    }
    let count = |is: fn(&Health) -> bool| seen.iter().filter(|(_, _, health, _)| is(health)).count();
    eprintln!(
        "MEASURED: {} damages of {below}: store good {}, rebuilt {}, in memory {}; safe mode {}; up after {slowest:?} at most",
        seen.len(),
        count(|health| *health == Health::Good),
        count(|health| matches!(health, Health::Rebuilt(_))),
        count(|health| matches!(health, Health::MemoryOnly(_))),
        seen.iter().filter(|(_, _, _, safe_mode)| safe_mode.is_some()).count(),
    );
    seen
}

#[test]
fn a_damaged_store_is_made_anew_from_the_releases() {
    let whole = Whole::new();
    let seen = survives_all(&whole, "store");
    assert!(seen.iter().any(|(_, _, health, _)| matches!(health, Health::Rebuilt(_))), "nothing was damaged");
    assert!(!seen.iter().any(|(.., safe_mode)| safe_mode.is_some()), "the store is no reason for it");
}

#[test]
fn a_damaged_journal_gives_way_to_the_links_and_its_middle_is_said_loudly() {
    let whole = Whole::new();
    let seen = survives_all(&whole, "journal.0");
    let second = survives_all(&whole, "journal.1");
    assert!(seen.iter().chain(&second).any(|(.., safe_mode)| safe_mode.is_some()), "never in the middle");
    assert!(seen.iter().any(|(.., safe_mode)| safe_mode.is_none()), "an unused block does not matter");
    // It outlasts the agent, until somebody removes the file.
    let copy = tempfile::tempdir().unwrap();
    copy_tree(whole.dir.path(), copy.path());
    hurt(&copy.path().join("state/journal.1"), Damage::Flip(BLOCK + 700));
    hurt(&copy.path().join("state/journal.0"), Damage::Flip(BLOCK + 700));
    let layout = layout(copy.path());
    for again in 0..2 {
        let storage = storage::open(&layout, SystemTime::now()).unwrap();
        let reason = storage.safe_mode.unwrap_or_default();
        assert!(reason.contains("is damaged at byte"), "{again}: {reason:?}");
    }
    fs::remove_file(layout.safe_mode()).unwrap();
    assert_eq!(storage::open(&layout, SystemTime::now()).unwrap().safe_mode, None);
}

#[test]
fn a_damaged_envelope_costs_its_release_only() {
    let whole = Whole::new();
    for file in files(whole.dir.path(), "apps").into_iter().filter(|file| file.ends_with(ENVELOPE)) {
        for damage in [Damage::Remove, Damage::Cut(0), Damage::Cut(100), Damage::Flip(0), Damage::Flip(200)] {
            whole.survives(&file, damage);
        }
    }
}
