//! The signed envelope (DSSE) and the only door from bytes to a manifest that may be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{AuthorKey, AuthorPublicKey, KeyId, Manifest, ManifestError};
use crate::digest::Digest;
use crate::limits::{ENVELOPE_BYTES, SIGNATURES};
use crate::release::ReleaseRef;

/// The type of the payload; part of what is signed.
pub const PAYLOAD_TYPE: &str = "application/vnd.windlass.manifest.v1+json";

/// Bytes that are not an envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Larger than any envelope may be.
    #[error("the envelope has {0} bytes, at most {ENVELOPE_BYTES} are read")]
    TooLarge(usize),
    /// Not JSON of an envelope, or truncated, or with trailing bytes.
    #[error("malformed envelope")]
    Malformed(#[source] serde_json::Error),
    /// An envelope of something else.
    #[error("the envelope holds {0:?}, not a windlass manifest")]
    PayloadType(String),
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
    #[error("the bundle is not signed")]
    Unsigned,
    /// Signed, but by no pinned key.
    #[error("the bundle is signed by {}, which is no trusted author key", KeyList(.signed_by))]
    UnknownKeys {
        /// The keys that signed it, as it says.
        signed_by: Vec<KeyId>,
    },
    /// Some signatures of pinned keys, but not enough.
    #[error("the bundle has {} of {needed} needed signatures of trusted author keys ({})", .valid.len(), KeyList(.valid))]
    TooFew {
        /// The pinned keys that signed it.
        valid: Vec<KeyId>,
        /// How many are needed.
        needed: usize,
    },
    /// A pinned key's signature that is not over this manifest.
    #[error("the signature of author key {} does not match the manifest", .key.short())]
    BadSignature {
        /// The key.
        key: KeyId,
    },
    /// Rightly signed bytes that are not a right manifest.
    #[error("the signed manifest is refused")]
    Manifest(#[from] ManifestError),
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
}

/// A signed manifest as it came: nothing in it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<Signature>,
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

impl Envelope {
    /// An unsigned envelope of a manifest; `build` checked it.
    pub fn new(manifest: &Manifest) -> Self {
        Self { payload: manifest.encode(), signatures: Vec::new() }
    }

    /// Adds `key`'s signature; replaces an earlier one of the same key.
    pub fn sign(&mut self, key: &AuthorKey) {
        let id = key.id();
        self.signatures.retain(|signature| signature.key != id);
        self.signatures.push(Signature { key: id, sig: key.sign(&pre_authentication(&self.payload)) });
        // In order of key, so that the same keys make the same bytes.
        self.signatures.sort();
    }

    /// Reads an envelope's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge(bytes.len()));
        }
        let wire: WireEnvelope = serde_json::from_slice(bytes).map_err(EnvelopeError::Malformed)?;
        if wire.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType(wire.payload_type.chars().take(80).collect()));
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
        Ok(Self { payload, signatures })
    }

    /// The envelope's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let signature = |signature: &Signature| WireSignature {
            keyid: signature.key,
            sig: STANDARD.encode(&signature.sig),
        };
        let wire = WireEnvelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(&self.payload),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        // Writing plain structs to memory cannot fail.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    pub(super) const fn from_parts(payload: Vec<u8>, signatures: Vec<Signature>) -> Self {
        Self { payload, signatures }
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The digest of the manifest inside: the release's identity if the envelope is believed.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The keys that signed, as the envelope says; not checked.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.signatures.iter().map(|signature| signature.key).collect()
    }

    /// The manifest inside, well-formed but not believed: for storing and showing, never for running.
    pub fn unverified_manifest(&self) -> Result<Manifest, ManifestError> {
        Manifest::decode(&self.payload)
    }

    /// Believes the manifest when enough pinned keys signed exactly these bytes. Signatures are checked before a byte of
    /// the manifest is parsed; unknown keys' signatures are passed over, a wrong one of a pinned key is not.
    pub fn verify(&self, trust: &Trust) -> Result<Verified, Untrusted> {
        if self.signatures.is_empty() {
            return Err(Untrusted::Unsigned);
        }
        let message = pre_authentication(&self.payload);
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
        let manifest = Manifest::decode(&self.payload)?;
        Ok(Verified { manifest, digest: self.digest(), signers })
    }
}

/// A manifest that enough pinned author keys signed. There is no other way to make one than [`Envelope::verify`].
#[derive(Debug, Clone)]
pub struct Verified {
    manifest: Manifest,
    digest: Digest,
    signers: Vec<KeyId>,
}

impl Verified {
    /// The manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The release's digest.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The pinned keys that signed it.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// What names the release.
    pub fn release_ref(&self) -> ReleaseRef {
        ReleaseRef {
            app: self.manifest.app.clone(),
            version: self.manifest.version.clone(),
            digest: self.digest,
            counter: self.manifest.counter,
        }
    }
}

/// DSSE's pre-authentication encoding: type and payload, each with its length before it.
fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    let mut message = Vec::with_capacity(head.len() + payload.len());
    message.extend_from_slice(head.as_bytes());
    message.extend_from_slice(payload);
    message
}
