//! The fleet's development author: a key pair made once.

use windlass_proto::bundle::AuthorKey;

use super::place::Place;
use crate::error::{ExpectedError, Result};

/// The author's public key, as hosts' policies name it; the private one is made where there is none.
pub(super) fn load_or_make(place: &Place) -> Result<String> {
    let path = place.author_key();
    let failed = |what: &str, error: &dyn std::error::Error| {
        ExpectedError::failed(format!("cannot {what} the author's key {}", path.display()))
            .cause(error.to_string())
    };
    match std::fs::read_to_string(&path) {
        Ok(pem) => {
            AuthorKey::from_pem(&pem).map(|key| key.public().to_string()).map_err(|e| failed("read", &e))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = AuthorKey::generate().map_err(|e| failed("make", &e))?;
            let pem = key.to_pem().map_err(|e| failed("make", &e))?;
            crate::files::write_atomic(&path, pem.as_bytes(), 0o600).map_err(|e| failed("write", &e))?;
            Ok(key.public().to_string())
        }
        Err(error) => Err(failed("read", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path()).unwrap();
        place.prepare().unwrap();
        let public = load_or_make(&place).unwrap();
        assert!(public.starts_with("ed25519:"), "{public}");
        assert_eq!(load_or_make(&place).unwrap(), public);
        std::fs::write(place.author_key(), "garbage").unwrap();
        assert!(load_or_make(&place).is_err());
    }
}
