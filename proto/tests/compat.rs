//! Golden bytes: what was written by an earlier version must be read, named and believed by this one.
//!
//! A difference here is a change of format: it needs a new `MANIFEST_FORMAT` and a reader for the old one, never an
//! edit of the golden files.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixtures;

use fixtures::small;
use windlass_proto::bundle::{AuthorKey, BundleFile, Envelope, Manifest, Trust};
use windlass_proto::spec::ReleaseSpec;

const MANIFEST: &[u8] = include_bytes!("golden/manifest.v1.json");
const DIGEST: &str = "b3:fb544367d456984be6ae6767e19da2cc6fff703f84b81851e6bb60a9cb965eb0";
const SECOND: &[u8] = include_bytes!("golden/manifest.v2.json");
const SECOND_DIGEST: &str = "b3:9dd84016b2f40c15fadc711292fe70454ca4072e5e93f9b6885a098afa643b2e";
const ENVELOPE: &[u8] = include_bytes!("golden/envelope.v1.json");
const BUNDLE: &[u8] = include_bytes!("golden/shop-1.2.3.wlb");
/// RFC 8410's example.
const AUTHOR: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
const KEY_ID: &str = "b3:b78f6b3770eaececab0944c1ace27496e811c76792b550841b444224ff24e70a";

#[test]
fn the_manifest_has_the_same_bytes_and_digest() {
    assert_eq!(String::from_utf8(small().encode()).unwrap(), String::from_utf8(MANIFEST.to_vec()).unwrap());
    assert_eq!(Manifest::decode(MANIFEST).unwrap(), small());
    assert_eq!(small().digest().to_string(), DIGEST);
}

#[test]
fn the_envelope_has_the_same_bytes_and_is_believed() {
    let key = AuthorKey::from_pem(AUTHOR).unwrap();
    assert_eq!(key.id().to_string(), KEY_ID);
    let mut envelope = Envelope::new(&small());
    envelope.sign(&key);
    assert_eq!(String::from_utf8(envelope.encode()).unwrap(), String::from_utf8(ENVELOPE.to_vec()).unwrap());
    let trust = Trust::new([PUBLIC.parse().unwrap()], 1).unwrap();
    let verified = Envelope::decode(ENVELOPE).unwrap().verify(&trust).unwrap();
    assert_eq!(verified.digest().to_string(), DIGEST);
    assert_eq!(verified.release_ref().to_string(), format!("shop 1.2.3 ({})", &DIGEST[..9]));
}

#[test]
fn the_bundle_file_is_read() {
    let file = BundleFile::open(std::io::Cursor::new(BUNDLE)).unwrap();
    file.verify_contents().unwrap();
    assert_eq!(file.unverified_manifest(), &small());
    assert_eq!(file.envelope().encode(), ENVELOPE);
}

/// What needs the second format: hooks and the systemd runtime.
fn second() -> Manifest {
    let release = r#"{
        "runtime": {"kind": "systemd", "command": ["bin/shop", "{host.address}:{port.http}"], "user": "shop",
                    "resources": {"memory_max": "512MiB", "cpu_quota": "150%", "open_files": 4096}},
        "ports": {"http": 8080},
        "hooks": {"before_install": [{"run": ["bin/migrate"], "timeout": "30s", "idempotent": true}]}
    }"#;
    let release: ReleaseSpec = serde_json::from_str(release).unwrap();
    Manifest { format: release.format(), release, ..small() }
}

#[test]
fn the_second_format_has_the_same_bytes_and_digest() {
    assert_eq!(second().format, 2);
    assert_eq!(String::from_utf8(second().encode()).unwrap(), String::from_utf8(SECOND.to_vec()).unwrap());
    assert_eq!(Manifest::decode(SECOND).unwrap(), second());
    assert_eq!(second().digest().to_string(), SECOND_DIGEST);
}
