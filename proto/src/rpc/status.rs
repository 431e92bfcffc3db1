//! Kinds of errors as they travel: a `tonic::Status` code for any client, a word in the metadata for ours.

use tonic::{Code, Status};

const METADATA_KEY: &str = "windlass-error";

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal => $code:ident,)*) => {
        /// Why a call was refused. The message is for people; programs decide on this.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorKind {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in the metadata.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The gRPC code.
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)* }
            }
        }
    };
}

kinds! {
    /// The named thing does not exist.
    NotFound = "not_found" => NotFound,
    /// A request, spec or selector that no state would make right.
    Invalid = "invalid" => InvalidArgument,
    /// The plan has errors: nothing was changed.
    PlanRefused = "plan_refused" => FailedPrecondition,
    /// The thing's state does not allow this act.
    WrongState = "wrong_state" => FailedPrecondition,
    /// Another rollout holds the environment of the app.
    Busy = "busy" => Aborted,
    /// The state moved since the caller looked.
    StateMoved = "state_moved" => Aborted,
    /// The release failed before by its own fault.
    Poisoned = "poisoned" => Aborted,
    /// Hosts would refuse the release without a grant of its authors: nothing was changed.
    GrantNeeded = "grant_needed" => Aborted,
    /// Hosts belong to another environment of the app: nothing was changed.
    HostsElsewhere = "hosts_elsewhere" => Aborted,
    /// The thing exists, and differs.
    Exists = "exists" => AlreadyExists,
    /// Known caller, not its call to make.
    NotAllowed = "not_allowed" => PermissionDenied,
    /// Unknown caller: no certificate, a bad or used token.
    NotSignedIn = "not_signed_in" => Unauthenticated,
    /// A bound was passed.
    TooMuch = "too_much" => ResourceExhausted,
    /// Not now; the same call may succeed later.
    Unavailable = "unavailable" => Unavailable,
    /// The deadline passed.
    TimedOut = "timed_out" => DeadlineExceeded,
    /// What is stored is damaged.
    Damaged = "damaged" => DataLoss,
    /// The other side does not know this call.
    Unsupported = "unsupported" => Unimplemented,
    /// A fault of the program itself.
    Internal = "internal" => Internal,
}

impl ErrorKind {
    /// A status of this kind.
    pub fn status(self, message: impl Into<String>) -> Status {
        let mut status = Status::new(self.code(), message);
        let word = tonic::metadata::MetadataValue::from_static(self.word());
        status.metadata_mut().insert(METADATA_KEY, word);
        status
    }

    /// The kind of a status: its word, else what its code says (a foreign or broken other side).
    pub fn of(status: &Status) -> Self {
        let word = status.metadata().get(METADATA_KEY).and_then(|value| value.to_str().ok());
        let known = Self::ALL.iter().find(|kind| Some(kind.word()) == word && kind.code() == status.code());
        match (known, status.code()) {
            (Some(kind), _) => *kind,
            (None, Code::Unknown | Code::Cancelled) => Self::Unavailable,
            (None, Code::OutOfRange) => Self::Invalid,
            (None, code) => {
                Self::ALL.iter().find(|kind| kind.code() == code).copied().unwrap_or(Self::Internal)
            }
        }
    }

    /// Whether the same call may be repeated as it is.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::TimedOut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_the_wire() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::of(&kind.status("x")), *kind);
        }
        assert_eq!(ErrorKind::of(&Status::new(Code::Aborted, "x")), ErrorKind::Busy);
        assert_eq!(ErrorKind::of(&Status::new(Code::Unknown, "transport error")), ErrorKind::Unavailable);
        // A word that contradicts the code is not believed.
        let mut odd = ErrorKind::Busy.status("x");
        odd = Status::with_metadata(Code::NotFound, "x", std::mem::take(odd.metadata_mut()));
        assert_eq!(ErrorKind::of(&odd), ErrorKind::NotFound);
    }
}
