//! What authors do with bundles: build, sign, verify.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use windlass_proto::bundle::{Trust, write_bundle};
use windlass_proto::counter;

use super::file::{blocking, describe, open, write_file};
use super::grant;
use crate::args::{BundleBuild, SpecFile};
use crate::build;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::keys::{self, NamedKey};
use crate::output::{json as kinds, style, text};
use crate::spec::{self, Scope};

pub(super) async fn build(invocation: &Invocation, args: BundleBuild) -> Result {
    let out = &invocation.out;
    let file = args.file.unwrap_or_else(|| args.dir.join("windlass.yaml"));
    let version = build::version(&args.version)?;
    counter::may_begin(args.counter).map_err(|error| {
        ExpectedError::usage(format!("--counter {} would leave too few for later releases", args.counter))
            .because(error)
    })?;
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

pub(super) async fn verify(
    invocation: &Invocation,
    path: &Path,
    given: &[String],
    threshold: usize,
) -> Result {
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
    if let Some(signed) = grant::open(path)? {
        return grant::verify(invocation, path, &signed, &trust);
    }
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

pub(super) async fn sign(invocation: &Invocation, path: &Path, given: &[String]) -> Result {
    let keys = signers(invocation, given)?;
    if let Some(signed) = grant::open(path)? {
        return grant::sign(invocation, path, signed, &keys);
    }
    let file = open(path)?;
    let manifest = file.unverified_manifest();
    counter::may_begin(manifest.counter).map_err(|error| {
        ExpectedError::usage(format!(
            "{} {} must not be signed: its counter would leave too few for later releases",
            manifest.app, manifest.version
        ))
        .because(error)
        .hint("windlass bundle build DIR --version VERSION --counter N")
    })?;
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
