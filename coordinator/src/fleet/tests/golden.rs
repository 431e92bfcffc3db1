//! Rows that a coordinator has written: each version of each kind is still read, and nothing newer is taken for one of them.

use std::path::PathBuf;

use windlass_proto::version::PROGRAM;

use super::World;
use crate::fleet::{Fleet, row};
use crate::store::{Key, StateStore as _, Txn, Write};

/// Rows as coordinators wrote them, each on a line: a version has more than one form where fields came that older programs may
/// overlook. The last one is what is written now.
fn golden(kind: &str, version: u32) -> Vec<Vec<u8>> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/rows/{kind}.{version}"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; a row of this kind and version, as a coordinator writes it, belongs there",
            file.display()
        )
    });
    text.lines().map(|line| line.as_bytes().to_vec()).collect()
}

#[test]
fn each_version_of_each_kind_is_read_and_the_newest_is_what_is_written() {
    for (kind, newest, again) in row::ALL {
        for version in 1..=*newest {
            let rows = golden(kind, version);
            assert!(!rows.is_empty(), "{kind}.{version}");
            for (at, row) in rows.iter().enumerate() {
                let written = again(row).unwrap_or_else(|error| panic!("{kind}.{version}: {error}"));
                assert!(written.starts_with(format!("{newest} ").as_bytes()), "{kind}.{version}");
                if version == *newest && at + 1 == rows.len() {
                    let text = String::from_utf8_lossy;
                    let another = "another form is another version, or one more line if older programs may overlook what is new";
                    assert_eq!(text(&written), text(row), "{kind}.{version}: {another}");
                }
            }
        }
    }
}

#[test]
fn a_newer_row_is_refused_by_name() {
    for (kind, newest, again) in row::ALL {
        let mut row = format!("{} ", newest + 1).into_bytes();
        row.extend_from_slice(&golden(kind, *newest)[0][2..]);
        let expected = format!(
            "it is of version {}, and windlass {PROGRAM} knows up to {newest}: start the windlass that wrote it",
            newest + 1
        );
        assert_eq!(again(&row).unwrap_err().to_string(), expected, "{kind}");
    }
}

#[test]
fn what_has_no_version_is_no_row() {
    for row in ["", "{}", "0 {}", "-1 {}", "x {}", "4294967296 {}"] {
        for (kind, _, again) in row::ALL {
            assert_eq!(again(row.as_bytes()).unwrap_err().to_string(), "it has no version", "{kind}: {row}");
        }
    }
}

/// A coordinator that was downgraded says which row it cannot read, and starts nothing.
#[tokio::test]
async fn a_state_with_a_newer_row_is_not_loaded() {
    let world = World::new(1).await;
    let key = Key::new("app/shop").unwrap();
    let writes = vec![Write::Put(key, b"2 {\"failed\":{}}".to_vec())];
    world.store.commit(&world.fence, Txn { conditions: vec![], writes }).await.unwrap();
    let mut fleet = Fleet::new("test".into(), world.fence, world.fleet.now);
    let error = fleet.load(&world.store).await.unwrap_err();
    assert_eq!(
        crate::log::chain(&error),
        format!(
            "row app/shop of the state cannot be read: it is of version 2, and windlass {PROGRAM} knows up to 1: start the windlass \
             that wrote it"
        )
    );
}
