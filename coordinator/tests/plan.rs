//! A plan over real sockets: of a release that was never pushed, with nothing kept of it, and with what hosts lack.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};

use harness::agent::Agent;
use harness::{Bundle, Coordinator, Operator, bundle, fleet, spec, until};
use rand::{Rng as _, SeedableRng as _};
use tonic::Code;
use windlass_proto::rpc;

/// Some chunks that do not compress, and `tail`.
fn content(tail: &[u8]) -> Vec<u8> {
    let mut content = vec![0; 400_000];
    rand::rngs::SmallRng::seed_from_u64(7).fill_bytes(&mut content);
    content.extend(tail);
    content
}

fn proposal(bundle: &Bundle) -> rpc::OrderRequest {
    let manifest_zstd = bundle.manifest.pack().unwrap();
    rpc::OrderRequest {
        app: "shop".into(),
        spec_json: spec(1),
        proposal: Some(rpc::Proposal { manifest_zstd }),
        ..Default::default()
    }
}

async fn plan(operator: &mut Operator, order: rpc::OrderRequest) -> rpc::Plan {
    operator.rollouts.plan(order).await.unwrap().into_inner()
}

/// How many bundles are listed, and how many events tell of the app.
async fn kept(operator: &mut Operator) -> (usize, usize) {
    let request = rpc::ListBundlesRequest::default();
    let bundles = operator.bundles.list_bundles(request).await.unwrap().into_inner().bundles;
    let request = rpc::EventsRequest { app: "shop".into(), ..Default::default() };
    let mut stream = operator.fleet.events(request).await.unwrap().into_inner();
    let mut events = 0;
    while stream.message().await.unwrap().is_some() {
        events += 1;
    }
    (bundles.len(), events)
}

/// What chunks take on the wire.
fn sizes(bundle: &Bundle) -> BTreeMap<Vec<u8>, u64> {
    bundle.chunks.iter().map(|chunk| (chunk.digest.clone(), chunk.compressed.len() as u64)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_counts_what_hosts_lack_and_keeps_nothing() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let _agents = fleet(&coordinator, &mut operator, 2).await;
    let first = bundle("shop", "1.0", &content(b""));

    // Of a first release nothing is stored: each host fetches at most its whole length.
    let planned = plan(&mut operator, proposal(&first)).await;
    assert_eq!(planned.to.as_ref().unwrap().digest, first.digest.to_string());
    assert_eq!((planned.batches.len(), planned.bytes_to_send), (2, 2 * first.manifest.total_bytes()));
    assert_eq!(kept(&mut operator).await, (0, 0));

    operator.push_bundle(&first).await.unwrap();
    let rollout = operator.start("shop", "1.0", &spec(1)).await.unwrap();
    assert_eq!(operator.ended(&rollout.id).await.state, "Succeeded");
    let join = operator.token().await;
    let _empty = Agent::start(&coordinator.agent, &join, "host-3").await;
    until("the third session", async || {
        let info = operator.fleet.info(rpc::InfoRequest {}).await.unwrap().into_inner();
        (info.sessions == 3).then_some(())
    })
    .await;

    // The same version may be planned again and again with other contents.
    let before = kept(&mut operator).await;
    for tail in [&b"one"[..], b"two"] {
        let second = bundle("shop", "1.1", &content(tail));
        let (here, there) = (sizes(&first), sizes(&second));
        let unlike: u64 = second
            .manifest
            .chunks()
            .iter()
            .filter(|c| !here.contains_key(&c.digest.as_bytes()[..]))
            .map(|c| u64::from(c.length))
            .sum();
        let alike: u64 = there.iter().filter(|(digest, _)| here.contains_key(*digest)).map(|(_, n)| n).sum();
        assert!(alike > 0 && unlike > 0, "a test of both");
        let planned = plan(&mut operator, proposal(&second)).await;
        assert_eq!(planned.bytes_to_send, 3 * unlike + alike);
    }
    assert_eq!(kept(&mut operator).await, before);

    // Once it is stored, the numbers are those of the wire.
    let second = bundle("shop", "1.1", &content(&[b'x'; 50_000]));
    operator.push_bundle(&second).await.unwrap();
    let here: BTreeSet<_> = sizes(&first).into_keys().collect();
    let (alike, unlike): (Vec<_>, Vec<_>) = sizes(&second).into_iter().partition(|(d, _)| here.contains(d));
    let sum = |sizes: &[(Vec<u8>, u64)]| sizes.iter().map(|(_, n)| n).sum::<u64>();
    let order = rpc::OrderRequest { target: "1.1".into(), proposal: None, ..proposal(&second) };
    let planned = plan(&mut operator, order).await;
    assert_eq!(planned.bytes_to_send, 3 * sum(&unlike) + sum(&alike));
    assert_eq!(plan(&mut operator, proposal(&second)).await, planned);
    let difference = planned.difference.unwrap();
    assert_eq!((difference.changes.len(), difference.left_out, &*difference.unknown), (1, 0, ""));
    assert_eq!(difference.changes[0].path, "files/data");
    assert_eq!(difference.changed, Some(rpc::FileCount { files: 1, bytes: second.manifest.total_bytes() }));

    // The one before it cannot be read any more: that is said, and the plan is made all the same.
    let lost = walk(coordinator.dir.path()).into_iter().find(|path| path.ends_with(first.digest.hex()));
    std::fs::remove_file(lost.unwrap()).unwrap();
    let planned = plan(&mut operator, proposal(&second)).await;
    let difference = planned.difference.unwrap();
    assert!(difference.unknown.contains("cannot read shop 1.0"), "{difference:?}");
    assert_eq!((difference.changes.len(), planned.batches.len()), (0, 3));
}

/// All files below a directory.
fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_proposals_are_refused() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    operator.push("shop", "1.0", b"one").await;
    let good = proposal(&bundle("shop", "1.1", b"two"));
    let started = operator.rollouts.start(good.clone()).await.unwrap_err();
    assert_eq!(started.code(), Code::InvalidArgument, "{started}");
    assert!(started.message().contains("push"), "{started}");

    let with = |manifest_zstd: Vec<u8>| rpc::OrderRequest {
        proposal: Some(rpc::Proposal { manifest_zstd }),
        ..good.clone()
    };
    let mut hostile = bundle("shop", "1.1", b"two");
    let spec = r#"{"runtime":{"kind":"process","command":["data"],"env":{"MAINPID":"1"}},"probes":{"readiness":{"tcp":{"port":80}}}}"#;
    hostile.manifest.release = serde_json::from_str(spec).unwrap();
    let refused = [
        (proposal(&hostile), Code::InvalidArgument, "release.runtime.env.MAINPID: is set by systemd"),
        (proposal(&bundle("shop", "1.0", b"two")), Code::AlreadyExists, "other contents"),
        (proposal(&bundle("mill", "1.1", b"two")), Code::InvalidArgument, "of app mill, not shop"),
        (rpc::OrderRequest { target: "1.0".into(), ..good.clone() }, Code::InvalidArgument, "choose one"),
        (rpc::OrderRequest { rollback: true, ..good.clone() }, Code::InvalidArgument, "choose one"),
        (with(b"nonsense".to_vec()), Code::InvalidArgument, "decompressed"),
        (with(vec![]), Code::InvalidArgument, "not a valid proposal"),
        (
            with(vec![0; windlass_proto::limits::PROPOSAL_BYTES + 1]),
            Code::ResourceExhausted,
            "push the bundle",
        ),
    ];
    for (order, code, words) in refused {
        let status = operator.rollouts.plan(order).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{words:?}: {status}");
    }
}
