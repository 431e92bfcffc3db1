//! `windlass bundle`: signed, content-addressed releases.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use windlass_proto::bundle::{
    BundleFile, BundleFileError, EntryKind, Envelope, Manifest, Trust, write_bundle,
};
use windlass_proto::rpc::{BundleInfo, GetBundleRequest, ListBundlesRequest};

use crate::args::{Bundle, BundleBuild, SpecFile};
use crate::build;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::keys::{self, NamedKey};
use crate::output::{Format, json as kinds, style, table, text};
use crate::push;
use crate::spec::{self, Scope};

/// Runs the verb.
pub async fn run(invocation: &Invocation, verb: Bundle) -> Result {
    match verb {
        Bundle::Build(args) => build(invocation, args).await,
        Bundle::Push { file } => send(invocation, &file).await,
        Bundle::List { app } => list(invocation, app.unwrap_or_default()).await,
        Bundle::Show { digest, files } => show(invocation, digest, files).await,
        Bundle::Verify { file, key, threshold } => verify(invocation, &file, &key, threshold).await,
        Bundle::Sign { file, key } => sign(invocation, &file, &key).await,
    }
}

async fn build(invocation: &Invocation, args: BundleBuild) -> Result {
    let out = &invocation.out;
    let file = args.file.unwrap_or_else(|| args.dir.join("windlass.yaml"));
    let version = build::version(&args.version)?;
    let spec = spec::read(&SpecFile { file, env: None, set: Vec::new() }, Scope::Used)?;
    for warning in &spec.warnings {
        out.warn(warning);
    }
    let keys = signers(invocation, &args.key)?;
    let tree = build::scan(out, &spec.files).await?;
    let built = build::sign(&spec, tree, version, args.counter, &keys)?;
    let target =
        args.out.unwrap_or_else(|| PathBuf::from(format!("{}-{}.wlb", spec.app, built.manifest.version)));
    let path = target.clone();
    let (envelope, tree) = (built.envelope.clone(), Arc::clone(&built.tree));
    let size = blocking(move || write_file(&path, |out| write_bundle(out, &envelope, tree.as_ref()))).await?;
    describe(invocation, &built.manifest, &built.envelope, Some((&target, size)), false)?;
    out.step("Packed", &build::describe(&built.manifest, &built.envelope));
    out.step("Wrote", &format!("{}, {}, signed by {}", target.display(), text::bytes(size), names(&keys)));
    Ok(Exit::Done)
}

/// The keys to sign with; the context matters only for its author keys.
pub fn signers(invocation: &Invocation, names: &[String]) -> Result<Vec<NamedKey>> {
    let config = invocation.config()?;
    let context = match invocation.context.as_deref() {
        Some(asked) => Some(config.select(Some(asked))?.1),
        None => config.select(None).ok().map(|(_, context)| context),
    };
    keys::signing(&config, context, names)
}

/// The names of keys, with their ids.
pub fn names(keys: &[NamedKey]) -> String {
    keys.iter().map(|k| format!("{} ({})", k.name, k.key.id().short())).collect::<Vec<_>>().join(", ")
}

/// Writes a file whole or not at all.
fn write_file(
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
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

async fn list(invocation: &Invocation, app: String) -> Result {
    let out = &invocation.out;
    let client = invocation.connect().await?;
    let request = ListBundlesRequest { app };
    let bundles =
        client.ask("cannot list bundles", client.bundles.clone().list_bundles(request)).await?.bundles;
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

async fn fetch_envelope(
    client: &crate::client::Client,
    subject: &str,
    request: GetBundleRequest,
) -> Result<Envelope> {
    let mut stream = client.ask(subject, client.bundles.clone().fetch_bundle_envelope(request)).await?;
    let mut bytes = Vec::new();
    // Twice the largest manifest: base64 and signatures.
    let most = 2 * windlass_proto::limits::MANIFEST_BYTES;
    loop {
        let piece = client.ask(subject, async { stream.message().await.map(tonic::Response::new) }).await?;
        let Some(piece) = piece else { break };
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

fn describe(
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

async fn verify(invocation: &Invocation, path: &Path, given: &[String], threshold: usize) -> Result {
    let out = &invocation.out;
    let config = invocation.config()?;
    let context = config.select(invocation.context.as_deref()).ok().map(|(_, context)| context);
    let trusted = if given.is_empty() {
        let own = keys::signing(&config, context, &[]).map_err(|_| {
            ExpectedError::usage("whose signature is good? the context names no author keys")
                .hint(format!("windlass bundle verify {} --key ed25519:...", path.display()))
        })?;
        own.iter().map(|named| named.key.public()).collect::<Vec<_>>()
    } else {
        given.iter().map(|key| keys::public(&config, context, key)).collect::<Result<Vec<_>>>()?
    };
    let trust = Trust::new(trusted, threshold)
        .map_err(|error| ExpectedError::usage(format!("--threshold {threshold}")).because(error))?;
    let file = open(path)?;
    let shown = path.display().to_string();
    let verified = file
        .envelope()
        .verify(&trust)
        .map_err(|error| ExpectedError::failed(format!("{shown} must not be trusted")).because(error))?;
    let signers: Vec<String> = verified.signers().iter().map(|id| id.to_string()).collect();
    let (digest, manifest) = (verified.digest(), verified.manifest().clone());
    let named = shown.clone();
    blocking(move || {
        file.verify_contents()
            .map_err(|error| ExpectedError::failed(format!("{named} is damaged")).because(error))
    })
    .await?;
    if out.format.is_structured() {
        out.object(&kinds::wrap(
            "Verification",
            json!({ "file": shown, "ok": true, "digest": digest.to_string(), "app": manifest.app,
                    "version": manifest.version, "signers": signers, "chunks": manifest.chunks().len() }),
        ))?;
    } else {
        out.line(&format!(
            "{}  {} {} {}: {} and {} chunks match, signed by {}",
            style::word("ok"),
            manifest.app,
            manifest.version,
            digest.short(),
            text::count(manifest.files().count(), "file"),
            manifest.chunks().len(),
            signers.iter().map(|id| text::short_digest(id)).collect::<Vec<_>>().join(", "),
        ))?;
    }
    Ok(Exit::Done)
}

async fn sign(invocation: &Invocation, path: &Path, given: &[String]) -> Result {
    let keys = signers(invocation, given)?;
    let file = open(path)?;
    let mut envelope = file.envelope().clone();
    for named in &keys {
        envelope.sign(&named.key);
    }
    let target = path.to_owned();
    let digest = envelope.digest();
    let count = envelope.key_ids().len();
    blocking(move || write_file(&target, |out| write_bundle(out, &envelope, &file))).await?;
    let out = &invocation.out;
    if out.format.is_structured() {
        let ids: Vec<String> = keys.iter().map(|k| k.key.id().to_string()).collect();
        out.object(&kinds::wrap(
            "Signature",
            json!({ "file": path.display().to_string(), "digest": digest.to_string(), "added": ids, "signatures": count }),
        ))?;
    } else {
        let all = text::count(count, "signature");
        out.step("Signed", &format!("{} by {}; {all} in all", path.display(), names(&keys)));
    }
    Ok(Exit::Done)
}
