//! The signed envelope (DSSE) and the only door from bytes to a statement of authors that may be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{AuthorKey, AuthorPublicKey, KeyId, Manifest, ManifestError};
use crate::digest::Digest;
use crate::grant::{Grant, GrantError};
use crate::limits::{ENVELOPE_BYTES, GRANT_BYTES, SIGNATURES};
use crate::release::ReleaseRef;

/// What authors sign. Each kind has a payload type of its own, which is part of what is signed: a signature on one can never
/// pass as one on another.
pub trait Statement: Sized {
    /// The payload's type.
    const PAYLOAD_TYPE: &'static str;
    /// What people call it.
    const NAME: &'static str;
    /// Largest envelope of one, in bytes.
    const ENVELOPE_BYTES: usize;
    /// Why bytes are none.
    type Error: Into<Untrusted>;

    /// Its one spelling.
    fn encode(&self) -> Vec<u8>;
    /// Reads that spelling; what it returns is well-formed, not trusted.
    fn decode(bytes: &[u8]) -> Result<Self, Self::Error>;
}

impl Statement for Manifest {
    const PAYLOAD_TYPE: &'static str = "application/vnd.windlass.manifest.v1+json";
    const NAME: &'static str = "manifest";
    const ENVELOPE_BYTES: usize = ENVELOPE_BYTES;
    type Error = ManifestError;

    fn encode(&self) -> Vec<u8> {
        Self::encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::decode(bytes)
    }
}

impl Statement for Grant {
    const PAYLOAD_TYPE: &'static str = "application/vnd.windlass.grant.v1+json";
    const NAME: &'static str = "grant";
    const ENVELOPE_BYTES: usize = GRANT_BYTES;
    type Error = GrantError;

    fn encode(&self) -> Vec<u8> {
        Self::encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, GrantError> {
        Self::decode(bytes)
    }
}

/// Bytes that are not an envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Larger than any envelope may be.
    #[error("the envelope has {bytes} bytes, at most {most} are read")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many are read.
        most: usize,
    },
    /// Not JSON of an envelope, or truncated, or with trailing bytes.
    #[error("malformed envelope")]
    Malformed(#[source] serde_json::Error),
    /// An envelope of something else.
    #[error("the envelope holds {found:?}, not a windlass {wanted}")]
    PayloadType {
        /// What it says.
        found: String,
        /// What is read.
        wanted: &'static str,
    },
    /// The payload or a signature is not base64.
    #[error("the envelope's {0} is not base64")]
    Base64(&'static str),
    /// More signatures than anybody needs.
    #[error("the envelope has {0} signatures, at most {SIGNATURES} are read")]
    TooManySignatures(usize),
    /// Not the form in which envelopes travel to hosts.
    #[error("the envelope did not arrive whole: {0}")]
    Transit(&'static str),
    /// Damaged on the way.
    #[error("the envelope did not arrive whole: it cannot be decompressed")]
    Decompress(#[source] std::io::Error),
}

/// Why an envelope is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// No signature at all.
    #[error("it is not signed")]
    Unsigned,
    /// Signed, but by no pinned key.
    #[error("it is signed by {}, which is no trusted author key", KeyList(.signed_by))]
    UnknownKeys {
        /// The keys that signed it, as it says.
        signed_by: Vec<KeyId>,
    },
    /// Some signatures of pinned keys, but not enough.
    #[error("it has {} of {needed} needed signatures of trusted author keys ({})", .valid.len(), KeyList(.valid))]
    TooFew {
        /// The pinned keys that signed it.
        valid: Vec<KeyId>,
        /// How many are needed.
        needed: usize,
    },
    /// A pinned key's signature that is not over these bytes.
    #[error("the signature of author key {} does not match what it is on", .key.short())]
    BadSignature {
        /// The key.
        key: KeyId,
    },
    /// Rightly signed bytes that are not a right manifest.
    #[error("the signed manifest is refused")]
    Manifest(#[from] ManifestError),
    /// Rightly signed bytes that are not a right grant.
    #[error("the signed grant is refused")]
    Grant(#[from] GrantError),
}

struct KeyList<'a>(&'a [KeyId]);

impl fmt::Display for KeyList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, key) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, key.short())?;
        }
        Ok(())
    }
}

/// Whose signatures count, and how many are needed.
#[derive(Debug, Clone)]
pub struct Trust {
    keys: BTreeMap<KeyId, AuthorPublicKey>,
    threshold: usize,
}

/// A threshold that no or every bundle would meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a threshold of {threshold} signatures is impossible with {keys} distinct author keys; use 1 to {keys}"
)]
pub struct InvalidThreshold {
    threshold: usize,
    keys: usize,
}

impl Trust {
    /// Trust in `threshold` of `keys`; a key given twice is one key.
    pub fn new(
        keys: impl IntoIterator<Item = AuthorPublicKey>,
        threshold: usize,
    ) -> Result<Self, InvalidThreshold> {
        let keys: BTreeMap<_, _> = keys.into_iter().map(|key| (key.id(), key)).collect();
        if threshold == 0 || threshold > keys.len() {
            return Err(InvalidThreshold { threshold, keys: keys.len() });
        }
        Ok(Self { keys, threshold })
    }

    /// The pinned keys.
    pub fn keys(&self) -> impl Iterator<Item = &AuthorPublicKey> {
        self.keys.values()
    }

    /// How many of them have to sign.
    pub const fn threshold(&self) -> usize {
        self.threshold
    }
}

/// A signed manifest.
pub type Envelope = Signed<Manifest>;

/// A statement and its signatures as they came: nothing in it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<S> {
    payload: Vec<u8>,
    signatures: Vec<Signature>,
    kind: PhantomData<fn() -> S>,
}

/// A signature and the key that is said to have made it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Signature {
    pub(super) key: KeyId,
    pub(super) sig: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEnvelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: KeyId,
    sig: String,
}

impl<S: Statement> Signed<S> {
    /// An unsigned envelope of a statement; who made that checked it.
    pub fn new(statement: &S) -> Self {
        Self::from_parts(statement.encode(), Vec::new())
    }

    /// Adds `key`'s signature; replaces an earlier one of the same key.
    pub fn sign(&mut self, key: &AuthorKey) {
        let id = key.id();
        self.signatures.retain(|signature| signature.key != id);
        self.signatures.push(Signature { key: id, sig: key.sign(&self.message()) });
        // In order of key, so that the same keys make the same bytes.
        self.signatures.sort();
    }

    /// Reads an envelope's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > S::ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge { bytes: bytes.len(), most: S::ENVELOPE_BYTES });
        }
        let wire: WireEnvelope = serde_json::from_slice(bytes).map_err(EnvelopeError::Malformed)?;
        if wire.payload_type != S::PAYLOAD_TYPE {
            let found = wire.payload_type.chars().take(80).collect();
            return Err(EnvelopeError::PayloadType { found, wanted: S::NAME });
        }
        if wire.signatures.len() > SIGNATURES {
            return Err(EnvelopeError::TooManySignatures(wire.signatures.len()));
        }
        let payload = STANDARD.decode(&wire.payload).map_err(|_| EnvelopeError::Base64("payload"))?;
        let signature = |wire: WireSignature| match STANDARD.decode(&wire.sig) {
            Ok(sig) => Ok(Signature { key: wire.keyid, sig }),
            Err(_) => Err(EnvelopeError::Base64("signature")),
        };
        let signatures = wire.signatures.into_iter().map(signature).collect::<Result<_, _>>()?;
        Ok(Self::from_parts(payload, signatures))
    }

    /// The envelope's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let signature = |signature: &Signature| WireSignature {
            keyid: signature.key,
            sig: STANDARD.encode(&signature.sig),
        };
        let wire = WireEnvelope {
            payload_type: S::PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(&self.payload),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        #[expect(
            clippy::expect_used,
            reason = "writing plain structs, string-keyed maps and numbers to memory cannot fail"
        )]
        serde_json::to_vec(&wire).expect("plain data encodes")
    }

    pub(super) const fn from_parts(payload: Vec<u8>, signatures: Vec<Signature>) -> Self {
        Self { payload, signatures, kind: PhantomData }
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The digest of the statement inside: of a manifest, the release's identity if the envelope is believed.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The keys that signed, as the envelope says; not checked.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.signatures.iter().map(|signature| signature.key).collect()
    }

    /// The statement inside, well-formed but not believed: for storing and showing, never for acting on.
    pub fn unverified(&self) -> Result<S, S::Error> {
        S::decode(&self.payload)
    }

    /// Believes the statement when enough pinned keys signed exactly these bytes. Signatures are checked before a byte of
    /// it is parsed; unknown keys' signatures are passed over, a wrong one of a pinned key is not.
    pub fn verify(&self, trust: &Trust) -> Result<Verified<S>, Untrusted> {
        if self.signatures.is_empty() {
            return Err(Untrusted::Unsigned);
        }
        let message = self.message();
        let mut valid = BTreeSet::new();
        for Signature { key: id, sig } in &self.signatures {
            let Some(key) = trust.keys.get(id) else { continue };
            if !key.verifies(&message, sig) {
                return Err(Untrusted::BadSignature { key: *id });
            }
            valid.insert(*id);
        }
        let signers: Vec<KeyId> = valid.into_iter().collect();
        if signers.is_empty() {
            let signed_by: BTreeSet<KeyId> = self.key_ids().into_iter().collect();
            return Err(Untrusted::UnknownKeys { signed_by: signed_by.into_iter().collect() });
        }
        if signers.len() < trust.threshold {
            return Err(Untrusted::TooFew { valid: signers, needed: trust.threshold });
        }
        let statement = S::decode(&self.payload).map_err(Into::into)?;
        Ok(Verified { statement, digest: self.digest(), signers })
    }

    /// DSSE's pre-authentication encoding: type and payload, each with its length before it.
    fn message(&self) -> Vec<u8> {
        let (kind, payload) = (S::PAYLOAD_TYPE, &self.payload);
        let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
        message.extend_from_slice(payload);
        message
    }
}

impl Envelope {
    /// The manifest inside, see [`Signed::unverified`].
    pub fn unverified_manifest(&self) -> Result<Manifest, ManifestError> {
        self.unverified()
    }
}

/// A statement that enough pinned author keys signed. There is no other way to make one than [`Signed::verify`].
#[derive(Debug, Clone)]
pub struct Verified<S = Manifest> {
    statement: S,
    digest: Digest,
    signers: Vec<KeyId>,
}

impl<S> Verified<S> {
    /// What they signed.
    pub fn into_statement(self) -> S {
        self.statement
    }

    /// Its digest: of a manifest, the release's.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The pinned keys that signed it.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }
}

impl Verified {
    /// The manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.statement
    }

    /// What names the release.
    pub fn release_ref(&self) -> ReleaseRef {
        ReleaseRef {
            app: self.statement.app.clone(),
            version: self.statement.version.clone(),
            digest: self.digest,
            counter: self.statement.counter,
        }
    }
}
