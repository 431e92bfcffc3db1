//! The fleet's development author: a key pair made once.

use super::place::Place;
use crate::error::{ExpectedError, Result};

/// The author's public key as hosts' policies name it.
pub(super) fn load_or_make(place: &Place) -> Result<String> {
    Err(ExpectedError::failed(format!("no author key in {}", place.author_key().display())))
}
