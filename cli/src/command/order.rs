//! What is to be rolled out: a release made from the spec, a bundle file, or one that the coordinator has.

use std::path::{Path, PathBuf};

use windlass_proto::bundle::{Manifest, Tree};
use windlass_proto::id::ReleaseVersion;
use windlass_proto::limits::PROPOSAL_BYTES;
use windlass_proto::rpc::{BundleInfo, GetBundleRequest, OrderRequest, Proposal, ReleaseRef};

use super::{bundle, counter, environment};
use crate::args::{Order, SpecFile};
use crate::build;
use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::invocation::Invocation;
use crate::keys::{self, NamedKey};
use crate::output::text;
use crate::push;
use crate::spec::{self, Scope, Spec};

/// Which release an order is about.
enum Source {
    /// One to be made from the spec.
    Spec(ReleaseVersion),
    /// The one in a bundle file.
    File(PathBuf),
    /// One that the coordinator has, by digest.
    Stored(String),
}

impl Source {
    fn of(args: &Order) -> Result<Self> {
        match (&args.bundle, &args.version) {
            (Some(given), _) if Path::new(given).is_file() => Ok(Self::File(given.into())),
            (Some(given), _) if given.starts_with("b3:") => Ok(Self::Stored(given.clone())),
            (Some(given), _) => {
                Err(ExpectedError::usage(format!("--bundle {given}: no such file, and not a digest"))
                    .hint("windlass bundle list"))
            }
            (None, Some(version)) => build::version(version).map(Self::Spec),
            (None, None) => {
                Err(ExpectedError::usage("which release? neither --version nor --bundle is given")
                    .hint("windlass deploy --version 1.9.0    (builds it from the spec)")
                    .hint("windlass deploy --bundle FILE|DIGEST    (takes one that exists)"))
            }
        }
    }
}

/// An order, ready for `plan` and `start`.
#[derive(Debug)]
pub struct Target {
    /// The order; without idempotency key.
    pub request: OrderRequest,
}

/// Reads the spec, brings the release to the coordinator, and makes the order.
pub async fn prepare(invocation: &Invocation, args: &Order) -> Result<(Client, Target)> {
    let (source, spec) = read(invocation, args)?;
    let (client, release) = match source {
        Source::Spec(version) => {
            let keys = bundle::author::signers(invocation, &args.key)?;
            let client = invocation.connect().await?;
            let release = make(invocation, &client, &spec, version, &keys).await?;
            (client, release)
        }
        Source::File(path) => {
            same_app(bundle::file::open(&path)?.unverified_manifest().app.as_str(), &spec, args)?;
            let client = invocation.connect().await?;
            let release = named(bundle::push_file(invocation, &client, &path).await?)?;
            (client, release)
        }
        Source::Stored(digest) => {
            let client = invocation.connect().await?;
            let release = stored(&client, &digest).await?;
            same_app(&release.app, &spec, args)?;
            (client, release)
        }
    };
    let request = OrderRequest { target: release.digest, ..request(args, &spec)? };
    Ok((client, Target { request }))
}

/// Reads the spec and makes an order to plan with. Nothing is sent before it, nothing is kept of it: a release that the
/// coordinator need not have is proposed.
pub async fn propose(invocation: &Invocation, args: &Order) -> Result<(Client, OrderRequest)> {
    let (source, spec) = read(invocation, args)?;
    let order = request(args, &spec)?;
    let (client, order) = match source {
        Source::Spec(version) => {
            let tree = build::scan(&invocation.out, &spec.files).await?;
            let client = invocation.connect().await?;
            let counter = next_counter(invocation, &client, &spec, &tree, &version).await?;
            let manifest = build::manifest(&spec, &tree, version, counter)?;
            (client, OrderRequest { proposal: Some(proposal(manifest).await?), ..order })
        }
        Source::File(path) => {
            let manifest = bundle::file::open(&path)?.unverified_manifest().clone();
            same_app(manifest.app.as_str(), &spec, args)?;
            let client = invocation.connect().await?;
            (client, OrderRequest { proposal: Some(proposal(manifest).await?), ..order })
        }
        Source::Stored(digest) => {
            let client = invocation.connect().await?;
            let release = stored(&client, &digest).await?;
            same_app(&release.app, &spec, args)?;
            (client, OrderRequest { target: release.digest, ..order })
        }
    };
    Ok((client, order))
}

fn read(invocation: &Invocation, args: &Order) -> Result<(Source, Spec)> {
    let source = Source::of(args)?;
    let scope = if matches!(source, Source::Spec(_)) { Scope::Used } else { Scope::WithoutFiles };
    let env = environment::of_spec(invocation, &args.spec)?;
    let spec = spec::read(&SpecFile { env, ..args.spec.clone() }, scope)?;
    for warning in &spec.warnings {
        invocation.out.warn(warning);
    }
    Ok((source, spec))
}

fn same_app(app: &str, spec: &Spec, args: &Order) -> Result<()> {
    if app == spec.app.as_str() {
        return Ok(());
    }
    Err(ExpectedError::usage(format!(
        "the bundle is of app {app:?}, but {} is of {:?}",
        args.spec.file.display(),
        spec.app.as_str()
    ))
    .hint("-f FILE    (another spec)"))
}

/// The order as far as it does not depend on where the release comes from.
fn request(args: &Order, spec: &Spec) -> Result<OrderRequest> {
    let spec_json = serde_json::to_string(&spec.rollout)
        .map_err(|error| ExpectedError::failed("cannot encode the rollout").because(error))?;
    Ok(OrderRequest {
        app: spec.app.to_string(),
        environment: spec.environment.to_string(),
        take_from: args.take_from.clone().unwrap_or_default(),
        spec_json,
        expect_revision: args.expect_revision.unwrap_or(0),
        reason: args.reason.clone(),
        hosts: args.host.clone(),
        ..OrderRequest::default()
    })
}

async fn proposal(manifest: Manifest) -> Result<Proposal> {
    let what = format!("{} {}", manifest.app, manifest.version);
    let packed = bundle::file::blocking(move || {
        manifest.pack().map_err(|error| ExpectedError::failed("cannot compress the manifest").because(error))
    });
    let manifest_zstd = packed.await?;
    if manifest_zstd.len() > PROPOSAL_BYTES {
        return Err(ExpectedError::usage(format!(
            "{what} has too many files to be planned without being pushed: its manifest has {} compressed, at most {} \
             can be sent",
            text::bytes(manifest_zstd.len() as u64),
            text::bytes(PROPOSAL_BYTES as u64)
        ))
        .hint("windlass bundle build DIR --version VERSION, then windlass bundle push FILE    (no host is touched)")
        .hint("windlass plan --bundle DIGEST"));
    }
    Ok(Proposal { manifest_zstd })
}

fn named(bundle: BundleInfo) -> Result<ReleaseRef> {
    bundle.release.ok_or_else(|| ExpectedError::failed("the coordinator named no release"))
}

async fn stored(client: &Client, digest: &str) -> Result<ReleaseRef> {
    let request = GetBundleRequest { digest: digest.to_owned(), ..GetBundleRequest::default() };
    let subject = format!("cannot find bundle {digest}");
    named(client.ask(&subject, client.bundles.clone().get_bundle(request)).await?)
}

async fn make(
    invocation: &Invocation,
    client: &Client,
    spec: &Spec,
    version: ReleaseVersion,
    keys: &[NamedKey],
) -> Result<ReleaseRef> {
    let tree = build::scan(&invocation.out, &spec.files).await?;
    let counter = next_counter(invocation, client, spec, &tree, &version).await?;
    let built = build::sign(spec, tree, version, counter, keys)?;
    let pushed = push::push(&invocation.out, client, &built.envelope, &built.manifest, built.tree).await?;
    bundle::said(invocation, &built.manifest, &built.envelope, &pushed);
    named(pushed.info)
}

async fn next_counter(
    invocation: &Invocation,
    client: &Client,
    spec: &Spec,
    tree: &Tree,
    version: &ReleaseVersion,
) -> Result<u64> {
    let config = invocation.config()?;
    let authors =
        keys::authors(&config, config.select(Some(client.context())).ok().map(|(_, context)| context))?;
    counter::next(client, &spec.app, version, authors, |counter| {
        Ok(build::manifest(spec, tree, version.clone(), counter)?.digest().to_string())
    })
    .await
}
