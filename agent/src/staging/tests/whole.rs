//! Releases that are good.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use windlass_proto::phase::Fault;

use super::*;
use crate::held;
use crate::staging::sources::Sharing;

fn first() -> Vec<(&'static str, Item)> {
    vec![
        ("bin", Item::Dir),
        ("bin/shop", Item::Program(noise(1, 900_000))),
        ("empty", Item::File(Vec::new())),
        ("etc", Item::Dir),
        ("etc/conf", Item::File(b"threads = 2\n".to_vec())),
        ("etc/current", Item::Link("../etc/conf")),
        ("etc/twin", Item::File(noise(1, 900_000))),
        ("static", Item::Dir),
        ("static/big", Item::File(noise(2, 3_000_000))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_arrives_whole_and_the_next_one_brings_only_what_changed() {
    for sharing in [Sharing::Links, Sharing::Copies] {
        whole_and_again(sharing).await;
    }
}

async fn whole_and_again(sharing: Sharing) {
    let key = key();
    let (manifest, chunks) = content("1.0", 1, &first());
    let old = seal(&manifest, chunks, &[&key]);
    let mut items = first();
    items[4].1 = Item::File(b"threads = 4\n".to_vec());
    let Item::File(big) = &mut items[8].1 else { panic!() };
    big[1_500_000..1_500_100].fill(0);
    items.push(("new", Item::File(noise(1, 900_000))));
    items.sort_by_key(|(path, _)| *path);
    let (manifest, chunks) = content("1.1", 2, &items);
    let new = seal(&manifest, chunks, &[&key]);
    let coordinator = Coordinator::start(&[&old, &new]).await;
    let mut host = Host::new(&[&key]);
    host.stager.sharing = sharing;

    let staged = host.stage(&coordinator, &old.release).await.unwrap();
    assert!(!staged.already_held);
    assert_eq!((staged.bytes_reused, staged.files_shared), (0, 0));
    let tree = host.tree(&old.release);
    assert_eq!(read(&tree.join("bin/shop")), noise(1, 900_000));
    assert_eq!(read(&tree.join("etc/twin")), noise(1, 900_000));
    assert_eq!(read(&tree.join("etc/current")), b"threads = 2\n");
    assert_eq!(read(&tree.join("empty")), b"");
    let mode = |path: &str| std::fs::metadata(tree.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("bin/shop"), mode("etc/twin"), mode("bin"), mode("")), (0o555, 0o444, 0o755, 0o755));
    // The twin came only once over the network.
    assert!(staged.bytes_fetched < 4_300_000, "{}", staged.bytes_fetched);
    assert_eq!(held::digests(&host.layout, &app()), [old.release.digest]);
    assert_eq!(host.leavings().len(), 1);

    let again = host.stage(&coordinator, &old.release).await.unwrap();
    assert!(again.already_held && again.bytes_fetched == 0);

    let before = coordinator.served();
    let staged = host.stage(&coordinator, &new.release).await.unwrap();
    let sent = coordinator.served() - before;
    assert!(sent < 600_000, "{sent}");
    // Unchanged: program, empty is not linked, twin; "new" has the content of the twin.
    let shared: &[u64] = if sharing == Sharing::Links { &[3] } else { &[0, 3] };
    assert!(shared.contains(&staged.files_shared), "{sharing:?}: {}", staged.files_shared);
    let fresh = host.tree(&new.release);
    assert_eq!(read(&fresh.join("etc/conf")), b"threads = 4\n");
    let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
    let is_one = inode(tree.join("bin/shop")) == inode(fresh.join("bin/shop"));
    assert_eq!(is_one, sharing == Sharing::Links, "{sharing:?}");
    if sharing == Sharing::Copies {
        // Who may write the one has not written the other.
        let program = fresh.join("bin/shop");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(&program, "spoilt").unwrap();
        held::verify(&host.layout, &app(), &old.release.digest).unwrap();
        std::fs::write(&program, noise(1, 900_000)).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o555)).unwrap();
    }
    assert_eq!(read(&tree.join("etc/conf")), b"threads = 2\n");
    for release in [&old.release, &new.release] {
        held::verify(&host.layout, &app(), &release.digest).unwrap();
    }
    let rows = held::scan(&host.layout);
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().any(|row| row.release == new.release && row.confirmed_at.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_release_is_seen_not_linked_and_staged_again() {
    let key = key();
    let (manifest, chunks) = content("1.0", 1, &first());
    let old = seal(&manifest, chunks, &[&key]);
    let mut items = first();
    items[4].1 = Item::File(b"threads = 4\n".to_vec());
    let (manifest, chunks) = content("1.1", 2, &items);
    let new = seal(&manifest, chunks, &[&key]);
    let coordinator = Coordinator::start(&[&old, &new]).await;
    let host = Host::new(&[&key]);
    host.stage(&coordinator, &old.release).await.unwrap();

    let victim = host.tree(&old.release).join("static/big");
    let mut data = read(&victim);
    data[2_000_000] ^= 1;
    std::fs::remove_file(&victim).unwrap();
    std::fs::write(&victim, data).unwrap();
    std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o444)).unwrap();
    let error = held::verify(&host.layout, &app(), &old.release.digest).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("static/big has digest"));

    // Good chunks of the damaged file serve, the damaged one is fetched.
    let staged = host.stage(&coordinator, &new.release).await.unwrap();
    assert_eq!(read(&host.tree(&new.release).join("static/big")), noise(2, 3_000_000));
    assert!(staged.bytes_reused > 4_000_000 && staged.bytes_fetched < 600_000);

    let again = host.stage(&coordinator, &old.release).await.unwrap();
    assert!(!again.already_held);
    held::verify(&host.layout, &app(), &old.release.digest).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_only_rise_except_where_the_order_was_found_right() {
    let key = key();
    let (manifest, chunks) = content("1.0", 1, &first());
    let old = seal(&manifest, chunks, &[&key]);
    let coordinator = Coordinator::start(&[&old]).await;
    let host = Host::new(&[&key]);
    let mut asked = Order { seen: 5, ..order(&old.release) };
    let error = host.stage_order(&coordinator, &asked).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Policy);
    assert!(error.reason().contains("has counter 1, this host has seen 5"), "{}", error.reason());
    for (leave, already_held) in [(Leave::Granted, false), (Leave::Confirmed, true)] {
        asked.leave = leave;
        assert_eq!(host.stage_order(&coordinator, &asked).await.unwrap().already_held, already_held);
    }
    asked.leave = Leave::Newest;
    host.stage_order(&coordinator, &asked).await.unwrap_err();
}
