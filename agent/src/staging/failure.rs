//! Why a release could not be staged, and whose fault it is.

use std::io;
use std::path::PathBuf;

use windlass_proto::phase::Fault;
use windlass_proto::release::ReleaseRef;

use super::accept::Refusal;
use super::fetch::FetchError;
use super::room::NoRoom;
use super::unpack::UnpackError;

/// Why a release could not be staged. Nothing of it is left but remains of a broken connection.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// This host takes none.
    #[error("{0}")]
    SafeMode(String),
    /// This host cannot run it.
    #[error("{reason}")]
    Lacks {
        /// Whose fault.
        fault: Fault,
        /// What is lacking.
        reason: String,
    },
    /// This host does not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is too little room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// It did not arrive.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It could not be written, or is not what its manifest says.
    #[error("{release} could not be unpacked")]
    Unpack {
        /// The release.
        release: Box<ReleaseRef>,
        /// Why.
        source: Box<UnpackError>,
    },
    /// The filesystem refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread of ours ended by itself.
    #[error("a thread that stages failed")]
    Thread(#[from] tokio::task::JoinError),
}

impl StageError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(refusal) => refusal.fault(),
            Self::SafeMode(_) | Self::NoRoom(_) | Self::Io { .. } => Fault::Host,
            Self::Lacks { fault, .. } => *fault,
            Self::Fetch(error) => error.fault(),
            Self::Unpack { source, .. } => source.fault(),
            Self::Thread(_) => Fault::Agent,
        }
    }

    /// The whole chain in one sentence.
    pub fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    /// Whether what has arrived is good and worth keeping for another attempt.
    pub(super) fn leaves_remains(&self) -> bool {
        matches!(
            self,
            Self::Fetch(FetchError::Interrupted { .. } | FetchError::TooSlow { .. } | FetchError::Cancelled)
        ) || matches!(self, Self::Unpack { source, .. } if matches!(**source, UnpackError::Cancelled))
    }
}
