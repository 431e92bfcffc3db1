//! Bundles made to do harm: each attack by name, and what it is answered.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixtures;

use std::error::Error;
use std::io::Cursor;

use fixtures::{Memory, directory, file, link, manifest, small};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};
use windlass_proto::bundle::{
    AuthorKey, BundleFile, Entry, EntryKind, Envelope, Manifest, Trust, Untrusted, write_bundle,
};
use windlass_proto::digest::Digest;

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn bundle_bytes(manifest: &Manifest, source: &Memory) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_bundle(&mut bytes, &Envelope::new(manifest), source).unwrap();
    bytes
}

/// Edits of a good manifest's text.
#[test]
fn manifest_texts() {
    let good = String::from_utf8(small().encode()).unwrap();
    assert_eq!(Manifest::decode(good.as_bytes()).unwrap(), small());
    let table: &[(&str, &str, &str, &str)] = &[
        ("climbing path", r#""path":"bin/app""#, r#""path":"bin/../../app""#, "climbs out with \"..\""),
        ("dot-dot alone", r#""path":"app""#, r#""path":"..""#, "climbs out with \"..\""),
        ("absolute path", r#""path":"app""#, r#""path":"/etc/passwd""#, "it is absolute"),
        ("empty part", r#""path":"bin/app""#, r#""path":"bin//app""#, "empty part"),
        ("dot part", r#""path":"bin/app""#, r#""path":"bin/./app""#, "the part \".\""),
        ("newline in path", r#""path":"app""#, r#""path":"a\npp""#, "control character"),
        ("nul in path", r#""path":"app""#, r#""path":"a\u0000pp""#, "control character"),
        ("absolute link", r#""target":"bin/app""#, r#""target":"/etc/passwd""#, "target is absolute"),
        ("escaping link", r#""target":"../bin""#, r#""target":"../../etc""#, "leaves the bundle"),
        ("late escaping link", r#""target":"../bin""#, r#""target":"x/../../../y""#, "leaves the bundle"),
        ("device", r#""directory":{}"#, r#""device":{}"#, "unknown variant"),
        ("fifo", r#""directory":{}"#, r#""fifo":{}"#, "unknown variant"),
        ("setuid by mode", r#""executable":true"#, r#""executable":true,"mode":2541"#, "unknown field"),
        ("owner", r#""executable":true"#, r#""executable":true,"uid":0"#, "unknown field"),
        ("unknown member", r#""counter":7"#, r#""counter":7,"extra":1"#, "unknown field"),
        ("repeated member", r#""counter":7"#, r#""counter":7,"counter":8"#, "duplicate field"),
        ("white space", r#""counter":7"#, r#""counter": 7"#, "not in canonical form"),
        ("number in another spelling", r#""size":13"#, r#""size":13.0"#, "malformed"),
        ("escaped letter", r#""path":"app""#, r#""path":"\u0061pp""#, "not in canonical form"),
        (
            "members out of order",
            r#""format":1,"app":"shop""#,
            r#""app":"shop","format":1"#,
            "not in canonical form",
        ),
        (
            "files of the author's disk",
            r#""release":{"#,
            r#""release":{"files":"./dist","#,
            "not in canonical form",
        ),
        ("unknown release member", r#""release":{"#, r#""release":{"hook":"rm","#, "unknown field"),
        ("later format", r#""format":1"#, r#""format":2"#, "format 2"),
        ("app is a path", r#""app":"shop""#, r#""app":"../shop""#, "invalid app name"),
        ("version is a path", r#""version":"1.2.3""#, r#""version":"../1""#, "invalid version"),
        ("no release", r#""counter":7,"release""#, r#""counter":7,"releases""#, "unknown field"),
        ("size larger than chunks", r#""size":13"#, r#""size":14"#, "its chunks have 13 bytes"),
        ("chunk too long", r#""length":13"#, r#""length":262145"#, "a chunk has 1 to"),
        ("empty chunk", r#""length":13"#, r#""length":0"#, "a chunk has 1 to"),
        ("chunk length beyond u32", r#""length":13"#, r#""length":4294967309"#, "malformed"),
        ("digest in capitals", r#""digest":"b3:"#, r#""digest":"B3:"#, "invalid digest"),
        ("negative counter", r#""counter":7"#, r#""counter":-7"#, "malformed"),
    ];
    for (attack, from, to, answer) in table {
        assert!(good.contains(from), "{attack}: {from} is not in {good}");
        let text = good.replacen(from, to, 1);
        let error = Manifest::decode(text.as_bytes()).expect_err(attack);
        assert!(chain(&error).contains(answer), "{attack}: {}", chain(&error));
    }
    for (attack, text) in [
        ("trailing bytes", format!("{good}\n")),
        ("two documents", format!("{good}{good}")),
        ("truncated", good[..good.len() - 1].to_owned()),
        ("empty", String::new()),
        ("not JSON", "PK\u{3}\u{4}".to_owned()),
        ("deep nesting", "[".repeat(100_000)),
    ] {
        Manifest::decode(text.as_bytes()).expect_err(attack);
    }
}

/// Well-formed texts whose entries together do harm.
#[test]
fn trees() {
    let conflicting = |length| {
        let mut entry = file("z", b"one two three");
        if let EntryKind::File { size, chunks, .. } = &mut entry.kind {
            *size = u64::from(length);
            chunks[0].length = length;
        }
        entry
    };
    let huge: Vec<Entry> = (0..70_000)
        .map(|n| {
            let mut entry = file(&format!("{n:08}"), &[1; 1000]);
            if let EntryKind::File { size, chunks, .. } = &mut entry.kind {
                let chunk = chunks[0];
                *chunks = vec![windlass_proto::bundle::Chunk { length: 262_144, ..chunk }];
                *size = 262_144;
            }
            entry
        })
        .collect();
    let table: Vec<(&str, Vec<Entry>, &str)> = vec![
        ("duplicate", vec![file("a", b"x"), file("a", b"y")], "duplicate entry a"),
        ("duplicate of another kind", vec![file("a", b"x"), link("a", "b")], "duplicate entry a"),
        ("unsorted", vec![file("b", b"x"), file("a", b"y")], "entry a is out of order"),
        ("no parent", vec![file("a/b", b"x")], "no entry for its directory"),
        ("beneath a file", vec![file("a", b"x"), file("a/b", b"y")], "beneath a, which is a file"),
        ("beneath a link", vec![link("a", "."), file("a/b", b"y")], "beneath a, which is a link"),
        (
            "beneath a link to a directory",
            vec![directory("d"), link("e", "d"), file("e/x", b"y")],
            "beneath e, which is a link",
        ),
        (
            "climbing out of a link",
            vec![directory("a"), directory("a/b"), link("a/b/up", ".."), link("out", "a/b/up/../../x")],
            "climbs with \"..\" after passing through the link a/b/up",
        ),
        ("one chunk, two lengths", vec![file("a", b"one two three"), conflicting(12)], "has both 13 and 12"),
        ("more than 16 GiB", huge, "bytes together"),
    ];
    for (attack, entries, answer) in table {
        let manifest = manifest(entries);
        for error in
            [manifest.check().expect_err(attack), Manifest::decode(&manifest.encode()).expect_err(attack)]
        {
            assert!(chain(&error).contains(answer), "{attack}: {}", chain(&error));
        }
    }
}

#[test]
fn a_million_entries() {
    let mut text = format!(
        r#"{{"format":1,"app":"shop","version":"1","counter":1,"release":{},"entries":["#,
        serde_json::to_string(&small().release).unwrap()
    );
    for n in 0..1_000_000 {
        let comma = if n == 0 { "" } else { "," };
        text.push_str(&format!(r#"{comma}{{"path":"{n:07}","kind":{{"directory":{{}}}}}}"#));
    }
    text.push_str("]}");
    let error = Manifest::decode(text.as_bytes()).unwrap_err();
    assert!(chain(&error).contains("more than 200000 entries"), "{}", chain(&error));
}

#[test]
fn more_bytes_than_any_manifest() {
    let error = Manifest::decode(&vec![b' '; (64 << 20) + 1]).unwrap_err();
    assert!(chain(&error).contains("67108865 bytes"), "{}", chain(&error));
}

#[test]
fn signatures() {
    let (ana, ben, eve) =
        (AuthorKey::generate().unwrap(), AuthorKey::generate().unwrap(), AuthorKey::generate().unwrap());
    let one = Trust::new([ana.public(), ben.public()], 1).unwrap();
    let two = Trust::new([ana.public(), ben.public()], 2).unwrap();
    let signed = |keys: &[&AuthorKey]| {
        let mut envelope = Envelope::new(&small());
        keys.iter().for_each(|key| envelope.sign(key));
        Envelope::decode(&envelope.encode()).unwrap()
    };

    let verified = signed(&[&ana]).verify(&one).unwrap();
    assert_eq!(verified.manifest(), &small());
    assert_eq!(verified.digest(), small().digest());
    assert_eq!(signed(&[&ana, &ben, &eve]).verify(&two).unwrap().signers().len(), 2);

    assert!(matches!(signed(&[]).verify(&one), Err(Untrusted::Unsigned)));
    let unknown = signed(&[&eve]).verify(&one).unwrap_err();
    assert!(matches!(&unknown, Untrusted::UnknownKeys { signed_by } if *signed_by == [eve.id()]));
    assert!(unknown.to_string().contains(&eve.id().short()), "{unknown}");
    let few = signed(&[&ana, &eve]).verify(&two).unwrap_err();
    assert!(few.to_string().contains("1 of 2 needed"), "{few}");
    assert!(Trust::new([ana.public(), ana.public()], 2).is_err(), "one key twice is one key");
    assert!(Trust::new([ana.public()], 0).is_err());
    assert!(Trust::new([], 1).is_err());
}

/// Edits of an envelope's JSON.
#[test]
fn envelopes() {
    let (ana, ben) = (AuthorKey::generate().unwrap(), AuthorKey::generate().unwrap());
    let two = Trust::new([ana.public(), ben.public()], 2).unwrap();
    let mut envelope = Envelope::new(&small());
    envelope.sign(&ana);
    let good: serde_json::Value = serde_json::from_slice(&envelope.encode()).unwrap();
    let decode = |value: &serde_json::Value| Envelope::decode(value.to_string().as_bytes());

    // The same signature twice counts once; so does it under another name.
    let mut twice = good.clone();
    let signature = good["signatures"][0].clone();
    twice["signatures"].as_array_mut().unwrap().push(signature.clone());
    assert!(matches!(decode(&twice).unwrap().verify(&two), Err(Untrusted::TooFew { .. })));
    let mut renamed = signature;
    renamed["keyid"] = ben.id().to_string().into();
    twice["signatures"][1] = renamed;
    assert!(
        matches!(decode(&twice).unwrap().verify(&two), Err(Untrusted::BadSignature { key }) if key == ben.id())
    );

    // Another payload under the signature.
    let one = Trust::new([ana.public()], 1).unwrap();
    let mut other = good.clone();
    let other_manifest = Envelope::new(&manifest(vec![file("evil", b"x")]));
    let other_json: serde_json::Value = serde_json::from_slice(&other_manifest.encode()).unwrap();
    other["payload"] = other_json["payload"].clone();
    assert!(matches!(decode(&other).unwrap().verify(&one), Err(Untrusted::BadSignature { .. })));

    // Another type, other members, other encodings, too many signatures, truncation, trailing bytes.
    for (attack, member, value) in [
        ("another type", "payloadType", serde_json::json!("application/json")),
        ("payload not base64", "payload", serde_json::json!("%%%")),
        ("unknown member", "extra", serde_json::json!(1)),
        ("key id not a digest", "signatures", serde_json::json!([{"keyid": "x", "sig": ""}])),
        (
            "too many signatures",
            "signatures",
            serde_json::Value::Array(vec![good["signatures"][0].clone(); 65]),
        ),
    ] {
        let mut bad = good.clone();
        bad[member] = value;
        decode(&bad).expect_err(attack);
    }
    let bytes = envelope.encode();
    Envelope::decode(&bytes[..bytes.len() - 1]).expect_err("truncated");
    Envelope::decode(&[bytes, b"x".to_vec()].concat()).expect_err("trailing bytes");
}

#[test]
fn travelling_envelopes() {
    let mut base = Envelope::new(&small());
    base.sign(&AuthorKey::generate().unwrap());
    let mut changed = small();
    changed.counter = 8;
    let mut envelope = Envelope::new(&changed);
    envelope.sign(&AuthorKey::generate().unwrap());
    envelope.sign(&AuthorKey::generate().unwrap());
    let alone = envelope.pack(None).unwrap();
    let against = envelope.pack(Some(&base)).unwrap();
    assert!(against.len() + 300 < alone.len());
    assert_eq!(Envelope::unpack(&alone, None).unwrap(), envelope);
    assert_eq!(Envelope::unpack(&alone, Some(&base)).unwrap(), envelope);
    assert_eq!(Envelope::unpack(&against, Some(&base)).unwrap(), envelope);

    for bad in [None, Some(&envelope)] {
        let error = Envelope::unpack(&against, bad).unwrap_err();
        assert!(error.to_string().contains("not offered"), "{error}");
    }
    for length in 0..alone.len() {
        Envelope::unpack(&alone[..length], None).expect_err("truncated");
    }
    let mut lying = alone.clone();
    let at = 38 + 2 * (32 + 2 + 64);
    lying[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = Envelope::unpack(&lying, None).unwrap_err();
    assert!(error.to_string().contains("at most"), "{error}");
    lying[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
    Envelope::unpack(&lying, None).expect_err("more than it says");
    lying[36..38].copy_from_slice(&u16::MAX.to_le_bytes());
    Envelope::unpack(&lying, None).expect_err("65535 signatures");
}

/// A rightly signed manifest that breaks a rule is refused all the same.
#[test]
fn a_signature_does_not_excuse_a_bad_manifest() {
    let ana = AuthorKey::generate().unwrap();
    let mut envelope = Envelope::new(&manifest(vec![link("a", "."), file("a/b", b"y")]));
    envelope.sign(&ana);
    let trust = Trust::new([ana.public()], 1).unwrap();
    assert!(matches!(envelope.verify(&trust), Err(Untrusted::Manifest(_))));
}

#[test]
fn bundle_files() {
    let good = bundle_bytes(&small(), &Memory::small());
    let file = BundleFile::open(Cursor::new(&good)).unwrap();
    assert_eq!(file.unverified_manifest(), &small());
    file.verify_contents().unwrap();

    let envelope = usize::try_from(u64::from_le_bytes(good[4..12].try_into().unwrap())).unwrap();
    let first_chunk = 12 + envelope;
    let edit = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let mut swapped = good[..first_chunk].to_vec();
    let length =
        u32::from_le_bytes(good[first_chunk + 32..first_chunk + 36].try_into().unwrap()) as usize + 36;
    swapped.extend_from_slice(&good[first_chunk + length..]);
    swapped.extend_from_slice(&good[first_chunk..first_chunk + length]);
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "truncated in its first bytes"),
        ("a zip", b"PK\x03\x04 and more bytes than twelve".to_vec(), "does not begin with WLB1"),
        ("cut in the header", good[..8].to_vec(), "truncated in its header"),
        ("cut in the envelope", good[..100].to_vec(), "truncated in the envelope"),
        ("cut before the chunks", good[..first_chunk].to_vec(), "truncated in chunk b3:"),
        ("cut in a chunk's head", good[..first_chunk + 33].to_vec(), "truncated in chunk b3:"),
        ("cut in the last chunk", good[..good.len() - 1].to_vec(), "truncated in chunk b3:"),
        ("trailing bytes", [good.clone(), vec![0]].concat(), "1 bytes after its last chunk"),
        ("huge envelope", edit(4, &u64::MAX.to_le_bytes()), "claims an envelope"),
        ("huge chunk", edit(first_chunk + 32, &u32::MAX.to_le_bytes()), "compressed bytes"),
        ("empty chunk", edit(first_chunk + 32, &[0; 4]), "claims 0 compressed bytes"),
        ("chunks out of order", swapped, "where the manifest has"),
        ("a foreign chunk", edit(first_chunk, &[7; 32]), "where the manifest has"),
    ];
    for (attack, bytes, answer) in table {
        let error = BundleFile::open(Cursor::new(bytes)).expect_err(attack);
        assert!(chain(&error).contains(answer), "{attack}: {}", chain(&error));
    }

    // Damage inside a chunk is found when it is opened.
    let damaged = edit(good.len() - 1, &[good[good.len() - 1] ^ 1]);
    let error = BundleFile::open(Cursor::new(damaged)).unwrap().verify_contents().unwrap_err();
    assert!(chain(&error).contains("the bundle file is damaged"), "{}", chain(&error));
}

#[test]
fn wrong_hashes() {
    // A chunk that is something else.
    let words = Digest::of(b"one two three");
    let lying = bundle_bytes(&small(), &Memory::small().lie(words, b"ONE TWO THREE"));
    let error = BundleFile::open(Cursor::new(lying)).unwrap().verify_contents().unwrap_err();
    assert!(chain(&error).contains("holds other bytes"), "{}", chain(&error));
    // Right chunks of a file whose own digest is another.
    let mut entry = file("a", b"one two three");
    if let EntryKind::File { digest, .. } = &mut entry.kind {
        *digest = Digest::from_bytes([1; 32]);
    }
    let bytes = bundle_bytes(&manifest(vec![entry]), &Memory::small());
    let error = BundleFile::open(Cursor::new(bytes)).unwrap().verify_contents().unwrap_err();
    assert!(chain(&error).contains("file a has the digest"), "{}", chain(&error));
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let part = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let path = prop::collection::vec(part(), 1..4).prop_map(|parts| parts.join("/"));
    let step = || prop_oneof![Just("a"), Just("b"), Just("c"), Just(".."), Just("."), Just("")];
    let target = prop::collection::vec(step(), 1..6).prop_map(|parts| parts.join("/"));
    let entry = (path, target, 0..4_u8).prop_map(|(path, target, kind)| match kind {
        0 => file(&path, b"x"),
        1 | 2 => directory(&path),
        _ => link(&path, &target),
    });
    prop::collection::vec(entry, 1..20).prop_map(|mut entries| {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        entries
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever tree passes the check: the kernel, following its links, never leaves it.
    #[test]
    fn accepted_links_never_leave_the_tree(entries in entries()) {
        let manifest = manifest(entries);
        if manifest.check().is_err() {
            return Ok(());
        }
        let outer = tempfile::tempdir().unwrap();
        let outer = outer.path().canonicalize().unwrap();
        let root = outer.join("root");
        std::fs::create_dir(&root).unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(outer.join(name), "outside").unwrap();
        }
        for entry in &manifest.entries {
            let path = root.join(entry.path.as_str());
            match &entry.kind {
                EntryKind::Directory {} => std::fs::create_dir(path).unwrap(),
                EntryKind::File { .. } => std::fs::write(path, "x").unwrap(),
                EntryKind::Link { target } => std::os::unix::fs::symlink(target, path).unwrap(),
            }
        }
        for entry in &manifest.entries {
            if let Ok(real) = root.join(entry.path.as_str()).canonicalize() {
                prop_assert!(real.starts_with(&root), "{} leads to {}", entry.path, real.display());
            }
        }
    }

    #[test]
    fn damaged_files_are_refused_or_harmless(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let good = bundle_bytes(&small(), &Memory::small());
        let at = at.index(good.len());
        let mut bytes = good.clone();
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        if let Ok(file) = BundleFile::open(Cursor::new(&bytes)) {
            let whole = file.verify_contents().is_ok();
            // zstd frames have spare bits; what comes out is what the manifest says, or nothing.
            prop_assert!(!whole || file.unverified_manifest() == &small() || file.envelope().digest() != small().digest());
        } else {
            prop_assert!(bytes != good);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Manifest::decode(&bytes);
        let _ = Envelope::decode(&bytes);
        let _ = Envelope::unpack(&bytes, None);
        let _ = BundleFile::open(Cursor::new(&bytes));
        let framed = [b"WLB1".to_vec(), (bytes.len() as u64).to_le_bytes().to_vec(), bytes].concat();
        let _ = BundleFile::open(Cursor::new(framed));
    }

    #[test]
    fn only_the_signed_bytes_are_believed(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let key = AuthorKey::from_pem("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n").unwrap();
        let mut envelope = Envelope::new(&small());
        envelope.sign(&key);
        let mut bytes = envelope.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let trust = Trust::new([key.public()], 1).unwrap();
        if let Ok(verified) = Envelope::decode(&bytes).map_err(drop).and_then(|e| e.verify(&trust).map_err(drop)) {
            prop_assert_eq!(verified.manifest(), &small());
        }
    }
}
