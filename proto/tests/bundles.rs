//! From a directory to a bundle file and back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixtures;

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use fixtures::RELEASE;
use windlass_proto::bundle::{
    AuthorKey, BuildError, BundleFile, EntryKind, Envelope, Manifest, SourceError, Tree, compress_all,
    write_bundle,
};
use windlass_proto::digest::Digest;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Some hundred files: shared contents, links, an empty directory, a large file.
fn fill(root: &Path) {
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("share/deep")).unwrap();
    let mut large = vec![0; 3_000_000];
    blake3::Hasher::new().update(b"large").finalize_xof().fill(&mut large);
    fs::write(root.join("bin/app"), &large).unwrap();
    mode(&root.join("bin/app"), 0o775);
    for n in 0..300 {
        fs::write(root.join(format!("share/deep/{n}")), format!("file {}\n", n % 100).repeat(n)).unwrap();
    }
    symlink("bin/app", root.join("app")).unwrap();
    symlink("../bin", root.join("share/bin")).unwrap();
}

fn manifest(tree: &Tree) -> Manifest {
    let release = serde_json::from_str(RELEASE).unwrap();
    tree.manifest("shop".parse().unwrap(), "1.0".parse().unwrap(), 1, release).unwrap()
}

fn bundle(root: &Path, key: &AuthorKey) -> Vec<u8> {
    let tree = Tree::scan(root).unwrap();
    let mut envelope = Envelope::new(&manifest(&tree));
    envelope.sign(key);
    let mut bytes = Vec::new();
    let size = write_bundle(&mut bytes, &envelope, &tree).unwrap();
    assert_eq!(size, bytes.len() as u64);
    bytes
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let key = AuthorKey::generate().unwrap();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(one.path());
    fill(two.path());
    // Modes beyond the executable bit, and times, are not input.
    mode(&two.path().join("share/deep/7"), 0o600);
    let bytes = bundle(one.path(), &key);
    assert!(bytes == bundle(two.path(), &key));

    let file = BundleFile::open(Cursor::new(&bytes)).unwrap();
    file.verify_contents().unwrap();
    // Written again from the file itself it is the same file.
    let mut again = Vec::new();
    write_bundle(&mut again, file.envelope(), &file).unwrap();
    assert!(again == bytes);
    // 300 small files of 100 different lines share chunks only where they are equal; all paths are there.
    let paths: Vec<&str> =
        file.unverified_manifest().entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths.len(), 300 + 1 + 2 + 4);
    assert!(paths.contains(&"empty") && paths.contains(&"share/bin"));
    let executable: Vec<_> = (file.unverified_manifest().entries.iter())
        .filter(|entry| matches!(entry.kind, EntryKind::File { executable: true, .. }))
        .map(|entry| entry.path.as_str())
        .collect();
    assert_eq!(executable, ["bin/app"]);
}

#[test]
fn a_single_file_is_a_tree_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("app.bin"), "data").unwrap();
    let manifest = manifest(&Tree::scan(&dir.path().join("app.bin")).unwrap());
    assert_eq!(manifest.entries.len(), 1);
    assert_eq!(manifest.entries[0].path.as_str(), "app.bin");
    assert_eq!(manifest.total_bytes(), 4);
}

#[test]
fn windlassignore_is_honoured() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    fs::write(dir.path().join(".windlassignore"), "# not for hosts\n/share/deep/*\n!/share/deep/7\nempty/\n")
        .unwrap();
    let manifest = manifest(&Tree::scan(dir.path()).unwrap());
    let paths: Vec<&str> = manifest.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["app", "bin", "bin/app", "share", "share/bin", "share/deep", "share/deep/7"]);
    fs::write(dir.path().join(".windlassignore"), "ok\n[ab]\n").unwrap();
    assert!(matches!(Tree::scan(dir.path()), Err(BuildError::Ignore { .. })));
}

#[test]
fn what_a_bundle_cannot_hold_is_refused_by_name() {
    type Spoil = fn(&Path);
    let table: [(&str, Spoil, &str); 10] = [
        (
            "setuid",
            |path| {
                fs::write(path, "x").unwrap();
                mode(path, 0o4755);
            },
            "is setuid",
        ),
        (
            "setgid",
            |path| {
                fs::write(path, "x").unwrap();
                mode(path, 0o2755);
            },
            "is setgid",
        ),
        (
            "sticky",
            |path| {
                fs::write(path, "x").unwrap();
                mode(path, 0o1644);
            },
            "is sticky",
        ),
        ("fifo", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()), "is a fifo"),
        ("socket", |path| drop(UnixListener::bind(path).unwrap()), "is a socket"),
        ("absolute link", |path| symlink("/etc/passwd", path).unwrap(), "target is absolute"),
        ("escaping link", |path| symlink("../../etc", path).unwrap(), "leaves the bundle"),
        (
            "climbing link",
            |path| {
                fs::create_dir(path).unwrap();
                fs::create_dir(path.join("b")).unwrap();
                symlink("..", path.join("b/up")).unwrap();
                symlink("b/up/../../x", path.join("out")).unwrap();
            },
            "through the link",
        ),
        ("newline", |path| fs::write(path.parent().unwrap().join("a\nb"), "x").unwrap(), "control character"),
        (
            "not UTF-8",
            |path| {
                use std::os::unix::ffi::OsStrExt as _;
                let name = std::ffi::OsStr::from_bytes(b"a\xff");
                fs::write(path.parent().unwrap().join(name), "x").unwrap();
            },
            "not UTF-8",
        ),
    ];
    for (attack, spoil, answer) in table {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        spoil(&dir.path().join("spoiled"));
        let release = serde_json::from_str(RELEASE).unwrap();
        let error = Tree::scan(dir.path())
            .and_then(|tree| tree.manifest("shop".parse().unwrap(), "1.0".parse().unwrap(), 1, release))
            .expect_err(attack);
        let text = format!(
            "{error}: {}",
            std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
        );
        assert!(text.contains(answer), "{attack}: {text}");
    }
}

#[test]
fn devices_are_refused() {
    let error = Tree::scan(Path::new("/dev/null")).unwrap_err();
    assert!(error.to_string().contains("/dev/null is a device"), "{error}");
}

#[test]
fn what_is_not_there_or_empty_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Tree::scan(dir.path()), Err(BuildError::Empty { .. })));
    let error = Tree::scan(&dir.path().join("nowhere")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn a_file_that_changes_under_the_build_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let tree = Tree::scan(dir.path()).unwrap();
    let envelope = Envelope::new(&manifest(&tree));
    fs::write(dir.path().join("bin/app"), "other").unwrap();
    let error = write_bundle(std::io::sink(), &envelope, &tree).unwrap_err();
    assert!(error.to_string().contains("bin/app changed"), "{error}");
}

#[test]
fn many_chunks_come_in_order_and_an_error_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let tree = Tree::scan(dir.path()).unwrap();
    let digests: Vec<Digest> = manifest(&tree).chunks().iter().map(|chunk| chunk.digest).collect();
    assert!(digests.len() > 100);
    let mut seen = Vec::new();
    compress_all(&tree, &digests, |digest, _| {
        seen.push(digest);
        Ok::<_, SourceError>(())
    })
    .unwrap();
    assert_eq!(seen, digests);
    let mut taken = 0;
    let stopped = compress_all(&tree, &digests, |digest, _| {
        taken += 1;
        if taken == 70 { Err(SourceError::Missing(digest)) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(SourceError::Missing(digest)) if digest == digests[69]));
    let absent = Digest::from_bytes([9; 32]);
    let error = compress_all(&tree, &[absent], |_, _| Ok::<_, SourceError>(())).unwrap_err();
    assert!(matches!(error, SourceError::Missing(digest) if digest == absent));
}
