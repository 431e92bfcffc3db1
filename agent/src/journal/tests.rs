use proptest::prelude::*;

use super::*;

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn states(recovered: &Recovered) -> Vec<(&str, &[u8])> {
    let states = recovered.latest.states.iter();
    states.map(|(app, payload)| (app.as_str(), payload.as_slice())).collect()
}

fn reopen(dir: &Path) -> Recovered {
    Journal::open(dir).unwrap().1
}

/// Places a journal file with other content.
fn put(dir: &Path, segment: usize, bytes: &[u8]) {
    std::fs::write(dir.join(format!("journal.{segment}")), bytes).unwrap();
}

fn get(dir: &Path, segment: usize) -> Vec<u8> {
    std::fs::read(dir.join(format!("journal.{segment}"))).unwrap()
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, recovered) = Journal::open(dir.path()).unwrap();
    assert_eq!(recovered, Recovered::default());
    journal.append(&app("a"), b"one".to_vec()).unwrap();
    journal.append(&app("b"), b"two".to_vec()).unwrap();
    journal.append(&app("a"), b"three".to_vec()).unwrap();
    journal.raise_floor(&app("a"), 9).unwrap();
    journal.raise_floor(&app("a"), 4).unwrap();
    drop(journal);
    for _ in 0..2 {
        let recovered = reopen(dir.path());
        assert_eq!(recovered.damage, None);
        assert_eq!(states(&recovered), [("a", b"three".as_slice()), ("b", b"two")]);
        assert_eq!(recovered.latest.floors[&app("a")], 9);
        assert_eq!(peek(dir.path()).unwrap(), Some(recovered));
    }
}

#[test]
fn a_second_agent_is_kept_out_and_a_reader_is_not() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(peek(dir.path()).unwrap(), None);
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&app("a"), b"one".to_vec()).unwrap();
    assert_eq!(states(&peek(dir.path()).unwrap().unwrap()), [("a", b"one".as_slice())]);
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::InUse { .. })));
}

#[test]
fn a_power_cut_at_any_byte_of_the_last_record_loses_only_that_record() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&app("a"), b"acknowledged".to_vec()).unwrap();
    let (from, segment) = (journal.end, journal.active);
    journal.append(&app("a"), b"under way".to_vec()).unwrap();
    let end = journal.end;
    drop(journal);
    let whole = get(dir.path(), segment);
    for cut in from..end {
        for truncate in [false, true] {
            let mut bytes = whole.clone();
            bytes[cut..].fill(0);
            bytes.truncate(if truncate { cut } else { SEGMENT });
            put(dir.path(), segment, &bytes);
            let (mut journal, recovered) = Journal::open(dir.path()).unwrap();
            // Cutting padding or zeros that belong to the record leaves it whole.
            let complete = bytes[from..].iter().eq(whole[from..].iter().take(bytes.len() - from))
                && !truncate
                || whole[cut..end].iter().all(|byte| *byte == 0);
            let expected: &[u8] = if complete { b"under way" } else { b"acknowledged" };
            assert_eq!(states(&recovered), [("a", expected)], "cut at {cut}");
            assert!(!matches!(recovered.damage, Some(Damage::Middle { .. })), "cut at {cut}");
            journal.append(&app("a"), b"afterwards".to_vec()).unwrap();
            drop(journal);
            let recovered = reopen(dir.path());
            assert_eq!(
                (states(&recovered), recovered.damage.clone()),
                (vec![("a", b"afterwards".as_slice())], None)
            );
        }
    }
}

#[test]
fn damage_before_the_last_record_is_told_apart_and_the_newest_state_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&app("a"), b"first".to_vec()).unwrap();
    let broken = journal.end;
    journal.append(&app("b"), b"second".to_vec()).unwrap();
    let after = journal.end;
    journal.append(&app("a"), b"third".to_vec()).unwrap();
    let segment = journal.active;
    drop(journal);
    let whole = get(dir.path(), segment);
    for at in broken..after - 8 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        put(dir.path(), segment, &bytes);
        let (mut journal, recovered) = Journal::open(dir.path()).unwrap();
        assert!(
            matches!(recovered.damage, Some(Damage::Middle { offset, .. }) if offset == broken),
            "flip at {at}"
        );
        assert_eq!(recovered.latest.states[&app("a")], b"third", "flip at {at}");
        journal.append(&app("c"), b"fourth".to_vec()).unwrap();
        drop(journal);
        let recovered = reopen(dir.path());
        assert_eq!(recovered.damage, None);
        assert_eq!(states(&recovered), [("a", b"third".as_slice()), ("c", b"fourth")]);
        put(dir.path(), 1 - segment, &vec![0; SEGMENT]);
    }
}

#[test]
fn a_lost_first_block_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&app("a"), b"one".to_vec()).unwrap();
    let segment = journal.active;
    drop(journal);
    let mut bytes = get(dir.path(), segment);
    bytes[3] ^= 1;
    put(dir.path(), segment, &bytes);
    let recovered = reopen(dir.path());
    assert!(matches!(recovered.damage, Some(Damage::Middle { .. })));
    assert_eq!(states(&recovered), [("a", b"one".as_slice())]);
    assert_eq!(reopen(dir.path()).damage, None);
}

#[test]
fn a_full_segment_goes_on_in_the_other_one_and_a_crash_in_between_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    let payload = |number: usize| format!("{number:060000}").into_bytes();
    journal.append(&app("b"), b"kept".to_vec()).unwrap();
    let first = journal.generation;
    let mut number = 0;
    let mut before = [Vec::new(), Vec::new()];
    while journal.generation < first + 3 {
        before = [get(dir.path(), 0), get(dir.path(), 1)];
        number += 1;
        journal.append(&app("a"), payload(number)).unwrap();
    }
    let (active, end) = (journal.active, journal.end);
    drop(journal);
    let recovered = reopen(dir.path());
    assert_eq!(recovered.damage, None);
    assert_eq!(states(&recovered), [("a", payload(number).as_slice()), ("b", b"kept")]);
    let after = get(dir.path(), active);

    // The moments of the switch: zeros half written, all written, checkpoint half written, first block missing.
    let mut moments = Vec::new();
    for blocks in [0, 1, 3, 20, 255] {
        let mut bytes = before[active].clone();
        bytes[..blocks * 4096].fill(0);
        moments.push(bytes);
        let mut bytes = before[active].clone();
        bytes[(256 - blocks) * 4096..].fill(0);
        moments.push(bytes);
    }
    for written in [0, 1, 4096, 4100, 30_000, end - 9, end] {
        let mut bytes = vec![0; SEGMENT];
        let upto = written.max(FIRST);
        bytes[FIRST..upto].copy_from_slice(&after[FIRST..upto]);
        moments.push(bytes);
    }
    for (index, moment) in moments.iter().enumerate() {
        put(dir.path(), active, moment);
        put(dir.path(), 1 - active, &before[1 - active]);
        let recovered = reopen(dir.path());
        assert_eq!(recovered.damage, None, "moment {index}");
        assert_eq!(
            states(&recovered),
            [("a", payload(number - 1).as_slice()), ("b", b"kept")],
            "moment {index}"
        );
    }
}

#[test]
fn files_never_grow() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    for number in 0..60 {
        journal.append(&app("a"), vec![number; 50_000]).unwrap();
    }
    assert!(matches!(
        journal.append(&app("a"), vec![0; SEGMENT]),
        Err(JournalError::TooLarge { most: MOST, .. })
    ));
    journal.append(&app("a"), b"still good".to_vec()).unwrap();
    use std::os::unix::fs::MetadataExt;
    for segment in 0..2 {
        let meta = std::fs::metadata(dir.path().join(format!("journal.{segment}"))).unwrap();
        assert_eq!((meta.len(), meta.blocks() * 512), (SEGMENT as u64, SEGMENT as u64));
    }
}

#[test]
fn after_a_failed_write_nothing_is_written_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    let path = journal.paths[journal.active].clone();
    let read_only = File::open(path).unwrap();
    let good = std::mem::replace(&mut journal.files[journal.active], read_only);
    assert!(matches!(journal.append(&app("a"), b"x".to_vec()), Err(JournalError::Io { .. })));
    let active = journal.active;
    journal.files[active] = good;
    assert!(matches!(journal.append(&app("a"), b"x".to_vec()), Err(JournalError::Poisoned { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flips_anywhere_never_panic_and_never_invent(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        for number in 0..5u8 {
            journal.append(&app("a"), vec![number; 40]).unwrap();
        }
        let (segment, end) = (journal.active, journal.end);
        drop(journal);
        let mut bytes = get(dir.path(), segment);
        for (at, bit) in flips {
            bytes[at.index(end)] ^= 1 << bit;
        }
        put(dir.path(), segment, &bytes);
        let recovered = reopen(dir.path());
        if let Some(state) = recovered.latest.states.get(&app("a")) {
            prop_assert!(state.len() == 40 && state[0] < 5 && state.iter().all(|byte| *byte == state[0]));
        }
        prop_assert_eq!(reopen(dir.path()).damage, None);
    }
}

#[test]
fn a_power_cut_between_the_writes_of_a_switch_leaves_one_segment_in_force() {
    // Zeros, checkpoint, first block.
    for written in 0..=3 {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        let before = journal.generation;
        let mut number = 0u32;
        while journal.generation == before {
            let room = SEGMENT - journal.end;
            // The next record does not fit.
            if room < 120_000 {
                journal.writes_left = Some(written);
            }
            number += 1;
            if journal.append(&app("a"), vec![number as u8; 100_000]).is_err() {
                number -= 1;
                break;
            }
        }
        drop(journal);
        let recovered = reopen(dir.path());
        assert_eq!(recovered.damage, None, "after {written} writes");
        assert_eq!(states(&recovered), [("a", vec![number as u8; 100_000].as_slice())], "{written}");
    }
}
