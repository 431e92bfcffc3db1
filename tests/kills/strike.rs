//! What happens to a host in the middle of a deployment.

use std::fmt;
use std::time::Duration;

/// At some moment this happens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Strike {
    pub(crate) at: At,
    pub(crate) how: How,
}

/// When.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    /// At the N-th pass of a failpoint, from 1.
    Point(String, usize),
    /// So long after the order.
    Moment(Duration),
}

impl At {
    /// In a table: a failpoint's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Point(point, _) => point,
            Self::Moment(_) => "(any moment)",
        }
    }
}

/// What happens there. All but the first are done to the host while its agent stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum How {
    /// SIGKILL to the agent.
    Kill,
    /// The power goes: what was not synced is lost, nothing runs, the boot is another one.
    PowerCut,
    /// Not a byte is free any more.
    NoBytes,
    /// Not an inode is free any more.
    NoInodes,
    /// The disk takes no more writes.
    ReadOnly,
    /// The disk answers nothing but errors, and some seconds later the power goes.
    Errors,
}

impl How {
    /// Those that are done to a disk.
    pub(crate) const OF_DISKS: [Self; 5] =
        [Self::PowerCut, Self::NoBytes, Self::NoInodes, Self::ReadOnly, Self::Errors];
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "SIGKILL",
            Self::PowerCut => "power cut",
            Self::NoBytes => "no byte free",
            Self::NoInodes => "no inode free",
            Self::ReadOnly => "read-only",
            Self::Errors => "I/O errors",
        })
    }
}

impl Strike {
    pub(crate) fn kill(point: &str) -> Self {
        Self { at: At::Point(point.to_owned(), 1), how: How::Kill }
    }

    /// As crate `fail` reads it; a moment needs none.
    pub(crate) fn order(&self) -> Option<String> {
        let At::Point(point, pass) = &self.at else { return None };
        let verb = if self.how == How::Kill { "kill" } else { "stop" };
        Some(match pass {
            1 => format!("{point}=1*return({verb})"),
            n => format!("{point}={}*off->1*return({verb})", n - 1),
        })
    }
}
