//! Grants as authors make them: what the coordinator says is needed, signed with the keys at hand, and what is lacking then.

use std::collections::BTreeSet;

use windlass_proto::bundle::{AuthorKey, AuthorPublicKey, KeyId, Signed};
use windlass_proto::grant::{GRANT_FORMAT, Grant};
use windlass_proto::rpc::{GrantTerms, ReleaseRef};
use windlass_proto::time::{Span, Timestamp};

use crate::error::{ExpectedError, Result};
use crate::output::text;

/// How long a grant is good where nobody says otherwise: hosts that were away for a night follow.
pub const LASTS: Span = Span::secs(24 * 3600);

/// A grant, signed or yet to be, with the release that it is for.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The release.
    pub release: ReleaseRef,
    /// What it says.
    pub grant: Grant,
    /// The same with its signatures.
    pub signed: Signed<Grant>,
}

impl Draft {
    /// A grant by these terms, without a signature. `up_to`: instead of the highest counter that any host has seen.
    pub fn new(terms: &GrantTerms, up_to: Option<u64>, until: Timestamp) -> Result<Self> {
        let release = terms.release.clone().unwrap_or_default();
        let wrong = |what: &str, error: &dyn std::fmt::Display| {
            ExpectedError::failed(format!("the coordinator's terms of the grant name no right {what}"))
                .cause(error.to_string())
        };
        let grant = Grant {
            format: GRANT_FORMAT,
            fleet: terms.fleet.parse().map_err(|error| wrong("fleet", &error))?,
            app: release.app.parse().map_err(|error| wrong("app", &error))?,
            digest: release.digest.parse().map_err(|error| wrong("digest", &error))?,
            up_to: up_to.unwrap_or(terms.up_to),
            until,
        };
        Ok(Self { release, signed: Signed::new(&grant), grant })
    }

    /// Signs with these keys.
    pub fn sign<'a>(&mut self, keys: impl IntoIterator<Item = &'a AuthorKey>) {
        keys.into_iter().for_each(|key| self.signed.sign(key));
    }

    /// For people: what is granted.
    pub fn describe(&self) -> String {
        let Self { release, grant, .. } = self;
        let until = text::rfc3339(grant.until.0).unwrap_or_default();
        format!(
            "{} {} on hosts that have seen counters up to {}, until {until}",
            grant.app, release.version, grant.up_to
        )
    }
}

/// The ids of keys that a host believes; one that does not parse believes nobody.
pub fn ids(keys: &[String]) -> BTreeSet<KeyId> {
    keys.iter().filter_map(|key| key.parse::<AuthorPublicKey>().ok()).map(|key| key.id()).collect()
}

/// What is lacking to signatures of these keys: one line for each group of hosts that would not believe them.
pub fn lacking(terms: &GrantTerms, signers: &[KeyId]) -> Vec<String> {
    let short = |authors: &windlass_proto::rpc::Authors| {
        let wanted = ids(&authors.keys);
        let have = signers.iter().filter(|key| wanted.contains(key)).count();
        let needed = authors.threshold as usize;
        let open: Vec<&str> = authors
            .keys
            .iter()
            .filter(|key| key.parse::<AuthorPublicKey>().is_ok_and(|key| !signers.contains(&key.id())))
            .map(String::as_str)
            .collect();
        (have < needed).then(|| {
            let more = text::count(needed - have, "signature");
            format!("it has {have} of {needed} needed signatures; {more} more of {}", open.join(", "))
        })
    };
    terms.authors.iter().filter_map(short).collect()
}

#[cfg(test)]
mod tests {
    use windlass_proto::rpc::Authors;

    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        let (ana, ben) = (AuthorKey::generate().unwrap(), AuthorKey::generate().unwrap());
        let keys = vec![ana.public().to_string(), ben.public().to_string()];
        let release = ReleaseRef {
            app: "rb".into(),
            version: "1.1.0".into(),
            digest: windlass_proto::digest::Digest::of(b"x").to_string(),
            counter: 2,
        };
        let terms = GrantTerms {
            fleet: "prod".into(),
            release: Some(release),
            up_to: 3,
            hosts: vec!["host-3".into()],
            authors: vec![Authors { keys: keys.clone(), threshold: 2 }],
        };
        let mut draft = Draft::new(&terms, None, Timestamp(1_000)).unwrap();
        assert_eq!(
            draft.describe(),
            "rb 1.1.0 on hosts that have seen counters up to 3, until 1970-01-01T00:00:01.000Z"
        );
        let said = lacking(&terms, &[]);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("it has 0 of 2 needed signatures; 2 signatures more of ed25519:"),
            "{said:?}"
        );
        draft.sign([&ana]);
        let said = lacking(&terms, &draft.signed.key_ids());
        assert_eq!(said, [format!("it has 1 of 2 needed signatures; 1 signature more of {}", keys[1])]);
        draft.sign([&ben]);
        assert!(lacking(&terms, &draft.signed.key_ids()).is_empty());
        assert!(Draft::new(&GrantTerms { fleet: "no fleet".into(), ..terms }, None, Timestamp(1)).is_err());
    }
}
