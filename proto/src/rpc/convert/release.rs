//! Release references.

use super::{InvalidField, parsed};
use crate::release::ReleaseRef;
use crate::rpc;

impl From<ReleaseRef> for rpc::ReleaseRef {
    fn from(release: ReleaseRef) -> Self {
        Self::from(&release)
    }
}

impl From<&ReleaseRef> for rpc::ReleaseRef {
    fn from(release: &ReleaseRef) -> Self {
        Self {
            app: release.app.to_string(),
            version: release.version.to_string(),
            digest: release.digest.to_string(),
            counter: release.counter,
        }
    }
}

impl TryFrom<rpc::ReleaseRef> for ReleaseRef {
    type Error = InvalidField;
    fn try_from(wire: rpc::ReleaseRef) -> Result<Self, InvalidField> {
        Ok(Self {
            app: parsed("app", &wire.app)?,
            version: parsed("version", &wire.version)?,
            digest: parsed("digest", &wire.digest)?,
            counter: wire.counter,
        })
    }
}
