use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use windlass_proto::digest::Digest;
use windlass_proto::id::ReleaseVersion;

use super::*;
use crate::layout::Layout;

fn layout(dir: &tempfile::TempDir) -> Layout {
    let layout = Layout::new(dir.path().join("state"), dir.path().join("run")).unwrap();
    layout.create().unwrap();
    layout
}

fn row(app: &str, number: u8) -> ReleaseRow {
    ReleaseRow {
        release: ReleaseRef {
            app: AppName::new(app).unwrap(),
            version: ReleaseVersion::new(format!("1.{number}")).unwrap(),
            digest: Digest::from_bytes([number; 32]),
            counter: u64::from(number),
        },
        bytes: 1000 * u64::from(number),
        staged_at: Timestamp(i64::from(number)),
        confirmed_at: number.is_multiple_of(2).then_some(Timestamp(50 + i64::from(number))),
    }
}

fn ended(app: &str, number: usize) -> HistoryRow {
    HistoryRow {
        op: OpId::new(format!("op-{number}")).unwrap(),
        rollout: RolloutId::new("r-1").unwrap(),
        release: row(app, 1).release,
        from: None,
        ended_at: Timestamp(number as i64),
        outcome: Outcome::Reverted,
        fault: Some(Fault::App),
        reason: "é".repeat(10_000),
    }
}

fn held() -> Vec<ReleaseRow> {
    (1..=100).map(|number| row(if number <= 50 { "a" } else { "a.b" }, number)).collect()
}

fn check(store: &dyn ReleaseStore) {
    let app = AppName::new("a").unwrap();
    let put = (1..=3).map(|number| Change::Put(row("a", number))).collect();
    store.apply(put).unwrap();
    store.apply(vec![Change::Put(row("a.b", 9)), Change::Remove(row("a", 2).release)]).unwrap();
    assert_eq!(store.releases(&app).unwrap(), [row("a", 1), row("a", 3)]);
    assert_eq!(store.all_releases().unwrap().len(), 3);
    for number in 0..HISTORY + 5 {
        store.apply(vec![Change::Ended(ended("a", number))]).unwrap();
    }
    let history = store.history(&app).unwrap();
    assert_eq!(history.len(), HISTORY);
    assert_eq!(history[0].ended_at, Timestamp(HISTORY as i64 + 4));
    let op = OpId::new("op-1").unwrap();
    let frozen = EvidenceRow { op, at: Timestamp(1), file: "op-1.json".into(), bytes: 7 };
    store.apply(vec![Change::Frozen { app: app.clone(), row: frozen.clone() }]).unwrap();
    assert_eq!(store.evidence(&app).unwrap(), [frozen]);
    assert_eq!(store.evidence(&AppName::new("a.b").unwrap()).unwrap(), []);
}

#[test]
fn both_stores_keep_rows_alike() {
    check(&MemoryStore::default());
    let dir = tempfile::tempdir().unwrap();
    let opened = open(&layout(&dir), &[]);
    assert_eq!(opened.health, Health::Good);
    check(&*opened.store);
}

#[test]
fn rows_survive_and_follow_the_directories() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    drop(open(&layout, &held()));
    let opened = open(&layout, &held()[..99]);
    assert_eq!(opened.health, Health::Good);
    assert_eq!(opened.store.all_releases().unwrap().len(), 99);
    opened.store.apply(vec![Change::Ended(ended("a", 1))]).unwrap();
    drop(opened);
    let opened = open(&layout, &held());
    assert_eq!(opened.health, Health::Good);
    assert_eq!(opened.store.history(&AppName::new("a").unwrap()).unwrap().len(), 1);
    assert!(opened.store.all_releases().unwrap() == held());
}

/// Whatever is done to the files: within two seconds the store is there with all releases.
#[test]
fn damage_costs_history_at_most() {
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 7] = [
        ("half-made snapshot", |store| {
            std::fs::write(store.join("snap.00000001.generating"), b"junk").unwrap()
        }),
        ("database cut to half", |store| {
            let file = OpenOptions::new().write(true).open(store.join("db")).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("database empty", |store| std::fs::write(store.join("db"), b"").unwrap()),
        ("database flipped everywhere", |store| {
            let file = OpenOptions::new().read(true).write(true).open(store.join("db")).unwrap();
            let length = file.metadata().unwrap().len();
            for at in (0..length).step_by(97) {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
            }
        }),
        ("snapshots deleted", |store| {
            for item in std::fs::read_dir(store).unwrap().flatten() {
                if item.file_name().to_string_lossy().starts_with("snap.") {
                    std::fs::remove_file(item.path()).unwrap();
                }
            }
        }),
        ("configuration is junk", |store| std::fs::write(store.join("conf"), b"junk").unwrap()),
        ("a file in its place", |store| {
            std::fs::remove_dir_all(store).unwrap();
            std::fs::write(store, b"junk").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        drop(open(&layout, &held()));
        damage(&layout.store());
        let start = Instant::now();
        let opened = open(&layout, &held());
        let took = start.elapsed();
        assert!(opened.store.all_releases().unwrap() == held(), "{name}");
        assert!(!matches!(opened.health, Health::MemoryOnly(_)), "{name}: {:?}", opened.health);
        assert!(took.as_secs() < 20, "{name}: {took:?}");
        let again = opened.store.apply(vec![Change::Ended(ended("a", 1))]);
        assert!(again.is_ok(), "{name}");
    }
}

#[test]
fn a_place_that_cannot_be_written_costs_only_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new("/proc/self/windlass", dir.path()).unwrap();
    let opened = open(&layout, &held());
    assert!(matches!(opened.health, Health::MemoryOnly(_)));
    assert!(opened.store.all_releases().unwrap() == held());
}
