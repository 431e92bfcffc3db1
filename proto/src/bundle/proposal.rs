//! A manifest on its way to a coordinator that shall only tell what it would change: one zstd frame, unsigned.

use std::io::{self, Read as _};

use super::{Manifest, ManifestError};
use crate::limits::MANIFEST_BYTES;

const LEVEL: i32 = 3;
/// The largest manifest in one window.
const WINDOW_LOG: u32 = MANIFEST_BYTES.ilog2();

impl Manifest {
    /// The canonical bytes, compressed.
    pub fn pack(&self) -> io::Result<Vec<u8>> {
        zstd::bulk::compress(&self.encode(), LEVEL)
    }

    /// Opens what [`Manifest::pack`] made and checks every rule. Stops reading behind the largest manifest.
    pub fn unpack(packed: &[u8]) -> Result<Self, ManifestError> {
        let read = || {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
            decoder.window_log_max(WINDOW_LOG)?;
            let mut bytes = Vec::new();
            decoder.take(MANIFEST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Self::decode(&read().map_err(ManifestError::Decompress)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Entry, EntryKind, EntryPath};

    fn manifest() -> Manifest {
        let spec = r#"{"runtime":{"kind":"static"},"drain":{"timeout":"1s"}}"#;
        Manifest {
            format: 1,
            app: "web".parse().unwrap(),
            version: "1".parse().unwrap(),
            counter: 1,
            release: serde_json::from_str(spec).unwrap(),
            entries: vec![Entry { path: EntryPath::new("etc").unwrap(), kind: EntryKind::Directory {} }],
        }
    }

    #[test]
    fn what_was_packed_is_opened() {
        let packed = manifest().pack().unwrap();
        assert_eq!(Manifest::unpack(&packed).unwrap(), manifest());
    }

    #[test]
    fn bad_frames_are_refused() {
        let packed = manifest().pack().unwrap();
        for cut in [1, packed.len() / 2, packed.len() - 1] {
            let refused = Manifest::unpack(&packed[..cut]).unwrap_err();
            assert!(matches!(refused, ManifestError::Decompress(_)), "{cut}: {refused}");
        }
        let twice = [packed.clone(), packed].concat();
        assert!(matches!(Manifest::unpack(&twice).unwrap_err(), ManifestError::Malformed(_)));
        assert!(Manifest::unpack(b"").is_err());
    }

    #[test]
    fn a_small_frame_cannot_become_large() {
        let bomb = zstd::bulk::compress(&vec![b' '; 4 * MANIFEST_BYTES], LEVEL).unwrap();
        assert!(bomb.len() < 1 << 16);
        let refused = Manifest::unpack(&bomb).unwrap_err();
        assert!(matches!(refused, ManifestError::TooLarge(n) if n == MANIFEST_BYTES + 1), "{refused}");
    }
}
