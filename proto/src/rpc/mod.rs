//! gRPC: the generated code, conversions to and from the domain's types, and kinds of errors.
//!
//! * [`audit`]: the chain of the audit log.
//! * [`convert`]: wire types ↔ domain types; what comes from the wire is checked there, field by field.
//! * [`status`]: one enum of error kinds ↔ `tonic::Status`, so that nobody matches message texts.

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
mod generated {
    include!("../gen/windlass.v1.rs");
}

/// `shown::Texts` for all that operators are answered, by the schema, so that no text of a new field is forgotten.
mod texts {
    include!("../gen/texts.rs");
}

pub mod audit;
pub mod convert;
pub mod status;

pub use convert::InvalidField;
pub use generated::*;
pub use status::ErrorKind;

/// The compiled schema, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("../gen/descriptors.bin");
