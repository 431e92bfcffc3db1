//! Bundles that no host may take, rightly signed where that makes them more dangerous.

use windlass_proto::limits::BUNDLE_ENTRIES;
use windlass_proto::phase::Fault;

use super::*;

/// Stages an envelope that must be refused; the host must be as it was.
async fn refused(envelope: Vec<u8>, release: &ReleaseRef, keys: &[&AuthorKey], expected: &str) {
    refused_with(Host::new(keys), envelope, release, HashMap::new(), expected).await;
}

async fn refused_with(
    host: Host,
    envelope: Vec<u8>,
    release: &ReleaseRef,
    chunks: HashMap<Digest, Vec<u8>>,
    expected: &str,
) {
    let bundle = Bundle { release: release.clone(), envelope, chunks };
    let coordinator = Coordinator::start(&[&bundle]).await;
    let error = host.stage(&coordinator, release).await.unwrap_err();
    let reason = error.reason();
    assert!(reason.contains(expected), "{reason}\nshould have: {expected}");
    assert_eq!(error.fault(), Fault::Policy, "{reason}");
    assert_eq!(host.leavings(), Vec::<PathBuf>::new(), "{reason}");
}

fn small() -> (Manifest, HashMap<Digest, Vec<u8>>) {
    content(
        "1.0",
        1,
        &[("dir", Item::Dir), ("dir/file", Item::File(b"hello".to_vec())), ("link", Item::Link("dir"))],
    )
}

/// An envelope over bytes that no honest program would sign.
fn forge(payload: &str, key: &AuthorKey) -> (Vec<u8>, Digest) {
    use base64::Engine;
    let envelope = serde_json::json!({
        "payloadType": <Manifest as windlass_proto::bundle::Statement>::PAYLOAD_TYPE,
        "payload": base64::engine::general_purpose::STANDARD.encode(payload),
        "signatures": [],
    });
    let mut envelope = Envelope::decode(envelope.to_string().as_bytes()).unwrap();
    envelope.sign(key);
    (envelope.encode(), Digest::of(payload.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_checked_on_the_host() {
    let (ours, theirs) = (key(), key());
    let (manifest, _) = small();
    let release = manifest.release_ref();
    let seal = |keys: &[&AuthorKey]| seal(&manifest, HashMap::new(), keys).envelope;
    refused(seal(&[]), &release, &[&ours], "is not signed").await;
    refused(seal(&[&theirs]), &release, &[&ours], "no trusted author key").await;
    let text = String::from_utf8(seal(&[&ours])).unwrap();
    refused(text[..text.len() / 2].into(), &release, &[&ours], "malformed envelope").await;
    refused(Vec::new(), &release, &[&ours], "truncated").await;
    refused(b"WLE1 and nothing more".to_vec(), &release, &[&ours], "truncated").await;
    let other = String::from_utf8(seal_other(&ours)).unwrap();
    let signature = |text: &str| text.split("\"signatures\"").nth(1).unwrap().to_owned();
    let mixed = text.replace(&signature(&text), &signature(&other));
    refused(mixed.into(), &release, &[&ours], "does not match what it is on").await;

    let host = Host::with(&[&ours, &theirs], |policy| policy.threshold = 2);
    refused_with(host, seal(&[&ours]), &release, HashMap::new(), "1 of 2 needed signatures").await;
}

fn seal_other(key: &AuthorKey) -> Vec<u8> {
    let (manifest, _) = content("9.9", 9, &[("x", Item::File(b"x".to_vec()))]);
    seal(&manifest, HashMap::new(), &[key]).envelope
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_and_the_manifest_must_agree() {
    let key = key();
    let (manifest, chunks) = small();
    let good = seal(&manifest, chunks, &[&key]);
    let wrong = [
        ReleaseRef { counter: 99, ..good.release.clone() },
        ReleaseRef { version: ReleaseVersion::new("7").unwrap(), ..good.release.clone() },
        ReleaseRef { app: AppName::new("other").unwrap(), ..good.release.clone() },
    ];
    for release in wrong {
        refused(good.envelope.clone(), &release, &[&key], "the order names").await;
    }
    // Another bundle than the one asked for, as good as it may be.
    let release = ReleaseRef { digest: Digest::from_bytes([1; 32]), ..good.release.clone() };
    refused(good.envelope.clone(), &release, &[&key], "the order names").await;

    let host = Host::with(&[&key], |policy| policy.apps = vec!["web-*".into()]);
    refused_with(host, good.envelope, &good.release, HashMap::new(), "does not allow app shop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_reach_outside_are_refused_though_signed() {
    let key = key();
    let (manifest, _) = small();
    let text = String::from_utf8(manifest.encode()).unwrap();
    assert!(text.contains(r#""path":"dir/file""#) && text.contains(r#""target":"dir""#), "{text}");
    let cases = [
        (text.replace("dir/file", "../file"), "climbs out with"),
        (text.replace("dir/file", "dir/../../file"), "climbs out with"),
        (text.replace("dir/file", "/etc/cron.d/x"), "it is absolute"),
        (text.replace("dir/file", "dir//file"), "empty part"),
        (text.replace("dir/file", "dir\\u0000file"), "control character"),
        (text.replace(r#""target":"dir""#, r#""target":"../dir""#), "the link leaves the bundle"),
        (text.replace(r#""target":"dir""#, r#""target":"/etc""#), "absolute"),
        (text.replace("dir/file", "dir"), "duplicate entry"),
        (text.replace(r#""path":"link""#, r#""path":"aaa""#), "out of order"),
        (text.replace("dir/file", "lib/file"), "no entry for its directory"),
        (text.replace(r#""path":"dir/file""#, r#""path":"dir/file","mode":2541"#), "malformed manifest"),
        (text.replace(r#""directory":{}"#, r#""device":{}"#), "malformed manifest"),
        (text.replace(r#""directory":{}"#, r#""fifo":{}"#), "malformed manifest"),
        (text.replace(r#""executable":false"#, r#""executable":false,"setuid":true"#), "malformed manifest"),
        (text.replace(r#""size":5"#, r#""size":6"#), "chunks have 5"),
        (text.replace(r#""length":5"#, r#""length":500000000"#), "500000000"),
        (text.replace(r#""format":1"#, r#""format":99"#), "install a newer version"),
        (text.replace(r#""format":1"#, r#""format":2"#), "what it holds is format 1"),
        (format!("{text} "), "not in canonical form"),
        (text[..text.len() - 2].to_owned(), "malformed manifest"),
    ];
    all_refused(&manifest, &text, cases, &key).await;
}

/// Each of these forgeries of a manifest, signed, is refused with its words.
async fn all_refused(
    manifest: &Manifest,
    text: &str,
    forgeries: impl IntoIterator<Item = (String, &str)>,
    key: &AuthorKey,
) {
    for (payload, expected) in forgeries {
        assert_ne!(payload, text, "{expected}");
        let (envelope, digest) = forge(&payload, key);
        let release = ReleaseRef { digest, ..manifest.release_ref() };
        refused(envelope, &release, &[key], expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn specs_that_no_validate_has_seen_are_refused_though_signed() {
    let key = key();
    let (mut manifest, _) = small();
    let spec = |runtime: &str| {
        let probes = r#""probes":{"readiness":{"tcp":{"port":80}}}"#;
        serde_json::from_str(&format!(r#"{{"runtime":{runtime},{probes}}}"#)).unwrap()
    };
    manifest.format = 2;
    manifest.release = spec(r#"{"kind":"systemd","command":["bin/app"],"env":{"NAME":"value"}}"#);
    let text = String::from_utf8(manifest.encode()).unwrap();
    let own = text.replace(
        r#""command":["bin/app"],"env":{"NAME":"value"}"#,
        r#""unit":"../../etc/systemd/system/x.service""#,
    );
    let cases = [
        (text.replace("NAME", r"A\nLD_PRELOAD"), "invalid name of an environment variable"),
        (text.replace("NAME", "A=B"), "invalid name of an environment variable"),
        (text.replace("NAME", r"A\u0000B"), "invalid name of an environment variable"),
        (text.replace("NAME", "MAINPID"), "release.runtime.env.MAINPID: is set by systemd"),
        (text.replace("NAME", "INVOCATION_ID"), "is set by systemd"),
        (text.replace("NAME", "SERVICE_RESULT"), "is set by systemd"),
        (text.replace("NAME", "EXIT_STATUS"), "is set by systemd"),
        (text.replace("NAME", "NOTIFY_SOCKET"), "is set by systemd"),
        (text.replace("NAME", "WINDLASS_START"), "is set by the agent"),
        (text.replace(r#""value""#, r#""a\u0000b""#), "a value cannot hold NUL"),
        (text.replace(r#""value""#, r#""{release.tree}""#), "unknown variable"),
        (text.replace("bin/app", "../../bin/app"), "is not a path inside the release"),
        (text.replace("bin/app", r"bin/app\u0000"), "NUL"),
        (text.replace(r#""command":["bin/app"],"#, ""), "release.runtime.command: empty"),
        (own, "release.runtime.unit"),
        (text.replace("SIGTERM", r"SIGTERM\nExecStartPre=+/bin/sh"), "unknown signal"),
        (text.replace("SIGTERM", "SIGNOPE"), "unknown signal"),
        (text.replace(r#""tcp":{"port":80}"#, r#""exec":{"command":["../../sh"]}"#), "is not a path inside"),
        (text.replace(r#""tcp":{"port":80},"#, ""), "says nothing to check"),
    ];
    all_refused(&manifest, &text, cases, &key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_of_another_length_than_signed_is_the_manifests_fault() {
    let key = key();
    let (mut manifest, chunks) = content("1.0", 1, &[("file", Item::File(noise(3, 700)))]);
    let EntryKind::File { size, chunks: list, .. } = &mut manifest.entries[0].kind else { panic!() };
    (*size, list[0].length) = (701, 701);
    let bundle = seal(&manifest, HashMap::new(), &[&key]);
    let host = Host::new(&[&key]);
    refused_with(host, bundle.envelope, &bundle.release, chunks, "the manifest contradicts itself").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_entries_are_refused() {
    let key = key();
    let (mut manifest, _) = small();
    manifest.entries = (0..=BUNDLE_ENTRIES)
        .map(|number| Entry {
            path: EntryPath::new(format!("{number:07}")).unwrap(),
            kind: EntryKind::Directory {},
        })
        .collect();
    let (envelope, digest) = forge(std::str::from_utf8(&manifest.encode()).unwrap(), &key);
    let release = ReleaseRef { digest, ..manifest.release_ref() };
    refused(envelope, &release, &[&key], "more than 200000 entries").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_chunks_are_right_and_whose_digest_is_wrong_leaves_nothing() {
    let key = key();
    for length in [5, 700_000] {
        let (mut manifest, chunks) = content("1.0", 1, &[("file", Item::File(noise(3, length)))]);
        let EntryKind::File { digest, .. } = &mut manifest.entries[0].kind else { panic!() };
        *digest = Digest::from_bytes([1; 32]);
        let bundle = seal(&manifest, HashMap::new(), &[&key]);
        refused_with(Host::new(&[&key]), bundle.envelope, &bundle.release, chunks, "the manifest says").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_unpacks_to_more_than_signed_is_refused() {
    let key = key();
    let (manifest, mut chunks) = content("1.0", 1, &[("file", Item::File(noise(3, 20_000)))]);
    let bomb = Compressor::new().unwrap().compress(&vec![0; 200_000_000]).unwrap();
    chunks.values_mut().for_each(|chunk| *chunk = bomb.clone());
    let bundle = seal(&manifest, chunks, &[&key]);
    let coordinator = Coordinator::start(&[&bundle]).await;
    let host = Host::new(&[&key]);
    let error = host.stage(&coordinator, &bundle.release).await.unwrap_err();
    assert!(error.reason().contains("is damaged where it came from"), "{}", error.reason());
    assert_eq!(host.leavings(), Vec::<PathBuf>::new());
}
