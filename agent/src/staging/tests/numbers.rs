//! Figures, not judgements: `cargo test -p windlass-agent -- --ignored --nocapture staging_numbers`.

use std::io::Write;
use std::time::Instant;

use super::*;
use crate::{durable, held};

/// 5,000 files of 40 KB, half of it compressible.
fn tree(changed: usize) -> Vec<(String, Vec<u8>)> {
    let file = |number: usize| {
        let seed = if number < changed { 1_000_000 + number } else { number };
        let mut data = noise(seed as u64, 20_000);
        data.resize(40_000, b'x');
        (format!("d{:02}/f{number:04}", number / 100), data)
    };
    (0..5000).map(file).collect()
}

fn bundle(version: &str, counter: u64, changed: usize, key: &AuthorKey) -> Bundle {
    let files = tree(changed);
    let dirs: Vec<String> = (0..50).map(|number| format!("d{number:02}")).collect();
    let mut items: Vec<(&str, Item)> = dirs.iter().map(|dir| (dir.as_str(), Item::Dir)).collect();
    items.extend(files.iter().map(|(path, data)| (path.as_str(), Item::File(data.clone()))));
    items.sort_by_key(|(path, _)| *path);
    let (manifest, chunks) = content(version, counter, &items);
    seal(&manifest, chunks, &[key])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn staging_numbers() {
    let key = key();
    let (old, new) = (bundle("1", 1, 0, &key), bundle("2", 2, 100, &key));
    let coordinator = Coordinator::start(&[&old, &new]).await;
    let host = Host::new(&[&key]);
    let mut out = std::io::stderr();

    let raw = tempfile::tempdir().unwrap();
    let files = tree(0);
    let start = Instant::now();
    for (path, data) in &files {
        let path = raw.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
    }
    durable::sync_filesystem(raw.path()).unwrap();
    writeln!(out, "raw write and one sync: {:?}", start.elapsed()).unwrap();

    for (what, release) in [("first", &old.release), ("2 % changed", &new.release)] {
        let staged = host.stage(&coordinator, release).await.unwrap();
        writeln!(
            out,
            "{what}: {:?}, {} bytes fetched, {} reused, {} files linked",
            staged.took, staged.bytes_fetched, staged.bytes_reused, staged.files_linked
        )
        .unwrap();
    }
    let start = Instant::now();
    held::verify(&host.layout, &app(), &new.release.digest).unwrap();
    writeln!(out, "verify again: {:?}", start.elapsed()).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    writeln!(out, "peak of test process, which holds the bundles: {peak}").unwrap();
}
