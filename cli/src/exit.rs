//! The documented exit codes (design/CLI.md): scripts rely on them.

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done,
    /// Failed for a reason that has no code of its own.
    Failed,
    /// Wrong usage or an invalid spec.
    Usage,
    /// The rollout failed; the fleet is on, or was returned to, the former release.
    RolloutFailed,
    /// Not signed in, or not allowed.
    NotAllowed,
    /// The coordinator cannot be reached, or has no leader.
    Unreachable,
    /// Watching timed out; the rollout goes on.
    TimedOut,
    /// State moved, window closed, app busy or release poisoned.
    Conflict,
    /// `plan --exit-code`: there are changes.
    Changes,
    /// The rollout is paused and needs a person.
    Paused,
    /// Interrupted by the user; the rollout goes on.
    Interrupted,
}

impl Exit {
    /// The number the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::RolloutFailed => 3,
            Self::NotAllowed => 4,
            Self::Unreachable => 5,
            Self::TimedOut => 6,
            Self::Conflict => 7,
            Self::Changes => 8,
            Self::Paused => 9,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table that `windlass --help` ends with.
pub const TABLE: &str = "\
Exit codes:
  0    done, or nothing to do
  1    failed, any other reason
  2    wrong usage or invalid spec
  3    rollout failed; the fleet is on, or was returned to, the former release
  4    not signed in, or not allowed
  5    coordinator unreachable or without a leader (safe to try again)
  6    watching timed out; the rollout goes on
  7    conflict: state moved, app busy, window closed or release poisoned
  8    plan --exit-code: there are changes
  9    rollout paused; it needs a person
  130  interrupted; the rollout goes on";
