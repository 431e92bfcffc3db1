//! The last lines of an app's output, for an operator who asks.

use windlass_proto::id::AppName;
use windlass_proto::limits::{LOG_BYTES, LOG_LINES};
use windlass_proto::release::ReleaseRef;

use crate::layout::Layout;
use crate::runtime::systemd::journal;
use crate::shim::log::last_lines;
use crate::shim::order::{Keeper, RunDir, Started};

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The release started last: its output.
    pub release: ReleaseRef,
    /// Oldest first.
    pub lines: Vec<String>,
}

/// Why there are no lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTail {
    /// The name is none.
    #[error("{0:?} is not the name of an app")]
    BadName(String),
    /// The app is not on this host.
    #[error("this host has no app {0}")]
    NoApp(AppName),
    /// No process of it was ever started here: it is static, or its first start is to come.
    #[error("no process of {0} was ever started on this host")]
    NeverStarted(AppName),
}

/// The newest lines of one start: from its log, or from the journal where it is a unit. Blocks.
pub fn output(started: &Started, count: usize, bytes: usize) -> Vec<String> {
    match (&started.log, &started.keeper) {
        (Some(log), _) => last_lines(log, count, bytes),
        (None, Keeper::Unit { .. }) => journal::last_lines(&started.mark, count, bytes),
        (None, Keeper::Shim(_)) => Vec::new(),
    }
}

/// The newest lines of what runs, or ran last; at most `count`. Blocks.
pub fn tail(layout: &Layout, app: &str, count: u32) -> Result<Tail, NoTail> {
    let app = AppName::new(app).map_err(|_| NoTail::BadName(app.chars().take(100).collect()))?;
    if !layout.app(&app).is_dir() {
        return Err(NoTail::NoApp(app));
    }
    let Some(started) = RunDir(layout.app_run(&app)).read_started() else {
        return Err(NoTail::NeverStarted(app));
    };
    let lines = output(&started, count.min(LOG_LINES) as usize, LOG_BYTES);
    Ok(Tail { release: started.release, lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"), dir.path().join("run")).unwrap();
        layout.create().unwrap();
        let shop = AppName::new("shop").unwrap();
        assert_eq!(tail(&layout, "../etc", 9), Err(NoTail::BadName("../etc".into())));
        assert_eq!(tail(&layout, "shop", 9), Err(NoTail::NoApp(shop.clone())));
        layout.create_app(&shop).unwrap();
        assert_eq!(tail(&layout, "shop", 9), Err(NoTail::NeverStarted(shop)));
    }
}
