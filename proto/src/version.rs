//! Version numbers of the contract.

/// Version of the agent protocol; the coordinator refuses an agent whose number differs.
pub const PROTOCOL: u32 = 1;

/// Newest version of the manifest format. A manifest has the oldest that can say what it says:
/// [`ReleaseSpec::format`](crate::spec::ReleaseSpec::format).
///
/// 1: all but what follows. 2: `release.hooks`.
pub const MANIFEST_FORMAT: u32 = 2;

/// The version of the programs, from the workspace.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");
