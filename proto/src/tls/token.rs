//! Join tokens: what a new host is given, once.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::TlsError;
use crate::digest::Digest;

/// A single-use token: `wl1.<token-id>.<secret>.<hex BLAKE3 of the agent CA>`. Its `Display` shows the secret, for the
/// one time it is handed over; its `Debug` never does.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: String,
    secret: [u8; 24],
    pin: Digest,
}

/// A text that is not a join token. The text itself is not repeated: it may be nearly one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: {0}; get one with `windlass token create`")]
pub struct InvalidJoinToken(&'static str);

impl JoinToken {
    /// Makes a token for the CA with the digest `pin`.
    pub fn generate(pin: Digest) -> Result<Self, TlsError> {
        let mut random = [0; 28];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| TlsError::Random)?;
        let id = random[24..].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut secret = [0; 24];
        secret.copy_from_slice(&random[..24]);
        Ok(Self { id, secret, pin })
    }

    /// The public part, by which operators name the token.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The digest of the CA to trust.
    pub const fn pin(&self) -> Digest {
        self.pin
    }

    /// What the coordinator keeps instead of the secret. The secret has 192 random bits, so a plain hash suffices and
    /// comparing it leaks nothing of use.
    pub fn secret_digest(&self) -> Digest {
        Digest::of(&self.secret)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wl1.{}.{}.{}", self.id, URL_SAFE_NO_PAD.encode(self.secret), self.pin.hex())
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = InvalidJoinToken;
    fn from_str(text: &str) -> Result<Self, InvalidJoinToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let &[version, id, secret, pin] = parts.as_slice() else {
            return Err(InvalidJoinToken("it does not have four parts"));
        };
        if version != "wl1" {
            return Err(InvalidJoinToken("it does not begin with wl1"));
        }
        if id.is_empty() || id.len() > 32 || !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            return Err(InvalidJoinToken("its id is malformed"));
        }
        let secret = URL_SAFE_NO_PAD.decode(secret).ok().and_then(|bytes| bytes.try_into().ok());
        let secret = secret.ok_or(InvalidJoinToken("its secret is malformed"))?;
        let pin = format!("b3:{pin}").parse().map_err(|_| InvalidJoinToken("its CA digest is malformed"))?;
        Ok(Self { id: id.to_owned(), secret, pin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_round_trips_and_hides_its_secret() {
        let token = JoinToken::generate(Digest::from_bytes([7; 32])).unwrap();
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!("{text}\n").parse(), Ok(token.clone()));
        let secret = text.split('.').nth(2).unwrap();
        assert!(!format!("{token:?}").contains(secret));
    }

    #[test]
    fn malformed_tokens_are_refused_without_repeating_them() {
        let good = JoinToken::generate(Digest::from_bytes([7; 32])).unwrap().to_string();
        for bad in ["", "wl1", "wl2.a.b.c", &good[..good.len() - 1], &good.replace("wl1.", "wl1.A-")] {
            let error = bad.parse::<JoinToken>().unwrap_err().to_string();
            assert!(bad.len() < 8 || !error.contains(bad), "{error}");
        }
    }
}
