//! Wire types ↔ domain types. To the wire nothing can fail; from it every field is checked, and the error names it.

mod fence;
mod refused;
mod release;
mod status;
mod words;

use std::fmt;

pub use status::{phase_times_from_wire, phase_times_to_wire};

/// A message from the wire with a field that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {reason}")]
pub struct InvalidField {
    /// Path of the field, as in `target.digest`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl InvalidField {
    /// An error at `field`.
    pub fn new(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { field: field.into(), reason: reason.to_string() }
    }

    /// The same error, seen from the message around.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), ..self }
    }
}

impl From<InvalidField> for tonic::Status {
    fn from(error: InvalidField) -> Self {
        super::ErrorKind::Invalid.status(error.to_string())
    }
}

fn parsed<T: std::str::FromStr<Err: fmt::Display>>(field: &str, text: &str) -> Result<T, InvalidField> {
    text.parse().map_err(|error| InvalidField::new(field, error))
}

/// An empty text is how the wire says "none".
fn optional<T: std::str::FromStr<Err: fmt::Display>>(
    field: &str,
    text: &str,
) -> Result<Option<T>, InvalidField> {
    if text.is_empty() { Ok(None) } else { parsed(field, text).map(Some) }
}
