//! Connections that break, stall and lie.

use std::time::Duration;

use windlass_proto::phase::Fault;

use super::coordinator::Mischief;
use super::*;
use crate::staging::remains;

fn large(key: &AuthorKey) -> Bundle {
    let (manifest, chunks) = content("1.0", 1, &[("data", Item::File(noise(5, 20_000_000)))]);
    seal(&manifest, chunks, &[key])
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_streams_are_taken_up_where_they_broke() {
    let key = key();
    let bundle = large(&key);
    let coordinator = Coordinator::start(&[&bundle]).await;
    coordinator.does(Mischief::BreakAfterOneBatch(12));
    let host = Host::new(&[&key]);
    let staged = host.stage(&coordinator, &bundle.release).await.unwrap();
    assert_eq!(read(&host.tree(&bundle.release).join("data")), noise(5, 20_000_000));
    assert!(staged.bytes_fetched < 24_000_000, "{}", staged.bytes_fetched);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_coordinator_is_asked_again_for_less() {
    let key = key();
    let bundle = large(&key);
    let coordinator = Coordinator::start(&[&bundle]).await;
    coordinator.does(Mischief::Silent(3));
    let host = Host::new(&[&key]);
    host.stage(&coordinator, &bundle.release).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_keeps_what_came_for_the_next_attempt() {
    let key = key();
    let bundle = large(&key);
    let coordinator = Coordinator::start(&[&bundle]).await;
    let host = Host::new(&[&key]);
    coordinator.does(Mischief::Truncated);
    let cancel = CancellationToken::new();
    let order = order(&bundle.release);
    let staging = host.stager.stage(coordinator.channel(), &order, cancel.clone());
    let stop = async {
        while coordinator.served() < 2_000_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        coordinator.does(Mischief::AlwaysBroken);
    };
    let (error, ()) = tokio::join!(staging, stop);
    let error = error.unwrap_err();
    assert_eq!(error.fault(), Fault::Transport);
    assert!(
        error.reason().contains("did not arrive in 4 attempts; the last one: gone away"),
        "{}",
        error.reason()
    );
    assert_eq!(remains::list(&host.layout).len(), 1);
    assert_eq!(host.leavings().len(), 1);

    coordinator.does(Mischief::None);
    let staged = host.stage(&coordinator, &bundle.release).await.unwrap();
    assert!(staged.bytes_reused > 0);
    // By the host's count: the coordinator may still be serving what the host gave up.
    assert!(staged.bytes_fetched + staged.bytes_reused <= 20_100_000, "{staged:?}");
    assert_eq!(read(&host.tree(&bundle.release).join("data")), noise(5, 20_000_000));
    assert_eq!(remains::list(&host.layout), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_broken_staging_leaves_something() {
    let key = key();
    let (manifest, chunks) = content("2.0", 2, &[("data", Item::File(noise(6, 20_000_000)))]);
    let bundles = [large(&key), seal(&manifest, chunks, &[&key])];
    let coordinator = Coordinator::start(&[&bundles[0], &bundles[1]]).await;
    let host = Host::new(&[&key]);
    coordinator.does(Mischief::Truncated);
    for bundle in &bundles {
        host.stage(&coordinator, &bundle.release).await.unwrap_err();
        let left: Vec<Digest> = remains::list(&host.layout).iter().map(|remains| remains.digest).collect();
        assert_eq!(left, [bundle.release.digest]);
        assert_eq!(host.leavings().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_or_killed_staging_is_taken_up_again() {
    let key = key();
    let bundle = large(&key);
    let coordinator = Coordinator::start(&[&bundle]).await;
    coordinator.does(Mischief::Silent(usize::MAX));
    let host = Host::new(&[&key]);
    let cancel = CancellationToken::new();
    let order = order(&bundle.release);
    let mark = host.layout.staging_of(&order.op).join(remains::FETCHING);
    let fetching = || async {
        while !mark.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        // Dropping the future is what a killed agent looks like to the files.
        _ = host.stager.stage(coordinator.channel(), &order, cancel.clone()) => panic!("it ended"),
        () = fetching() => {}
    }
    assert!(host.layout.staging_of(&order.op).exists());
    remains::tidy(&host.layout, std::time::SystemTime::now()).unwrap();
    assert!(!host.layout.staging_of(&order.op).exists());
    assert_eq!(remains::list(&host.layout).len(), 1);

    let stop = async {
        fetching().await;
        cancel.cancel();
    };
    let (error, ()) = tokio::join!(host.stager.stage(coordinator.channel(), &order, cancel.clone()), stop);
    assert!(error.unwrap_err().reason().contains("cancelled"));
    assert!(!host.layout.staging_of(&order.op).exists());
    coordinator.does(Mischief::None);
    host.stage(&coordinator, &bundle.release).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_are_refused_and_nothing_is_left() {
    let key = key();
    let bundle = large(&key);
    let coordinator = Coordinator::start(&[&bundle]).await;
    let host = Host::new(&[&key]);
    for (mischief, expected, fault) in [
        (Mischief::Flipped, "is damaged where it came from", Fault::Policy),
        (Mischief::Swapped, "is damaged where it came from", Fault::Policy),
        (Mischief::Unasked, "was sent but not asked for", Fault::Transport),
        (Mischief::EndlessEnvelope, "is larger than", Fault::Policy),
    ] {
        coordinator.does(mischief);
        let error = host.stage(&coordinator, &bundle.release).await.unwrap_err();
        assert!(error.reason().contains(expected), "{mischief:?}: {}", error.reason());
        assert_eq!(error.fault(), fault, "{mischief:?}");
        assert_eq!(host.leavings(), Vec::<PathBuf>::new(), "{mischief:?}");
    }
    let unknown = ReleaseRef { digest: Digest::from_bytes([3; 32]), ..bundle.release.clone() };
    let error = host.stage(&coordinator, &unknown).await.unwrap_err();
    assert!(error.reason().contains("unknown bundle"), "{}", error.reason());
}
