//! Bundles over real sockets: pushed once, fetched only by hosts they are assigned to, refused when wrong.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use base64::Engine as _;
use harness::agent::Agent;
use harness::{Coordinator, bundle, spec, until};
use rand::{Rng as _, SeedableRng as _};
use tonic::Code;
use windlass_proto::bundle::{Decompressor, EntryKind, Envelope, Manifest};
use windlass_proto::digest::Digest;
use windlass_proto::rpc::agent_service_client::AgentServiceClient;
use windlass_proto::rpc::{self, Phase};

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    rand::rngs::SmallRng::seed_from_u64(seed).fill_bytes(&mut data);
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_travel_once_and_only_to_hosts_with_business() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    let agent = Agent::start(&coordinator.agent, &join, "host-1").await;
    agent.sticks_in(&[Phase::Staging]);
    let mut content = noise(1, 3_000_000);
    let first = bundle("shop", "1.0", &content);
    let info = operator.push_bundle(&first).await.unwrap();
    assert_eq!((info.chunks, info.bytes), (first.chunks.len() as u64, 3_000_000));
    assert_eq!(info.pushed_by, "operator/ana");
    assert_eq!(operator.push_bundle(&first).await.unwrap(), info, "the same again is fine");
    content[1_500_000] ^= 1;
    let second = bundle("shop", "1.1", &content);
    let digests: Vec<_> = second.chunks.iter().map(|chunk| chunk.digest.clone()).collect();
    let missing = rpc::MissingChunksRequest { digests };
    let missing = operator.bundles.missing_chunks(missing).await.unwrap().into_inner().digests;
    assert!(missing.len() <= 2, "one changed byte is {} chunks", missing.len());

    until("the session", async || {
        let info = operator.fleet.info(rpc::InfoRequest {}).await.unwrap().into_inner();
        (info.sessions == 1).then_some(())
    })
    .await;
    operator.start("shop", "1.0", &spec(1)).await.unwrap();
    let mut client = AgentServiceClient::new(agent.identity.channel(&coordinator.agent).await.unwrap());
    let fetch = || rpc::FetchEnvelopeRequest { digest: first.digest.to_string(), ..Default::default() };
    let mut pieces = client.fetch_envelope(fetch()).await.unwrap().into_inner();
    let mut envelope = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        envelope.extend(piece.data);
    }
    assert_eq!(envelope, first.envelope);
    let request = rpc::FetchEnvelopeRequest { packed: true, base: second.digest.to_string(), ..fetch() };
    let mut pieces = client.fetch_envelope(request).await.unwrap().into_inner();
    let piece = pieces.message().await.unwrap().unwrap();
    let unpacked = Envelope::unpack(&piece.data, None).unwrap();
    assert_eq!(unpacked.encode(), first.envelope, "a base that the host has no business with is not used");
    let wanted: Vec<_> = first.chunks.iter().rev().map(|chunk| chunk.digest.clone()).collect();
    let request = rpc::FetchChunksRequest { digest: first.digest.to_string(), chunks: wanted.clone() };
    let mut batches = client.fetch_chunks(request.clone()).await.unwrap().into_inner();
    let (mut got, mut messages) = (Vec::new(), 0);
    let mut decompressor = Decompressor::new().unwrap();
    while let Some(batch) = batches.message().await.unwrap() {
        messages += 1;
        for chunk in batch.chunks {
            let digest = Digest::try_from(chunk.digest.as_slice()).unwrap();
            decompressor.open_any(digest, &chunk.compressed).unwrap();
            got.push(chunk.digest);
        }
    }
    assert_eq!(got, wanted, "in the order asked for");
    assert!(messages < wanted.len(), "several chunks a message");

    let foreign = rpc::FetchChunksRequest { chunks: vec![vec![7; 32]], ..request.clone() };
    assert_eq!(client.fetch_chunks(foreign).await.unwrap_err().code(), Code::PermissionDenied);
    operator.push_bundle(&second).await.unwrap();
    let unassigned = second.digest.to_string();
    let fetch = rpc::FetchEnvelopeRequest { digest: unassigned.clone(), ..Default::default() };
    assert_eq!(client.fetch_envelope(fetch).await.unwrap_err().code(), Code::PermissionDenied);
    let request = rpc::FetchChunksRequest { digest: unassigned, ..request };
    assert_eq!(client.fetch_chunks(request).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bundles_are_refused_by_what_is_wrong() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let good = bundle("shop", "1.0", b"content");
    let early = operator.put(good.envelope.clone()).await.unwrap_err();
    assert!(early.message().contains("are not stored here"), "{early}");
    let mut lie = good.chunks[0].clone();
    lie.digest = vec![9; 32];
    let batch = rpc::ChunkBatch { chunks: vec![lie] };
    let refusal = operator.bundles.push_chunks(tokio_stream::iter([batch])).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    let unsigned = Envelope::new(&good.manifest).encode();
    let cut = good.envelope[..good.envelope.len() / 2].to_vec();
    operator.push_bundle(&good).await.unwrap();
    for (envelope, why) in
        [(unsigned, "is not signed"), (cut, "not a signed envelope"), (vec![], "not a signed envelope")]
    {
        let refusal = operator.put(envelope).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(refusal.message().contains(why), "{refusal}");
    }
    let other = bundle("shop", "1.0", b"other content");
    let refusal = operator.push_bundle(&other).await.unwrap_err();
    assert_eq!(refusal.code(), Code::AlreadyExists);
    assert!(refusal.message().contains("--version"), "{refusal}");
    // Rightly signed, as somebody with a key and without `windlass validate` signs it.
    let sign = |manifest: &Manifest, from: &str, to: &str| {
        let text = String::from_utf8(manifest.encode()).unwrap();
        assert!(text.contains(from), "{text}");
        let envelope = serde_json::json!({
            "payloadType": <Manifest as windlass_proto::bundle::Statement>::PAYLOAD_TYPE,
            "payload": base64::engine::general_purpose::STANDARD.encode(text.replace(from, to)),
            "signatures": [],
        });
        let mut envelope = Envelope::decode(envelope.to_string().as_bytes()).unwrap();
        envelope.sign(&good.key);
        envelope.encode()
    };
    let mut process = good.manifest.clone();
    let spec = r#"{"runtime":{"kind":"process","command":["data"],"env":{"A":"b"}},"probes":{"readiness":{"tcp":{"port":80}}}}"#;
    process.release = serde_json::from_str(spec).unwrap();
    for (manifest, from, to, why) in [
        (&process, r#""A""#, r#""A\nLD_PRELOAD""#, "invalid name of an environment variable"),
        (&process, r#""A""#, r#""A=B""#, "invalid name of an environment variable"),
        (&process, r#""A""#, r#""MAINPID""#, "is set by systemd"),
        (&process, r#"["data"]"#, r#"["../../data"]"#, "is not a path inside the release"),
        (&process, r#"["data"]"#, "[]", "release.runtime.command: empty"),
        (&process, r#""b""#, r#""b\u0000""#, "NUL"),
        (&good.manifest, "SIGTERM", "SIGNOPE", "unknown signal"),
        (&good.manifest, r#"7,"digest""#, r#"8,"digest""#, "but its chunks have"),
    ] {
        let refusal = operator.put(sign(manifest, from, to)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
        assert!(refusal.message().contains(why), "{refusal}");
    }
    // It adds up in itself, and not with the chunk that it names.
    let mut longer = good.manifest.clone();
    let EntryKind::File { size, chunks, .. } = &mut longer.entries[0].kind else { panic!() };
    (*size, chunks[0].length) = (8, 8);
    let refusal = operator.put(sign(&longer, "shop", "shop")).await.unwrap_err();
    assert!(refusal.message().contains("contradicts what it names"), "{refusal}");
    let list = rpc::ListBundlesRequest { app: "shop".into() };
    assert_eq!(operator.bundles.list_bundles(list).await.unwrap().into_inner().bundles.len(), 1);
}
