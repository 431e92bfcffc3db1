//! Bounds that both ends enforce, each with its reason.

/// Target and largest sizes of a chunk before compression. 64 KiB average finds small edits and still compresses;
/// the largest bounds what one decompression may yield.
pub const CHUNK_MIN: u32 = 16 * 1024;
/// Average chunk size aimed at by FastCDC.
pub const CHUNK_AVERAGE: u32 = 64 * 1024;
/// Largest chunk; a decompressor stops here.
pub const CHUNK_MAX: u32 = 256 * 1024;

/// Largest compressed chunk: what zstd makes of [`CHUNK_MAX`] incompressible bytes, and a little.
pub const COMPRESSED_MAX: u32 = CHUNK_MAX + CHUNK_MAX / 128;

/// Compressed chunk bytes put into one [`ChunkBatch`] message: large messages amortise HTTP/2 and TLS framing
/// (reference/PERFORMANCE.md), 1 MiB bounds memory per stream.
///
/// [`ChunkBatch`]: crate::rpc
pub const BATCH_BYTES: usize = 512 * 1024;

/// Largest gRPC message either side decodes: a full batch plus its framing, or a control message.
pub const MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Largest compressed manifest in a [`Proposal`]: the spec, at most the rest, is in the same message.
///
/// [`Proposal`]: crate::rpc
pub const PROPOSAL_BYTES: usize = MESSAGE_BYTES - 1024 * 1024;

/// Size of a [`Piece`] of an envelope stream.
///
/// [`Piece`]: crate::rpc
pub const PIECE_BYTES: usize = 256 * 1024;

/// Most entries (files, directories and links) in a bundle.
pub const BUNDLE_ENTRIES: usize = 200_000;

/// Largest manifest.
pub const MANIFEST_BYTES: usize = 64 * 1024 * 1024;

/// Largest signed envelope: the largest manifest in base64, and its signatures.
pub const ENVELOPE_BYTES: usize = MANIFEST_BYTES / 3 * 4 + 64 * 1024;

/// Largest signed grant: a statement of some names and numbers, and its signatures.
pub const GRANT_BYTES: usize = 16 * 1024;

/// Most signatures on an envelope; verifying each costs time.
pub const SIGNATURES: usize = 64;

/// Largest sum of file sizes in a bundle: 16 GiB.
pub const BUNDLE_BYTES: u64 = 16 << 30;

/// Longest path in a bundle, in bytes; well below PATH_MAX with the release directory before it.
pub const PATH_BYTES: usize = 1024;

/// Most apps that a host takes: the states of all must fit its journal together. Plans know it, too. A first release that
/// failed takes no place ([`AppStatus::has_place`]).
///
/// [`AppStatus::has_place`]: crate::phase::AppStatus::has_place
pub const APPS: usize = 64;

/// First releases of apps that a host fetches at the same time. Nothing of them is on record before an author's signature was
/// verified.
pub const FIRST_RELEASES: usize = 32;

/// Most apps of which a host tells: beside [`APPS`] first releases that are being fetched, and as many that failed lately.
pub const APPS_TOLD: usize = APPS + 2 * FIRST_RELEASES;

/// Evidence frozen before one revert, in all.
pub const EVIDENCE_BYTES: usize = 256 * 1024;

/// Most lines of an app's output that one answer has.
pub const LOG_LINES: u32 = 5_000;

/// Most bytes of an app's output that one answer has: a quarter of a message, so that a heartbeat behind it is not late.
pub const LOG_BYTES: usize = MESSAGE_BYTES / 4;
/// Most of a hook's output in a status: its last bytes. More of a failed one's is in the evidence.
pub const HOOK_TAIL: usize = 512;

/// Most confirmed releases of an app that a host is believed to remember; agents of this version say at most four.
pub const PAST_RELEASES: usize = 32;

/// Most hooks in a status: the newest. Each of the nine hooks once forwards and once on the way back.
pub const HOOK_RUNS: usize = 32;

/// HTTP/2 windows for bulk streams (reference/PERFORMANCE.md: 8M/16M and 256 KiB frames give 2.4 GB/s).
pub const STREAM_WINDOW: u32 = 8 << 20;
/// See [`STREAM_WINDOW`].
pub const CONNECTION_WINDOW: u32 = 16 << 20;
/// See [`STREAM_WINDOW`].
pub const FRAME_BYTES: u32 = 256 * 1024;

/// Environments of one app.
pub const ENVIRONMENTS: usize = 32;
