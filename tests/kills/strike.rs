//! What happens to a host in the middle of a deployment.

use std::fmt;
use std::time::Duration;

use windlass_tests::disk::Format;

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

    /// Whether it is a later pass than there were of a point that was passed.
    pub(crate) fn is_beyond(&self, passed: &[String]) -> bool {
        self.passes(passed).is_some_and(|(passes, pass)| (1..pass).contains(&passes))
    }

    /// Whether it is a pass of a point that was not passed at all.
    pub(crate) fn is_unpassed(&self, passed: &[String]) -> bool {
        self.passes(passed).is_some_and(|(passes, _)| passes == 0)
    }

    /// How often the point was passed, and which pass this is.
    fn passes(&self, passed: &[String]) -> Option<(usize, usize)> {
        let Self::Point(point, pass) = self else { return None };
        Some((passed.iter().filter(|passed| *passed == point).count(), *pass))
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
    /// Those that are done to such a disk; XFS knows no becoming read-only.
    pub(crate) const fn of_disks(format: Format) -> &'static [Self] {
        match format {
            Format::Ext4 => &[Self::PowerCut, Self::NoBytes, Self::NoInodes, Self::ReadOnly, Self::Errors],
            Format::Xfs => &[Self::PowerCut, Self::NoBytes, Self::NoInodes, Self::Errors],
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(point, 1) => f.write_str(point),
            Self::Point(point, pass) => write!(f, "{point}#{pass}"),
            Self::Moment(moment) => write!(f, "{} ms", moment.as_millis()),
        }
    }
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
