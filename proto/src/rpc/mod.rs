//! The generated gRPC code.

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
mod generated {
    include!("../gen/windlass.v1.rs");
}

pub use generated::*;

/// The compiled schema, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("../gen/descriptors.bin");
