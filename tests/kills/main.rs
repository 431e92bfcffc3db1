//! What is done to a host in the middle of a deployment, and what becomes of it.
//!
//! * SIGKILL to the agent at every failpoint × {process, static} × {the deployment succeeds, fails its probes, is aborted}: it
//!   must end as if nothing had happened.
//! * The power goes, the disk is full, read-only or broken, at the same failpoints and at any moment: it must end at rest on a
//!   complete release, and on the new one if that was confirmed.
//!
//! Either way with real processes, and the host must have all its properties (`windlass_tests::properties`). Which points a
//! deployment passes is seen in one without a strike. The ordinary run strikes once at each point there is, or at some of
//! them; the long one (hours) at each pass of each point in each story, or at each N-th, others in other stories:
//!
//! ```text
//! WINDLASS_LONG=N cargo test --locked -p windlass-tests --test kills -- --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "tests")]

mod field;
mod matrix;
mod story;
mod strike;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use field::Field;
use matrix::{Cell, Matrix};
use story::{Runtime, Story};
use strike::{At, How, Strike};
use windlass_tests::disk::Format;
use windlass_tests::needs;

/// Where the agent of [`Story::Resumes`] is killed first.
const ON_THE_WAY: &str = "smoke.before";

/// In a long run each N-th pass is struck; `None`: the ordinary run.
fn long() -> Option<usize> {
    let every = std::env::var("WINDLASS_LONG").ok()?;
    let every: NonZeroUsize =
        every.parse().expect("WINDLASS_LONG is a number: 1 strikes at each pass, 10 at each tenth");
    Some(every.get())
}

#[test]
fn killed_at_every_failpoint_it_ends_as_if_nothing_had_happened() {
    let mut matrix = Matrix::default();
    let mut reached = BTreeSet::new();
    let mut stories = 0;
    for runtime in Runtime::ALL {
        let mut field = Field::new(runtime, None);
        for story in Story::ALL {
            stories += 1;
            if long().is_some() {
                // What a deployment leaves to be recorded is passed by the next one: let each come after one of its own kind.
                field.prepare(story);
                field.deploy(story, &[]).must_be(story);
            }
            field.prepare(story);
            let first = (story == Story::Resumes).then(|| Strike::kill(ON_THE_WAY));
            let first: Vec<Strike> = first.into_iter().collect();
            let undisturbed = field.deploy(story, &first);
            undisturbed.must_be(story);
            let every = long().unwrap_or(1);
            let wanted = |point: &str| long().is_some() || !reached.contains(point);
            let all = points(&undisturbed.passed, wanted);
            reached.extend(all.iter().map(|at| at.name().to_owned()));
            for at in all.into_iter().skip(stories % every).step_by(every) {
                let cell = Cell { how: How::Kill, at: at.name().to_owned(), runtime, story };
                let all: Vec<Strike> = first.iter().cloned().chain([Strike { at, how: How::Kill }]).collect();
                field.prepare(story);
                let seen = field.deploy(story, &all);
                matrix.add(cell, all.len(), seen);
            }
        }
    }
    matrix.show();
    let missing: Vec<String> =
        windlass_agent::failpoint::names().into_iter().filter(|name| !reached.contains(name)).collect();
    assert!(missing.is_empty(), "no deployment passes {missing:?}: an effect without its failpoints?");
    matrix.must_be_clean();
}

#[test]
fn without_power_or_disk_it_ends_at_rest_on_a_complete_release() {
    let programs =
        [("mkfs.ext4", "e2fsprogs"), ("mkfs.xfs", "xfsprogs"), ("losetup", "mount"), ("python3", "python3")];
    if !needs::root_and(&programs) {
        return;
    }
    let mut matrix = Matrix::default();
    for (format, runtime) in [(Format::Ext4, Runtime::Process), (Format::Xfs, Runtime::Static)] {
        let mut field = Field::new(runtime, Some(format));
        for story in [Story::Succeeds, Story::FailsProbes] {
            let undisturbed = field.deploy(story, &[]);
            undisturbed.must_be(story);
            for how in How::OF_DISKS {
                if how == How::ReadOnly && format == Format::Xfs {
                    continue;
                }
                for at in some_points(&undisturbed.passed, how, format) {
                    let cell = Cell { how, at: at.name().to_owned(), runtime, story };
                    matrix.add(cell, 1, field.deploy(story, &[Strike { at, how }]));
                }
            }
        }
    }
    matrix.show();
    matrix.must_be_clean();
}

/// The passes of points, of those that are wanted: the first pass, or in a long run each.
fn points(passed: &[String], wanted: impl Fn(&str) -> bool) -> Vec<At> {
    let pass = |at: usize| passed[..=at].iter().filter(|other| **other == passed[at]).count();
    let all = passed.iter().enumerate().map(|(at, point)| (point, pass(at)));
    all.filter(|(point, pass)| wanted(point) && (long().is_some() || *pass == 1))
        .map(|(point, pass)| At::Point(point.clone(), pass))
        .collect()
}

/// Those at which a disk is struck in this way. What is quick takes the power at most of them and the rest at few.
fn some_points(passed: &[String], how: How, format: Format) -> Vec<At> {
    // Nobody waits for pruning: it is on record with the next deployment, if the agent lives so long.
    let mut points = points(passed, |point| point != "prune.recorded");
    let moments = long().map_or(5, |every| (100 / every as u64).max(5));
    let longest: u64 = 1500;
    let every = match (long(), how, format) {
        (Some(every), ..) => every,
        (None, How::PowerCut, Format::Ext4) => 3,
        (None, How::PowerCut, Format::Xfs) => 11,
        (None, ..) => 17,
    };
    // Not the same ones for each.
    let skip = how as usize % every;
    points = points.into_iter().skip(skip).step_by(every).collect();
    if how == How::PowerCut {
        points.extend((1..=moments).map(|n| At::Moment(Duration::from_millis(longest * n / moments))));
    }
    points
}
