//! `windlass bundle`: signed, content-addressed releases.
//!
//! [`author`] builds, signs and verifies; [`mod@file`] opens, writes and describes bundle files. [`mod@grant`]: leave to use an
//! earlier release.

pub mod author;
pub mod file;
pub mod grant;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use windlass_proto::bundle::{Envelope, Manifest};
use windlass_proto::rpc::{BundleInfo, ErrorKind, GetBundleRequest, ListBundlesRequest};

use crate::args::Bundle;
use crate::build;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json as kinds, table, text};
use crate::push;
use crate::spec::near;
use author::{build, sign, verify};
use file::{describe, open};

/// Longest that one piece of an envelope may take.
const PIECE: Duration = Duration::from_secs(30);

/// Runs the verb.
pub async fn run(invocation: &Invocation, verb: Bundle) -> Result {
    match verb {
        Bundle::Build(args) => build(invocation, args).await,
        Bundle::Push { file } => match grant::open(&file)? {
            Some(signed) => grant::push_file(invocation, &file, &signed).await,
            None => send(invocation, &file).await,
        },
        Bundle::Grant(args) => grant::grant(invocation, args).await,
        Bundle::List { app } => list(invocation, app.unwrap_or_default()).await,
        Bundle::Show { digest, files } => show(invocation, digest, files).await,
        Bundle::Verify { file, key, threshold } => verify(invocation, &file, &key, threshold).await,
        Bundle::Sign { file, key } => sign(invocation, &file, &key).await,
    }
}

async fn send(invocation: &Invocation, path: &Path) -> Result {
    let client = invocation.connect().await?;
    let pushed = push_file(invocation, &client, path).await?;
    let out = &invocation.out;
    if out.format.is_structured() {
        out.object(&kinds::wrap("Bundle", kinds::bundle(&pushed)))?;
    } else {
        out.line(&pushed.release.map_or_else(String::new, |r| r.digest))?;
    }
    Ok(Exit::Done)
}

/// Pushes a bundle file and says so.
pub async fn push_file(
    invocation: &Invocation,
    client: &crate::client::Client,
    path: &Path,
) -> Result<BundleInfo> {
    let file = open(path)?;
    let (envelope, manifest) = (file.envelope().clone(), file.unverified_manifest().clone());
    if envelope.key_ids().is_empty() {
        return Err(ExpectedError::usage(format!("{} is not signed; no host would take it", path.display()))
            .hint(format!("windlass bundle sign {}", path.display())));
    }
    let pushed = push::push(&invocation.out, client, &envelope, &manifest, Arc::new(file)).await?;
    said(invocation, &manifest, &envelope, &pushed);
    Ok(pushed.info)
}

/// Says what an upload did.
pub fn said(invocation: &Invocation, manifest: &Manifest, envelope: &Envelope, pushed: &push::Pushed) {
    let all = manifest.chunks().len();
    let what = build::describe(manifest, envelope);
    let there = (all - pushed.sent_chunks.min(all)) * 100 / all.max(1);
    let line = if pushed.sent_chunks == 0 {
        format!("{what}: nothing to send, all {all} chunks are there")
    } else {
        format!(
            "{what}: {} of {all} chunks, {} ({there}% already there)",
            pushed.sent_chunks,
            text::bytes(pushed.sent_bytes)
        )
    };
    invocation.out.step("Pushed", &line);
}

/// An app that has no bundle is most often a slip of the finger.
async fn unknown_app(client: &crate::client::Client, app: &str) -> Result {
    let request = ListBundlesRequest { app: String::new() };
    let all = client.ask("cannot list bundles", client.bundles.clone().list_bundles(request)).await?.bundles;
    let apps = all.iter().filter_map(|bundle| bundle.release.as_ref()).map(|release| release.app.as_str());
    let meant = near(app, apps).map(|meant| format!(", did you mean {meant:?}?")).unwrap_or_default();
    Err(ExpectedError::failed(format!("no bundle is of an app {app:?}{meant}")).hint("windlass bundle list"))
}

async fn list(invocation: &Invocation, app: String) -> Result {
    let out = &invocation.out;
    let client = invocation.connect().await?;
    let request = ListBundlesRequest { app: app.clone() };
    let bundles =
        client.ask("cannot list bundles", client.bundles.clone().list_bundles(request)).await?.bundles;
    if bundles.is_empty() && !app.is_empty() {
        return unknown_app(&client, &app).await;
    }
    match out.format {
        Format::Name => {
            for bundle in &bundles {
                out.line(bundle.release.as_ref().map_or("", |r| r.digest.as_str()))?;
            }
        }
        format if format.is_structured() => out.list(&kinds::bundle_list(&bundles), "bundles", "Bundle")?,
        _ if bundles.is_empty() => out.talk("no bundles; windlass deploy makes and pushes one"),
        format => {
            let wide = format == Format::Wide;
            let mut header =
                vec!["APP", "VERSION", "DIGEST", "COUNTER", "FILES", "SIZE", "STORED", "PUSHED", "BY"];
            if wide {
                header.push("KEYS");
            }
            let rows: Vec<Vec<String>> = bundles.iter().map(|b| row(b, wide)).collect();
            out.data(&table::render(&header, &rows))?;
        }
    }
    Ok(Exit::Done)
}

fn row(bundle: &BundleInfo, wide: bool) -> Vec<String> {
    let release = bundle.release.clone().unwrap_or_default();
    let digest = if wide { release.digest.clone() } else { text::short_digest(&release.digest).to_owned() };
    let mut row = vec![
        release.app,
        release.version,
        digest,
        release.counter.to_string(),
        bundle.files.to_string(),
        text::bytes(bundle.bytes),
        text::bytes(bundle.stored_bytes),
        text::ago(bundle.pushed_at_ms),
        bundle.pushed_by.clone(),
    ];
    if wide {
        row.push(bundle.key_ids.iter().map(|k| text::short_digest(k)).collect::<Vec<_>>().join(" "));
    }
    row
}

async fn show(invocation: &Invocation, subject: String, files: bool) -> Result {
    let out = &invocation.out;
    let path = Path::new(&subject);
    if path.is_file() {
        if let Some(signed) = grant::open(path)? {
            return grant::show(invocation, path, &signed);
        }
        let file = open(path)?;
        let size = std::fs::metadata(path).map_or(0, |m| m.len());
        describe(invocation, file.unverified_manifest(), file.envelope(), Some((path, size)), files)?;
        return Ok(Exit::Done);
    }
    let client = invocation.connect().await?;
    let request = lookup(&subject);
    let subject = format!("cannot show bundle {subject}");
    let info = client.ask(&subject, client.bundles.clone().get_bundle(request.clone())).await?;
    if out.format.is_structured() && !files {
        out.object(&kinds::wrap("Bundle", kinds::bundle(&info)))?;
        return Ok(Exit::Done);
    }
    let envelope = fetch_envelope(&client, &subject, request).await?;
    let manifest = envelope.unverified_manifest().map_err(|error| {
        ExpectedError::failed(format!("{subject}: its manifest is damaged")).because(error)
    })?;
    describe(invocation, &manifest, &envelope, None, files)?;
    if !out.format.is_structured() {
        out.line(&format!(
            "  pushed   {} by {}",
            text::rfc3339(info.pushed_at_ms).unwrap_or_default(),
            info.pushed_by
        ))?;
        out.line(&format!("  stored   {}", text::bytes(info.stored_bytes)))?;
    }
    Ok(Exit::Done)
}

/// What people type for a bundle: a digest or its beginning, `APP@VERSION`, or `APP VERSION` in one argument.
fn lookup(subject: &str) -> GetBundleRequest {
    match subject.split_once(['@', ' ']) {
        Some((app, version)) => GetBundleRequest {
            app: app.to_owned(),
            version: version.to_owned(),
            ..GetBundleRequest::default()
        },
        None => GetBundleRequest { digest: subject.to_owned(), ..GetBundleRequest::default() },
    }
}

/// Fetches a bundle's envelope from the coordinator; `subject` says what for.
pub(super) async fn fetch_envelope(
    client: &crate::client::Client,
    subject: &str,
    request: GetBundleRequest,
) -> Result<Envelope> {
    let mut stream = client.open(subject, client.bundles.clone().fetch_bundle_envelope(request)).await?;
    let mut bytes = Vec::new();
    // Twice the largest manifest: base64 and signatures.
    let most = 2 * windlass_proto::limits::MANIFEST_BYTES;
    loop {
        let piece = tokio::time::timeout(PIECE, client.next(&mut stream)).await;
        let piece =
            piece.unwrap_or_else(|_| Err(ErrorKind::TimedOut.status("the coordinator sends no more of it")));
        let Some(piece) = piece.map_err(|status| client.failure(subject, &status))? else { break };
        bytes.extend_from_slice(&piece.data);
        if bytes.len() > most {
            return Err(ExpectedError::failed(format!(
                "{subject}: its envelope is longer than {most} bytes"
            )));
        }
    }
    Envelope::decode(&bytes)
        .map_err(|error| ExpectedError::failed(format!("{subject}: its envelope is damaged")).because(error))
}
