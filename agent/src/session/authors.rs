//! Grants that come with orders: whether enough of this host's authors signed one is seen before anybody looks at what it says.

use std::sync::Arc;

use windlass_proto::bundle::{Signed, Trust};
use windlass_proto::grant::{Grant, Presented};
use windlass_proto::id::FleetName;
use windlass_proto::tls::SteadyTime;

use super::in_words;

/// Whom this host believes in one session.
#[derive(Debug, Clone)]
pub struct Authors {
    /// The pinned author keys.
    pub trust: Arc<Trust>,
    /// This host's fleet, by its certificate.
    pub fleet: FleetName,
    /// What grants end by, as certificates do.
    pub time: Arc<SteadyTime>,
}

impl Authors {
    /// A grant as it came with an order; `None` where none came.
    pub fn present(&self, envelope: &[u8]) -> Option<Presented> {
        if envelope.is_empty() {
            return None;
        }
        let believed = Signed::<Grant>::decode(envelope).map_err(|error| in_words(&error));
        let grant = believed.and_then(|signed| match signed.verify(&self.trust) {
            Ok(verified) => Ok(verified.into_statement()),
            Err(untrusted) => Err(in_words(&untrusted)),
        });
        Some(Presented { fleet: self.fleet.clone(), at: self.time.now(), grant })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use windlass_proto::bundle::{AuthorKey, Entry, EntryKind, EntryPath, Envelope, Manifest};
    use windlass_proto::digest::Digest;
    use windlass_proto::grant::GRANT_FORMAT;
    use windlass_proto::id::AppName;
    use windlass_proto::time::Timestamp;

    use super::*;

    pub(crate) fn authors(keys: &[&AuthorKey], threshold: usize) -> Authors {
        let trust = Trust::new(keys.iter().map(|key| key.public()), threshold).unwrap();
        let time = SteadyTime::new(|| 0, || Timestamp(77));
        Authors { trust: Arc::new(trust), fleet: FleetName::new("prod").unwrap(), time: Arc::new(time) }
    }

    pub(crate) fn signed(keys: &[&AuthorKey]) -> (Grant, Signed<Grant>) {
        let grant = Grant {
            format: GRANT_FORMAT,
            fleet: FleetName::new("prod").unwrap(),
            app: AppName::new("shop").unwrap(),
            digest: Digest::of(b"1"),
            up_to: 3,
            until: Timestamp(99),
        };
        let mut signed = Signed::new(&grant);
        keys.iter().for_each(|key| signed.sign(key));
        (grant, signed)
    }

    #[test]
    fn a_grant_counts_when_enough_of_the_hosts_authors_signed_it() {
        let (ana, ben, eve) =
            (AuthorKey::generate().unwrap(), AuthorKey::generate().unwrap(), AuthorKey::generate().unwrap());
        let one = authors(&[&ana], 1);
        assert_eq!(one.present(b""), None);
        let said = |authors: &Authors, keys: &[&AuthorKey]| {
            let presented = authors.present(&signed(keys).1.encode()).unwrap();
            assert_eq!((presented.fleet.as_str(), presented.at), ("prod", Timestamp(77)));
            presented.grant
        };
        let (grant, _) = signed(&[]);
        assert_eq!(said(&one, &[&ana]), Ok(grant.clone()));
        assert_eq!(said(&one, &[&eve, &ana]), Ok(grant.clone()));
        let two = authors(&[&ana, &ben], 2);
        assert_eq!(said(&two, &[&ana, &ben]), Ok(grant));
        let refused = |authors, keys: &[&AuthorKey], why: &str| {
            let said = said(authors, keys).unwrap_err();
            assert!(said.contains(why), "{said}");
        };
        refused(&one, &[], "it is not signed");
        refused(&one, &[&eve], "no trusted author key");
        refused(&two, &[&ana, &eve], "1 of 2 needed signatures");
    }

    /// The same keys sign manifests and grants: neither passes as the other, whatever its envelope is made to say.
    #[test]
    fn a_grant_is_no_manifest_and_a_manifest_is_no_grant() {
        let ana = AuthorKey::generate().unwrap();
        let one = authors(&[&ana], 1);
        let entry = Entry { path: EntryPath::new("empty").unwrap(), kind: EntryKind::Directory {} };
        let mut manifest = Envelope::new(&Manifest {
            format: 1,
            app: AppName::new("shop").unwrap(),
            version: "1".parse().unwrap(),
            counter: 1,
            release: serde_json::from_str(r#"{"runtime":{"kind":"static"}}"#).unwrap(),
            entries: vec![entry],
        });
        manifest.sign(&ana);
        let (manifest, grant) = (manifest.encode(), signed(&[&ana]).1.encode());
        let why = |bytes: &[u8]| one.present(bytes).unwrap().grant.unwrap_err();
        assert!(why(&manifest).contains("not a windlass grant"), "{}", why(&manifest));
        assert!(why(b"{").contains("malformed envelope"));
        assert!(why(&vec![b' '; windlass_proto::limits::GRANT_BYTES + 1]).contains("at most"));
        let error = Envelope::decode(&grant).unwrap_err();
        assert!(error.to_string().contains("not a windlass manifest"), "{error}");
        // Under another type the signature is one on other bytes.
        let named = |bytes: &[u8], from: &str, to: &str| {
            String::from_utf8(bytes.to_vec()).unwrap().replace(from, to).into_bytes()
        };
        let disguised = named(&manifest, "manifest.v1", "grant.v1");
        assert!(why(&disguised).contains("does not match what it is on"), "{}", why(&disguised));
        let disguised = Envelope::decode(&named(&grant, "grant.v1", "manifest.v1")).unwrap();
        let error = disguised.verify(&one.trust).unwrap_err();
        assert!(error.to_string().contains("does not match what it is on"), "{error}");
    }
}
