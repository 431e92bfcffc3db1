//! Points at which a test kills the agent, or stops it to do something worse, to see what the next one makes of what it finds.
//!
//! Each effect has three by its name: `EFFECT.before` it is begun, `EFFECT.after` it came to its end, and `EFFECT.recorded`
//! when the journal's record of what it came to is on the disk, before anything follows from that. An effect that nobody
//! waits for is recorded by the next record of its app. Between the barriers of a longer piece of work are
//! [`Barrier`]s.
//!
//! Only a build with the cargo feature `failpoints` has them; otherwise all of this is nothing. They are armed as crate
//! `fail` reads it: `FAILPOINTS='switch.after=return(kill)'` in the environment is SIGKILL to itself at the first pass,
//! `2*off->return(kill)` at the third; `1*return(stop)` is SIGSTOP, so that something else can happen meanwhile. A test that
//! wants to choose the moment gives a directory in `WINDLASS_FAILPOINTS_DIR`: a file `arm` in there is read and removed at
//! the next pass, and a file `passed` gets a line for each point passed.

use windlass_release::Effect;

/// As with effects, the names stand once.
macro_rules! barriers {
    ($($(#[$what:meta])* $barrier:ident => $name:literal,)*) => {
        /// Between two things that a crash may part.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Barrier { $($(#[$what])* $barrier,)* }

        impl Barrier {
            /// The names of all barriers.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The point's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$barrier => $name,)* }
            }
        }
    };
}

barriers! {
    /// A journal record is written and not yet synced.
    JournalWritten => "journal.written",
    /// All of a release is fetched and unpacked; nothing is synced.
    StageUnpacked => "stage.unpacked",
    /// The filesystem is synced; the release is not visible yet.
    StageSynced => "stage.synced",
    /// A link or a release has its name; the directory is not synced.
    Renamed => "renamed",
    /// The temporary link is there, the link is the old one.
    LinkMade => "link.made",
    /// The release bears the mark of a confirmed one; the link is the old one.
    ConfirmMarked => "confirm.marked",
    /// The app is out of traffic; the drain counts what is open.
    DrainBegun => "drain.begun",
    /// The shim runs and has not answered.
    ShimSpawned => "shim.spawned",
    /// One release is put away, others and the trash are not.
    PruneDiscarded => "prune.discarded",
    /// The evidence's file is there; the store knows nothing of it.
    EvidenceWritten => "evidence.written",
}

/// The names of all points.
pub fn names() -> Vec<String> {
    let of_effects = Effect::NAMES
        .iter()
        .flat_map(|effect| ["before", "after", "recorded"].map(|moment| format!("{effect}.{moment}")));
    of_effects.chain(Barrier::NAMES.iter().map(|name| (*name).to_owned())).collect()
}

/// Effects that came to their end and are not on record yet; clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Performed {
    #[cfg(feature = "failpoints")]
    names: std::sync::Arc<std::sync::Mutex<Vec<&'static str>>>,
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::fs::File;
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::sync::{MutexGuard, PoisonError};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::{Barrier, Performed};

    /// The points are armed for as long as this is there.
    #[derive(Debug)]
    pub struct Armed(#[expect(dead_code, reason = "held")] fail::FailScenario<'static>);

    /// Reads from the environment what is to happen where.
    pub fn arm() -> Armed {
        Armed(fail::FailScenario::setup())
    }

    /// An effect is about to begin.
    pub fn before(effect: &'static str) {
        pass(&format!("{effect}.before"));
    }

    /// In the middle of something.
    pub fn at(barrier: Barrier) {
        pass(barrier.name());
    }

    impl Performed {
        /// An effect came to its end.
        pub fn after(&self, effect: &'static str) {
            pass(&format!("{effect}.after"));
            self.names().push(effect);
        }

        /// Takes over what is on another list.
        pub fn add(&self, other: &Self) {
            let others = std::mem::take(&mut *other.names());
            self.names().extend(others);
        }

        /// A record of the app is in the journal.
        pub fn recorded(&self) {
            for effect in std::mem::take(&mut *self.names()) {
                pass(&format!("{effect}.recorded"));
            }
        }

        fn names(&self) -> MutexGuard<'_, Vec<&'static str>> {
            self.names.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    fn pass(point: &str) {
        if let Some(dir) = std::env::var_os("WINDLASS_FAILPOINTS_DIR").map(PathBuf::from) {
            arm_more(&dir.join("arm"));
            let passed = File::options().create(true).append(true).open(dir.join("passed"));
            // One write, so that lines of two threads do not mix.
            let _ = passed.and_then(|mut passed| passed.write_all(format!("{point}\n").as_bytes()));
        }
        let told = fail::eval(point, |what: Option<String>| what.unwrap_or_default());
        let signal = match told.as_deref() {
            Some("kill") => Signal::SIGKILL,
            Some("stop") => Signal::SIGSTOP,
            _ => return,
        };
        tracing::warn!(point, %signal, "struck by a test");
        let _ = kill(Pid::this(), signal);
    }

    fn arm_more(file: &Path) {
        let Ok(orders) = std::fs::read_to_string(file) else { return };
        // Whoever removes it has it.
        if std::fs::remove_file(file).is_err() {
            return;
        }
        for (point, actions) in orders.trim().split(';').filter_map(|order| order.split_once('=')) {
            if let Err(error) = fail::cfg(point, actions) {
                tracing::error!(point, actions, error, "point not armed");
            }
        }
    }
}

#[cfg(not(feature = "failpoints"))]
mod absent {
    use super::{Barrier, Performed};

    /// The points are armed for as long as this is there.
    #[derive(Debug)]
    pub struct Armed;

    /// There is nothing to arm.
    pub const fn arm() -> Armed {
        Armed
    }

    /// An effect is about to begin.
    pub const fn before(_: &'static str) {}

    /// In the middle of something.
    pub const fn at(_: Barrier) {}

    impl Performed {
        /// An effect came to its end.
        pub const fn after(&self, _: &'static str) {}

        /// Takes over what is on another list.
        pub const fn add(&self, _: &Self) {}

        /// A record of the app is in the journal.
        pub const fn recorded(&self) {}
    }
}

#[cfg(not(feature = "failpoints"))]
pub use absent::{Armed, arm, at, before};
#[cfg(feature = "failpoints")]
pub use armed::{Armed, arm, at, before};
