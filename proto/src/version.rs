//! Version numbers of the contract.

/// Version of the agent protocol; the coordinator refuses an agent whose number differs.
pub const PROTOCOL: u32 = 1;

/// Version of the manifest format, written into every manifest.
pub const MANIFEST_FORMAT: u32 = 1;

/// The version of the programs, from the workspace.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");
