//! What is to be rolled out: a release made from the spec, a bundle file, or one that the coordinator has.

use std::path::Path;
use std::sync::Arc;

use windlass_proto::bundle::Envelope;
use windlass_proto::rpc::{
    BundleInfo, ErrorKind, GetBundleRequest, ListBundlesRequest, ListBundlesResponse, OrderRequest,
    ReleaseRef,
};

use super::bundle;
use crate::args::Order;
use crate::build;
use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::text::short_digest;
use crate::push;
use crate::spec::{self, Scope, Spec};

/// An order, ready for `plan` and `start`.
#[derive(Debug)]
pub struct Target {
    /// The order; without idempotency key.
    pub request: OrderRequest,
}

/// Reads the spec, brings the release to the coordinator, and makes the order.
pub async fn prepare(invocation: &Invocation, args: &Order) -> Result<(Client, Target)> {
    if args.version.is_none() && args.bundle.is_none() {
        return Err(ExpectedError::usage("which release? neither --version nor --bundle is given")
            .hint("windlass deploy --version 1.9.0    (builds it from the spec)")
            .hint("windlass deploy --bundle FILE|DIGEST    (takes one that exists)"));
    }
    let scope = if args.bundle.is_some() { Scope::WithoutFiles } else { Scope::Used };
    let version = args.version.as_deref().map(build::version).transpose()?;
    let spec = spec::read(&args.spec, scope)?;
    for warning in &spec.warnings {
        invocation.out.warn(warning);
    }
    let release = match (&args.bundle, version) {
        (Some(given), _) => {
            let client = invocation.connect().await?;
            let release = existing(invocation, &client, given).await?;
            (client, release)
        }
        (None, Some(version)) => {
            let keys = bundle::author::signers(invocation, &args.key)?;
            let client = invocation.connect().await?;
            let release = make(invocation, &client, &spec, version, &keys).await?;
            (client, release)
        }
        (None, None) => unreachable!("checked above"),
    };
    let (client, release) = release;
    if release.app != spec.app.as_str() {
        return Err(ExpectedError::usage(format!(
            "the bundle is of app {:?}, but {} is of {:?}",
            release.app,
            args.spec.file.display(),
            spec.app.as_str()
        ))
        .hint("-f FILE    (another spec)"));
    }
    let spec_json = serde_json::to_string(&spec.rollout)
        .map_err(|error| ExpectedError::failed("cannot encode the rollout").because(error))?;
    let request = OrderRequest {
        app: release.app,
        target: release.digest,
        spec_json,
        rollback: false,
        expect_revision: args.expect_revision.unwrap_or(0),
        reason: args.reason.clone(),
        idempotency_key: String::new(),
    };
    Ok((client, Target { request }))
}

async fn existing(invocation: &Invocation, client: &Client, given: &str) -> Result<ReleaseRef> {
    let missing = || ExpectedError::failed("the coordinator named no release");
    if Path::new(given).is_file() {
        return bundle::push_file(invocation, client, Path::new(given)).await?.release.ok_or_else(missing);
    }
    if !given.starts_with("b3:") {
        return Err(ExpectedError::usage(format!("--bundle {given}: no such file, and not a digest"))
            .hint("windlass bundle list"));
    }
    let request = GetBundleRequest { digest: given.to_owned(), ..GetBundleRequest::default() };
    let subject = format!("cannot find bundle {given}");
    client.ask(&subject, client.bundles.clone().get_bundle(request)).await?.release.ok_or_else(missing)
}

async fn make(
    invocation: &Invocation,
    client: &Client,
    spec: &Spec,
    version: windlass_proto::id::ReleaseVersion,
    keys: &[crate::keys::NamedKey],
) -> Result<ReleaseRef> {
    let tree = build::scan(&invocation.out, &spec.files).await?;
    let known = known(client, spec.app.as_str()).await?;
    let counter = counter(&known, version.as_str(), |counter| {
        let manifest = build::manifest(spec, &tree, version.clone(), counter)?;
        Ok(Envelope::new(&manifest).digest().to_string())
    })?;
    let built = build::sign(spec, Arc::clone(&tree), version, counter, keys)?;
    let pushed = push::push(&invocation.out, client, &built.envelope, &built.manifest, built.tree).await?;
    bundle::said(invocation, &built.manifest, &built.envelope, &pushed);
    pushed.info.release.ok_or_else(|| ExpectedError::failed("the coordinator named no release"))
}

/// Bundles of the app; an app without any is not known to the coordinator yet.
async fn known(client: &Client, app: &str) -> Result<Vec<BundleInfo>> {
    let mut bundles = client.bundles.clone();
    let call = async {
        match bundles.list_bundles(ListBundlesRequest { app: app.to_owned() }).await {
            Err(status) if ErrorKind::of(&status) == ErrorKind::NotFound => {
                Ok(ListBundlesResponse::default().into())
            }
            answer => answer,
        }
    };
    Ok(client.ask("cannot list bundles", call).await?.bundles)
}

/// The counter of the new release: that of an equal one that exists already, so that making it again changes nothing;
/// else one more than the highest. `digest` tells what the release would be called with a counter.
fn counter(known: &[BundleInfo], version: &str, digest: impl Fn(u64) -> Result<String>) -> Result<u64> {
    let releases: Vec<&ReleaseRef> = known.iter().filter_map(|bundle| bundle.release.as_ref()).collect();
    let same: Vec<&&ReleaseRef> = releases.iter().filter(|release| release.version == version).collect();
    for release in &same {
        if digest(release.counter)? == release.digest {
            return Ok(release.counter);
        }
    }
    if let Some(other) = same.first() {
        let known = short_digest(&other.digest);
        return Err(ExpectedError::new(
            Exit::Conflict,
            format!("{} {version} exists already with other contents ({known})", other.app),
        )
        .hint("give these contents a --version of their own: a version is never changed")
        .hint(format!("windlass deploy --bundle {known}    (rolls out what exists)")));
    }
    Ok(releases.iter().map(|release| release.counter).max().unwrap_or(0) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_release_keeps_its_counter() {
        let known = |version: &str, digest: &str, counter| BundleInfo {
            release: Some(ReleaseRef {
                app: "web".into(),
                version: version.into(),
                digest: digest.into(),
                counter,
            }),
            ..Default::default()
        };
        let digest = |counter: u64| Ok(format!("b3:{counter}"));
        let bundles = [known("1", "b3:4", 4), known("2", "b3:other", 7)];
        assert_eq!(counter(&bundles, "1", digest).unwrap(), 4);
        assert_eq!(counter(&bundles, "2", digest).unwrap_err().exit(), Exit::Conflict);
        assert_eq!(counter(&bundles, "3", digest).unwrap(), 8);
        assert_eq!(counter(&[], "1", digest).unwrap(), 1);
    }
}
