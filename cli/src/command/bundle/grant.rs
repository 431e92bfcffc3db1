//! `windlass bundle grant`: leave of an app's authors to use an earlier release on hosts that have seen later ones; and grants
//! in files, which `bundle sign`, `push`, `show` and `verify` take as they take bundles.

use std::path::Path;

use serde_json::json;
use windlass_proto::bundle::{KeyId, Signed, Trust};
use windlass_proto::grant::Grant;
use windlass_proto::limits::GRANT_BYTES;
use windlass_proto::rpc::{GetBundleRequest, GrantTerms, Plan, PutGrantRequest, ReleaseRef};
use windlass_proto::time::Timestamp;

use super::author::{names, signers};
use crate::args::{BundleGrant, Until};
use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::grant::{Draft, LASTS, ids, lacking};
use crate::invocation::Invocation;
use crate::keys::{self, NamedKey};
use crate::output::{Format, json as kinds, text};

/// Makes a grant, and pushes it or writes it to a file.
pub(super) async fn grant(invocation: &Invocation, args: BundleGrant) -> Result {
    let out = &invocation.out;
    let keys = signers(invocation, &args.key)?;
    let client = invocation.connect().await?;
    let request = match args.release.starts_with("b3:") {
        true => {
            GetBundleRequest { app: args.app.clone(), digest: args.release.clone(), ..Default::default() }
        }
        false => {
            GetBundleRequest { app: args.app.clone(), version: args.release.clone(), ..Default::default() }
        }
    };
    let subject = format!("cannot grant {} {}", args.app, args.release);
    let terms = client.ask(&subject, client.bundles.clone().get_grant_terms(request)).await?;
    let now = Timestamp(text::now_ms());
    let until = match args.until {
        Until::For(span) => now.after(span),
        Until::At(at) => at,
    };
    if until <= now {
        return Err(ExpectedError::usage("--until is in the past").hint("--until 24h"));
    }
    let mut draft = Draft::new(&terms, args.up_to, until)?;
    draft.sign(keys.iter().map(|named| &named.key));
    let lacks = lacking(&terms, &draft.signed.key_ids());
    if let Some(path) = &args.out {
        write(path, &draft.signed)?;
        said(invocation, &draft, Some(path))?;
        out.step("Wrote", &format!("{}, signed by {}", path.display(), names(&keys)));
        for line in lacks {
            out.warn(&line);
        }
        out.talk(&format!("windlass bundle sign {}    (adds a signature)", path.display()));
        out.talk(&format!("windlass bundle push {}", path.display()));
        return Ok(Exit::Done);
    }
    if !lacks.is_empty() {
        let error =
            ExpectedError::new(Exit::Conflict, format!("{subject}: hosts would not believe the grant"));
        return Err(lacks
            .into_iter()
            .fold(error, ExpectedError::line)
            .hint(format!("windlass bundle grant {} {} --out FILE", args.app, args.release))
            .hint("windlass bundle sign FILE    (by the other authors)")
            .hint("windlass bundle push FILE"));
    }
    push(&client, &draft.signed).await?;
    said(invocation, &draft, None)?;
    out.step("Granted", &format!("{}, signed by {}", draft.describe(), names(&keys)));
    if terms.hosts.is_empty() {
        out.talk("no host that is known needs it now");
    }
    Ok(Exit::Done)
}

fn said(invocation: &Invocation, draft: &Draft, file: Option<&Path>) -> Result<()> {
    let out = &invocation.out;
    if !out.format.is_structured() && out.format != Format::Name {
        return Ok(());
    }
    let Draft { release, grant, signed } = draft;
    let ids: Vec<String> = signed.key_ids().iter().map(ToString::to_string).collect();
    let mut value = json!({
        "app": grant.app, "version": release.version, "digest": grant.digest.to_string(), "fleet": grant.fleet,
        "up_to": grant.up_to, "until": text::rfc3339(grant.until.0), "key_ids": ids,
    });
    if let Some(path) = file {
        value["file"] = path.display().to_string().into();
    }
    match out.format {
        Format::Name => out.line(&grant.digest.to_string()),
        _ => out.object(&kinds::wrap("Grant", value)),
    }
}

/// Sends a grant to the coordinator.
pub async fn push(client: &Client, signed: &Signed<Grant>) -> Result<()> {
    let request = PutGrantRequest { envelope: signed.encode() };
    client.ask("cannot push the grant", client.bundles.clone().put_grant(request)).await?;
    Ok(())
}

/// What a rollback can do about a grant that it lacks.
#[derive(Debug)]
pub enum Own {
    /// The operator's own keys are enough: it is to be signed and pushed when the operator has agreed to the rollback.
    Enough(Box<Draft>, Vec<NamedKey>),
    /// They are not; what is lacking, a line for each group of hosts.
    Lacking(Vec<String>),
}

/// Whether the operator's author keys are enough for the grant that a plan lacks. `None` where it lacks none.
pub fn own(invocation: &Invocation, plan: &Plan) -> Result<Option<Own>> {
    let Some(terms) = &plan.grant else { return Ok(None) };
    let wanted = terms.authors.iter().flat_map(|authors| ids(&authors.keys)).collect::<Vec<KeyId>>();
    let config = invocation.config()?;
    let context = config.select(invocation.context.as_deref()).ok().map(|(_, context)| context);
    // A key that cannot be read is one that is not here; `key list` says what is wrong with it.
    let known = keys::known(&config, context).into_iter();
    let known = known.filter_map(|(_, path)| keys::open(&config, context, path.to_str()?).ok());
    let mut here: Vec<NamedKey> = known.filter(|named| wanted.contains(&named.key.id())).collect();
    here.sort_by_key(|named| named.key.id());
    here.dedup_by_key(|named| named.key.id());
    let ids: Vec<KeyId> = here.iter().map(|named| named.key.id()).collect();
    let lacks = lacking(terms, &ids);
    if !lacks.is_empty() || here.is_empty() {
        return Ok(Some(Own::Lacking(lacks)));
    }
    let draft = Draft::new(terms, None, Timestamp(text::now_ms()).after(LASTS))?;
    Ok(Some(Own::Enough(Box::new(draft), here)))
}

/// A grant in a file; `None` where the file is something else.
pub(super) fn open(path: &Path) -> Result<Option<Signed<Grant>>> {
    let failed = |error: std::io::Error| {
        ExpectedError::usage(format!("cannot open {}", path.display())).because(error)
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        // Whoever opens it as a bundle says so better.
        Err(_) => return Ok(None),
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(GRANT_BYTES).unwrap_or(u64::MAX);
    std::io::Read::read_to_end(&mut std::io::Read::take(file, most + 1), &mut bytes).map_err(failed)?;
    if !bytes.starts_with(b"{") {
        return Ok(None);
    }
    let signed = Signed::decode(&bytes).map_err(|error| {
        ExpectedError::usage(format!("{} is neither a bundle nor a grant", path.display())).because(error)
    })?;
    Ok(Some(signed))
}

fn write(path: &Path, signed: &Signed<Grant>) -> Result<()> {
    crate::files::write_atomic(path, &signed.encode(), 0o644)
        .map_err(|error| ExpectedError::failed(format!("cannot write {}", path.display())).because(error))
}

fn unverified(path: &Path, signed: &Signed<Grant>) -> Result<Draft> {
    let grant = signed.unverified().map_err(|error| {
        ExpectedError::usage(format!("{} is not a good grant", path.display())).because(error)
    })?;
    let (app, digest) = (grant.app.to_string(), grant.digest.to_string());
    // It names its release by digest alone.
    let release = ReleaseRef { app, version: text::short_digest(&digest).to_owned(), digest, counter: 0 };
    Ok(Draft { release, grant, signed: signed.clone() })
}

/// Adds signatures to a grant in a file.
pub(super) fn sign(
    invocation: &Invocation,
    path: &Path,
    mut signed: Signed<Grant>,
    keys: &[NamedKey],
) -> Result {
    let draft = unverified(path, &signed)?;
    keys.iter().for_each(|named| signed.sign(&named.key));
    write(path, &signed)?;
    let count = signed.key_ids().len();
    said(invocation, &Draft { signed, ..draft.clone() }, Some(path))?;
    let all = text::count(count, "signature");
    invocation.out.step("Signed", &format!("{} by {}; {all} in all", path.display(), names(keys)));
    invocation.out.talk(&format!("it grants {}", draft.describe()));
    Ok(Exit::Done)
}

/// Pushes a grant in a file; says so where hosts would not believe it.
pub(super) async fn push_file(invocation: &Invocation, path: &Path, signed: &Signed<Grant>) -> Result {
    let out = &invocation.out;
    let draft = unverified(path, signed)?;
    if signed.key_ids().is_empty() {
        return Err(ExpectedError::usage(format!("{} is not signed; no host would take it", path.display()))
            .hint(format!("windlass bundle sign {}", path.display())));
    }
    let client = invocation.connect().await?;
    let terms = terms(&client, &draft).await?;
    push(&client, signed).await?;
    let draft = Draft { release: terms.release.clone().unwrap_or(draft.release), ..draft };
    said(invocation, &draft, Some(path))?;
    out.step("Granted", &draft.describe());
    for line in lacking(&terms, &signed.key_ids()) {
        out.warn(&format!("hosts would not believe the grant: {line}"));
    }
    Ok(Exit::Done)
}

async fn terms(client: &Client, draft: &Draft) -> Result<GrantTerms> {
    let request = GetBundleRequest {
        app: draft.release.app.clone(),
        digest: draft.release.digest.clone(),
        ..Default::default()
    };
    let subject = format!("cannot push the grant of {} {}", draft.release.app, draft.release.version);
    client.ask(&subject, client.bundles.clone().get_grant_terms(request)).await
}

/// Shows a grant in a file.
pub(super) fn show(invocation: &Invocation, path: &Path, signed: &Signed<Grant>) -> Result {
    let draft = unverified(path, signed)?;
    said(invocation, &draft, Some(path))?;
    if !invocation.out.format.is_structured() && invocation.out.format != Format::Name {
        let ids: Vec<String> = signed.key_ids().iter().map(ToString::to_string).collect();
        let signed = if ids.is_empty() { "by nobody".to_owned() } else { ids.join(", ") };
        invocation.out.data(&format!(
            "grant\n  allows   {}\n  fleet    {}\n  signed   {signed}\n",
            draft.describe(),
            draft.grant.fleet
        ))?;
    }
    Ok(Exit::Done)
}

/// Checks a grant's signatures.
pub(super) fn verify(invocation: &Invocation, path: &Path, signed: &Signed<Grant>, trust: &Trust) -> Result {
    let shown = path.display().to_string();
    let verified = signed
        .verify(trust)
        .map_err(|error| ExpectedError::failed(format!("{shown} must not be trusted")).because(error))?;
    let signers: Vec<String> = verified.signers().iter().map(ToString::to_string).collect();
    let draft = unverified(path, signed)?;
    let out = &invocation.out;
    if out.format.is_structured() {
        let value = json!({
            "file": shown, "ok": true, "digest": draft.release.digest, "app": draft.release.app, "signers": signers,
        });
        out.object(&kinds::wrap("Verification", value))?;
    } else {
        let signers = signers.iter().map(|id| text::short_digest(id)).collect::<Vec<_>>().join(", ");
        out.line(&format!("ok  grants {}, signed by {signers}", draft.describe()))?;
    }
    Ok(Exit::Done)
}
