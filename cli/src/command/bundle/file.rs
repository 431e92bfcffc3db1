//! Bundle files: opening, writing, describing.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use serde_json::{Value, json};
use windlass_proto::bundle::{BundleFile, BundleFileError, EntryKind, Envelope, Manifest};

use crate::error::{ExpectedError, Result};
use crate::invocation::Invocation;
use crate::output::{Format, json as kinds, style, text};

/// Writes a file whole or not at all.
pub(super) fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<u64, BundleFileError>,
) -> Result<u64> {
    let failed = || ExpectedError::failed(format!("cannot write {}", path.display()));
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let file = File::create(&temporary).map_err(|error| failed().because(error))?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let written = write(&mut writer).map_err(|error| failed().because(error));
    let synced = written.and_then(|size| {
        let file = writer.into_inner().map_err(|error| failed().because(error.into_error()))?;
        file.sync_all().map_err(|error| failed().because(error))?;
        std::fs::rename(&temporary, path).map_err(|error| failed().because(error))?;
        Ok(size)
    });
    if synced.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    synced
}

/// Does work that blocks beside the threads that must not.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ExpectedError::failed("the work was given up").because(error)),
    }
}

/// Opens a bundle file; nothing in it is believed yet.
pub fn open(path: &Path) -> Result<BundleFile<File>> {
    let file = File::open(path).map_err(|error| {
        ExpectedError::usage(format!("cannot open bundle {}", path.display()))
            .because(error)
            .hint("windlass bundle build DIR --version VERSION")
    })?;
    BundleFile::open(file).map_err(|error| {
        ExpectedError::usage(format!("{} is not a good bundle", path.display())).because(error)
    })
}

pub(super) fn describe(
    invocation: &Invocation,
    manifest: &Manifest,
    envelope: &Envelope,
    file: Option<(&Path, u64)>,
    files: bool,
) -> Result<()> {
    let out = &invocation.out;
    let key_ids: Vec<String> = envelope.key_ids().iter().map(ToString::to_string).collect();
    let digest = envelope.digest().to_string();
    if out.format == Format::Name {
        return out.line(&digest);
    }
    if out.format.is_structured() {
        let mut value = json!({
            "app": manifest.app, "version": manifest.version, "digest": digest, "counter": manifest.counter,
            "files": manifest.files().count(), "bytes": manifest.total_bytes(), "chunks": manifest.chunks().len(),
            "key_ids": key_ids, "release": manifest.release,
        });
        if let Some((path, size)) = file {
            value["file"] = path.display().to_string().into();
            value["stored_bytes"] = size.into();
        }
        if files {
            value["entries"] = serde_json::to_value(&manifest.entries).unwrap_or(Value::Null);
        }
        return out.object(&kinds::wrap("Bundle", value));
    }
    out.data(&format!(
        "{} {}\n  digest   {digest}\n  counter  {}\n  files    {}, {}, {} chunks\n  signed   {}\n",
        style::paint(style::BOLD, manifest.app.as_str()),
        manifest.version,
        manifest.counter,
        manifest.files().count(),
        text::bytes(manifest.total_bytes()),
        manifest.chunks().len(),
        if key_ids.is_empty() { style::paint(style::BAD, "by nobody") } else { key_ids.join(", ") },
    ))?;
    if files {
        for entry in &manifest.entries {
            let line = match &entry.kind {
                EntryKind::Directory {} => format!("  d          -  {}/", entry.path),
                EntryKind::Link { target } => format!("  l          -  {} -> {target}", entry.path),
                EntryKind::File { executable, size, .. } => {
                    format!(
                        "  {} {:>10}  {}",
                        if *executable { "x" } else { "-" },
                        text::bytes(*size),
                        entry.path
                    )
                }
            };
            out.line(&line)?;
        }
    }
    Ok(())
}
