//! Bundles: a signed manifest and the content-addressed chunks it names.
//!
//! * [`manifest`], [`entry_path`]: the manifest as data. [`canonical`]: its one byte form and the rules it keeps.
//!   [`difference`]: what one changes over another.
//!
//! With feature `bundle`:
//! * [`keys`]: author keys. [`dsse`]: the signed envelope, and the only door from bytes to a manifest that may be
//!   believed: [`Signed::verify`]. [`transit`]: the envelope on its way to hosts. [`proposal`]: a manifest alone, on
//!   its way to be planned with.
//! * [`chunk`]: cutting, compressing and opening chunks.
//! * [`tree`]: a directory on disk as entries and chunks, with [`walk`] and [`ignore`].
//! * [`mod@file`]: the `.wlb` file. [`source`]: where chunks come from, and compressing many on all cores.

pub mod canonical;
pub mod difference;
pub mod entry_path;
pub mod manifest;
mod secret;

#[cfg(feature = "bundle")]
pub mod chunk;
#[cfg(feature = "bundle")]
pub mod dsse;
#[cfg(feature = "bundle")]
pub mod file;
#[cfg(feature = "bundle")]
pub mod ignore;
#[cfg(feature = "bundle")]
pub mod keys;
#[cfg(feature = "bundle")]
pub mod proposal;
#[cfg(feature = "bundle")]
pub mod source;
#[cfg(feature = "bundle")]
pub mod transit;
#[cfg(feature = "bundle")]
pub mod tree;
#[cfg(feature = "bundle")]
pub mod walk;

pub use canonical::ManifestError;
pub use difference::Difference;
pub use entry_path::EntryPath;
pub use manifest::{Chunk, Entry, EntryKind, Manifest};

#[cfg(feature = "bundle")]
pub use chunk::{ChunkError, Chunker, Compressor, Decompressor};
#[cfg(feature = "bundle")]
pub use dsse::{Envelope, EnvelopeError, Signed, Statement, Trust, Untrusted, Verified};
#[cfg(feature = "bundle")]
pub use file::{BundleFile, BundleFileError, write_bundle};
#[cfg(feature = "bundle")]
pub use keys::{AuthorKey, AuthorPublicKey, KeyError, KeyId};
#[cfg(feature = "bundle")]
pub use source::{ChunkSource, SourceError, compress_all};
#[cfg(feature = "bundle")]
pub use tree::{BuildError, Tree};
