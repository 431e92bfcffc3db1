//! What every backend must do. A new backend is one more line in [`backends`].

use super::{
    CommitError, Condition, Fence, Key, MAX_BYTES, MAX_OPS, Member, MemoryStore, Rise, SledStore, StateStore,
    Txn, Write,
};

fn backends() -> Vec<(tempfile::TempDir, Box<dyn StateStore>)> {
    let memory = tempfile::tempdir().unwrap();
    let sled = tempfile::tempdir().unwrap();
    let opened = SledStore::open(sled.path()).unwrap();
    vec![(memory, Box::new(MemoryStore::default())), (sled, Box::new(opened))]
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn put(name: &str, value: &[u8]) -> Write {
    Write::Put(key(name), value.to_vec())
}

fn writes(writes: Vec<Write>) -> Txn {
    Txn { conditions: vec![], writes }
}

fn member(id: &str) -> Member {
    Member { id: id.into(), address: "127.0.0.1:7444".into() }
}

#[tokio::test]
async fn commits_are_seen_whole() {
    for (_dir, store) in backends() {
        let fence = store.campaign(&member("a"), Rise::ONE).await.unwrap().fence;
        let first = store.commit(&fence, writes(vec![put("a/1", b"x"), put("a/2", b"y")])).await.unwrap();
        let second =
            store.commit(&fence, writes(vec![put("a/1", b"z"), Write::Delete(key("a/2"))])).await.unwrap();
        assert!(second > first, "{store:?}");
        let row = store.get(&key("a/1")).await.unwrap().unwrap();
        assert_eq!((row.value.as_slice(), row.revision), (b"z".as_slice(), second));
        assert_eq!(store.get(&key("a/2")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_failed_condition_writes_nothing() {
    for (_dir, store) in backends() {
        let fence = store.campaign(&member("a"), Rise::ONE).await.unwrap().fence;
        let at = store.commit(&fence, writes(vec![put("k", b"1")])).await.unwrap();
        for condition in [
            Condition::Absent(key("k")),
            Condition::At(key("k"), super::Revision(at.0 + 1)),
            Condition::At(key("none"), at),
        ] {
            let txn = Txn { conditions: vec![condition], writes: vec![put("k", b"2"), put("other", b"2")] };
            assert!(matches!(store.commit(&fence, txn).await, Err(CommitError::Conflict { .. })));
        }
        assert_eq!(store.get(&key("k")).await.unwrap().unwrap().value, b"1");
        assert_eq!(store.get(&key("other")).await.unwrap(), None);
        let txn = Txn {
            conditions: vec![Condition::At(key("k"), at), Condition::Absent(key("other"))],
            writes: vec![put("k", b"3")],
        };
        store.commit(&fence, txn).await.unwrap();
    }
}

#[tokio::test]
async fn a_former_leader_writes_nothing() {
    for (_dir, store) in backends() {
        let first = store.campaign(&member("a"), Rise::ONE).await.unwrap();
        let second = store.campaign(&member("b"), Rise::ONE).await.unwrap();
        assert!(second.fence.epoch > first.fence.epoch);
        assert_eq!(store.leader().await.unwrap().unwrap().id, "b");
        let late = store.commit(&first.fence, writes(vec![put("k", b"1")])).await;
        assert!(matches!(late, Err(CommitError::Fenced { .. })), "{late:?}");
        let never = Fence { epoch: second.fence.epoch + 1, ..second.fence };
        let other = Fence { epoch: second.fence.epoch, ..first.fence };
        for fence in [never, other] {
            assert!(store.commit(&fence, writes(vec![put("k", b"1")])).await.is_err());
        }
        assert_ne!(first.fence.leader, second.fence.leader);
        assert_eq!(store.get(&key("k")).await.unwrap(), None);
        let third = store.campaign(&member("a"), Rise::after_restore(100)).await.unwrap();
        assert!(third.fence.epoch > 1000, "{third:?}");
        let fourth = store.campaign(&member("a"), Rise::after_restore(100)).await.unwrap();
        assert!(fourth.fence.epoch > third.fence.epoch + 1000, "{fourth:?}");
    }
}

#[tokio::test]
async fn scans_are_ordered_bounded_and_resumable() {
    for (_dir, store) in backends() {
        let fence = store.campaign(&member("a"), Rise::ONE).await.unwrap().fence;
        let rows =
            (0..20).map(|n| put(&format!("p/{n:02}"), b"v")).chain([put("o/1", b"v"), put("q/1", b"v")]);
        store.commit(&fence, writes(rows.collect())).await.unwrap();
        let mut seen = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            let page = store.scan("p/", after.as_ref(), 7).await.unwrap();
            assert!(page.len() <= 7);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            seen.extend(page.into_iter().map(|(key, _)| key.as_str().to_owned()));
        }
        let expected: Vec<_> = (0..20).map(|n| format!("p/{n:02}")).collect();
        assert_eq!(seen, expected);
        assert_eq!(store.scan("", None, 100).await.unwrap().len(), 22, "a backend's own rows are hidden");
    }
}

#[tokio::test]
async fn what_the_smallest_backend_refuses_all_refuse() {
    for (_dir, store) in backends() {
        let fence = store.campaign(&member("a"), Rise::ONE).await.unwrap().fence;
        let many = (0..=MAX_OPS).map(|n| put(&format!("m/{n}"), b"")).collect();
        assert!(matches!(store.commit(&fence, writes(many)).await, Err(CommitError::TooLarge { .. })));
        let large = vec![put("l", &vec![0; MAX_BYTES])];
        assert!(matches!(store.commit(&fence, writes(large)).await, Err(CommitError::TooLarge { .. })));
        assert_eq!(store.scan("", None, 10).await.unwrap(), vec![]);
        for bad in ["", "!head", "a b", "é", &"x".repeat(257)] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
    }
}
