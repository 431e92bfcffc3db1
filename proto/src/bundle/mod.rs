//! Bundles: a signed manifest and the content-addressed chunks it names.
//!
//! [`manifest`] is pure data. With feature `bundle`: chunking, signatures, the bundle file, and the only door from
//! bytes to a manifest that may be believed.

pub mod entry_path;
pub mod manifest;

pub use entry_path::EntryPath;
pub use manifest::{Chunk, Entry, EntryKind, Manifest};
