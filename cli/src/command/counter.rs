//! Which counter a new release gets: one more than the highest that somebody answers for. Anybody who may push can have the
//! coordinator keep a bundle with any counter and any signature; such ones count only when an author known here has signed
//! them, or hosts have taken them, and no jump that hosts would not believe leads to the next one.

use windlass_proto::bundle::{AuthorPublicKey, Trust};
use windlass_proto::counter::{self, highest};
use windlass_proto::id::{AppName, ReleaseVersion};
use windlass_proto::rpc::{
    BundleInfo, ErrorKind, GetBundleRequest, ListBundlesRequest, ListBundlesResponse, ReleaseRef,
};

use super::bundle::fetch_envelope;
use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::output::text::short_digest;

/// The counter of a new release of `app`: that of an equal one that exists already, so that making it again changes nothing;
/// else one more than the highest that counts. `digest` tells what the release would be called with a counter.
pub(super) async fn next(
    client: &Client,
    app: &AppName,
    version: &ReleaseVersion,
    authors: Vec<AuthorPublicKey>,
    digest: impl Fn(u64) -> Result<String>,
) -> Result<u64> {
    let known = known(client, app.as_str()).await?;
    let seen = signed(client, &known, authors).await?;
    decide(&known, seen, version.as_str(), digest)
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

/// The highest counter among what hosts have taken and what an author known here has provably signed. Only envelopes that
/// can raise it are fetched.
async fn signed(client: &Client, known: &[BundleInfo], authors: Vec<AuthorPublicKey>) -> Result<u64> {
    let accepted = known.iter().filter(|bundle| bundle.accepted);
    let mut counters: Vec<u64> = accepted.filter_map(|b| b.release.as_ref()).map(|r| r.counter).collect();
    let Ok(trust) = Trust::new(authors, 1) else { return Ok(highest(counters)) };
    for release in candidates(known, &trust) {
        let seen = highest(counters.iter().copied());
        if seen != 0 && counter::may_follow(seen, release.counter).is_err() {
            break;
        }
        if release.counter > seen && is_signed(client, release, &trust).await? {
            counters.push(release.counter);
        }
    }
    Ok(highest(counters))
}

/// What says that it is signed by one of the authors, and no host has taken, by counter.
fn candidates<'a>(known: &'a [BundleInfo], trust: &Trust) -> Vec<&'a ReleaseRef> {
    let ids: Vec<String> = trust.keys().map(|key| key.id().to_string()).collect();
    let named =
        known.iter().filter(|bundle| !bundle.accepted && bundle.key_ids.iter().any(|id| ids.contains(id)));
    let mut releases: Vec<&ReleaseRef> = named.filter_map(|bundle| bundle.release.as_ref()).collect();
    releases.sort_by_key(|release| release.counter);
    releases
}

async fn is_signed(client: &Client, release: &ReleaseRef, trust: &Trust) -> Result<bool> {
    let request = GetBundleRequest { digest: release.digest.clone(), ..GetBundleRequest::default() };
    let subject = format!("cannot check who signed {} {}", release.app, release.version);
    let envelope = fetch_envelope(client, &subject, request).await?;
    Ok(envelope.verify(trust).is_ok_and(|verified| ReleaseRef::from(&verified.release_ref()) == *release))
}

fn decide(
    known: &[BundleInfo],
    seen: u64,
    version: &str,
    digest: impl Fn(u64) -> Result<String>,
) -> Result<u64> {
    // It never ends: `highest` comes near the end of the numbers after more jumps than anybody makes.
    let next = seen.saturating_add(1);
    let releases = known.iter().filter_map(|bundle| bundle.release.as_ref());
    let same: Vec<&ReleaseRef> = releases.filter(|release| release.version == version).collect();
    for release in same.iter().filter(|release| release.counter <= next) {
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
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(version: &str, digest: &str, counter: u64) -> BundleInfo {
        BundleInfo {
            release: Some(ReleaseRef {
                app: "web".into(),
                version: version.into(),
                digest: digest.into(),
                counter,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn an_equal_release_keeps_its_counter() {
        let digest = |counter: u64| Ok(format!("b3:{counter}"));
        let bundles = [known("1", "b3:4", 4), known("2", "b3:other", 7)];
        assert_eq!(decide(&bundles, 7, "1", digest).unwrap(), 4);
        assert_eq!(decide(&bundles, 7, "2", digest).unwrap_err().exit(), Exit::Conflict);
        assert_eq!(decide(&bundles, 7, "3", digest).unwrap(), 8);
        assert_eq!(decide(&[], 0, "1", digest).unwrap(), 1);
    }

    /// Somebody who knows what is to be released next pushes just that, under a counter near the end.
    #[test]
    fn an_equal_release_with_a_counter_that_nobody_answers_for_is_not_taken_over() {
        let digest = |counter: u64| Ok(format!("b3:{counter}"));
        let poison = u64::MAX - 2;
        let bundles = [known("1", "b3:4", 4), known("2", &format!("b3:{poison}"), poison)];
        assert_eq!(decide(&bundles, 4, "2", digest).unwrap_err().exit(), Exit::Conflict);
        assert_eq!(decide(&bundles, 4, "3", digest).unwrap(), 5);
    }

    #[test]
    fn only_what_names_an_author_and_is_not_taken_is_looked_at_lowest_first() {
        let author = windlass_proto::bundle::AuthorKey::generate().unwrap().public();
        let trust = Trust::new([author], 1).unwrap();
        let by = |bundle: BundleInfo, id: &str, accepted| BundleInfo {
            key_ids: vec![id.to_owned()],
            accepted,
            ..bundle
        };
        let own = trust.keys().next().unwrap().id().to_string();
        let bundles = [
            by(known("1", "b3:1", 1), &own, true),
            by(known("4", "b3:4", 9), &own, false),
            by(known("2", "b3:2", 2), "b3:foreign", false),
            by(known("3", "b3:3", 3), &own, false),
        ];
        let counters: Vec<u64> = candidates(&bundles, &trust).iter().map(|release| release.counter).collect();
        assert_eq!(counters, [3, 9]);
    }
}
