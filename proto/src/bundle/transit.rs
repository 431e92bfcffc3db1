//! An envelope as it travels to hosts: compressed, against the envelope of a release that the host already has if there
//! is one. A manifest is mostly digests; in base64 JSON it would be larger than the chunks of a small change.
//!
//! Form: `WLE1`; 32 bytes of the base manifest's digest, or zeros; u16 count of signatures, each 32 bytes of key id, u16
//! length and bytes; u32 length of the manifest; a zstd frame. Integers are little-endian.

use std::io;

use super::dsse::Signature;
use super::{Envelope, EnvelopeError, KeyId};
use crate::digest::Digest;
use crate::limits::{MANIFEST_BYTES, SIGNATURES};

const MAGIC: &[u8; 4] = b"WLE1";
const NO_BASE: Digest = Digest::from_bytes([0; 32]);
const LEVEL: i32 = 3;

/// Whether bytes are the travelling form; an older coordinator sends the JSON.
pub fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl Envelope {
    /// The envelope's travelling form. With `base` it can be opened only by who has that envelope.
    pub fn pack(&self, base: Option<&Self>) -> io::Result<Vec<u8>> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(base.map_or(NO_BASE, Self::digest).as_bytes());
        bytes.extend(short(self.signatures().len())?);
        for Signature { key, sig } in self.signatures() {
            bytes.extend(key.0.as_bytes());
            bytes.extend(short(sig.len())?);
            bytes.extend(sig);
        }
        let length = u32::try_from(self.payload().len()).map_err(io::Error::other)?;
        bytes.extend(length.to_le_bytes());
        let dictionary = base.map_or(&[][..], Self::payload);
        bytes.extend(zstd::bulk::Compressor::with_dictionary(LEVEL, dictionary)?.compress(self.payload())?);
        Ok(bytes)
    }

    /// Opens a travelling form. `base` is what the host offered when it asked; it is used only if it was.
    pub fn unpack(bytes: &[u8], base: Option<&Self>) -> Result<Self, EnvelopeError> {
        let mut rest = bytes;
        if take::<4>(&mut rest)? != *MAGIC {
            return Err(EnvelopeError::Transit("it does not begin with WLE1"));
        }
        let named = Digest::from_bytes(take(&mut rest)?);
        let dictionary = match (named == NO_BASE, base) {
            (true, _) => &[][..],
            (false, Some(base)) if base.digest() == named => base.payload(),
            _ => return Err(EnvelopeError::Transit("it builds on a release that was not offered")),
        };
        let count = usize::from(u16::from_le_bytes(take(&mut rest)?));
        if count > SIGNATURES {
            return Err(EnvelopeError::TooManySignatures(count));
        }
        let mut signatures = Vec::with_capacity(count);
        for _ in 0..count {
            let key = KeyId(Digest::from_bytes(take(&mut rest)?));
            let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
            let (sig, after) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
            signatures.push(Signature { key, sig: sig.to_vec() });
            rest = after;
        }
        let length = u32::from_le_bytes(take(&mut rest)?) as usize;
        if length > MANIFEST_BYTES {
            return Err(EnvelopeError::TooLarge { bytes: length, most: MANIFEST_BYTES });
        }
        let payload = zstd::bulk::Decompressor::with_dictionary(dictionary)
            .and_then(|mut decompressor| decompressor.decompress(rest, length))
            .map_err(EnvelopeError::Decompress)?;
        if payload.len() != length {
            return Err(TRUNCATED);
        }
        Ok(Self::from_parts(payload, signatures))
    }
}

const TRUNCATED: EnvelopeError = EnvelopeError::Transit("it is truncated");

fn short(length: usize) -> io::Result<[u8; 2]> {
    u16::try_from(length).map(u16::to_le_bytes).map_err(io::Error::other)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], EnvelopeError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(TRUNCATED)?;
    *rest = tail;
    Ok(*head)
}
