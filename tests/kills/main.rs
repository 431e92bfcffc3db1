//! What is done to a host in the middle of a deployment, and what becomes of it.
//!
//! * SIGKILL to the agent at every failpoint × {process, static} × {the deployment succeeds, fails its probes, is aborted}: it
//!   must end as if nothing had happened.
//! * The power goes, the disk is full, read-only or broken, at the same failpoints and at any moment: it must end at rest on a
//!   complete release, and on the new one if that was confirmed.
//!
//! Either way with real processes, and the host must have all its properties (`windlass_tests::properties`). Which points a
//! deployment passes is seen in one without a strike. The ordinary run strikes at the first pass of each point, or at as many of
//! them as its minutes allow (`windlass_tests::sample`); the long one (hours) at each pass of each point in each story:
//!
//! ```text
//! WINDLASS_LONG=1 WINDLASS_PIECE=1/6 cargo test --locked -p windlass-tests --test kills -- --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "tests")]

mod field;
mod matrix;
mod story;
mod strike;

use std::collections::BTreeSet;
use std::time::Duration;

use field::Field;
use matrix::{Cell, Matrix};
use story::{Runtime, Story};
use strike::{At, How, Strike};
use windlass_tests::disk::Format;
use windlass_tests::needs;
use windlass_tests::sample::{Sample, is_long};

/// Where the agent of [`Story::Resumes`] is killed first.
const ON_THE_WAY: &str = "smoke.before";

/// What a deployment passes only where the one before it succeeded.
const LEFT_BEHIND: &str = "write_confirmed.recorded";

/// Time of an ordinary run's strikes, for each of the two matrices.
const TIME: Duration = Duration::from_secs(240);

#[test]
fn killed_at_every_failpoint_it_ends_as_if_nothing_had_happened() {
    let mut matrix = Matrix::default();
    let mut sample = Sample::of("kills", TIME);
    let mut reached = BTreeSet::new();
    let mut groups = 0;
    for runtime in Runtime::ALL {
        let mut field = Field::new(runtime, None);
        for story in Story::ALL {
            if is_long() {
                // What a deployment leaves to be recorded is passed by the next one: each comes after one of its own kind.
                field.prepare(story);
                field.deploy(story, &[]).must_be(story);
            }
            field.prepare(story);
            let first = (story == Story::Resumes).then(|| Strike::kill(ON_THE_WAY));
            let first: Vec<Strike> = first.into_iter().collect();
            let undisturbed = field.deploy(story, &first);
            undisturbed.must_be(story);
            let wanted = |point: &str| is_long() || !reached.contains(point);
            let all = points(&undisturbed.passed, wanted);
            reached.extend(all.iter().map(|at| at.name().to_owned()));
            let left = (Runtime::ALL.len() * Story::ALL.len() - groups) as u32;
            groups += 1;
            for at in sample.draw(all, left, |at| format!("{at} {runtime} {story}")) {
                let cell = Cell { how: How::Kill, at: at.name().to_owned(), runtime, story };
                let all: Vec<Strike> = first.iter().cloned().chain([Strike { at, how: How::Kill }]).collect();
                field.prepare(story);
                let seen = field.deploy(story, &all);
                matrix.add(cell, &all, seen);
            }
        }
    }
    sample.finish();
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
    let mut sample = Sample::of("disks", TIME);
    let mut groups = 0;
    for (format, runtime) in [(Format::Ext4, Runtime::Process), (Format::Xfs, Runtime::Static)] {
        let mut field = Field::new(runtime, Some(format));
        for story in [Story::Succeeds, Story::FailsProbes] {
            // What the last strike left to be recorded, such as the end of a staging that was cancelled, is no point of this story.
            field.deploy(Story::Succeeds, &[]).must_be(Story::Succeeds);
            let undisturbed = field.deploy(story, &[]);
            undisturbed.must_be(story);
            let kinds = How::of_disks(format);
            for &how in kinds {
                let left = ((4 - groups) * kinds.len()) as u32;
                let all = disk_points(&undisturbed.passed, how);
                for at in sample.draw(all, left, |at| format!("{how} {at} {runtime} {story}")) {
                    let cell = Cell { how, at: at.name().to_owned(), runtime, story };
                    if at.name() == LEFT_BEHIND {
                        field.deploy(Story::Succeeds, &[]).must_be(Story::Succeeds);
                    }
                    let strikes = [Strike { at, how }];
                    matrix.add(cell, &strikes, field.deploy(story, &strikes));
                }
            }
            groups += 1;
        }
    }
    sample.finish();
    matrix.show();
    matrix.must_be_clean();
}

/// The passes of points, of those that are wanted: the first pass, or in a long run each.
fn points(passed: &[String], wanted: impl Fn(&str) -> bool) -> Vec<At> {
    let pass = |at: usize| passed[..=at].iter().filter(|other| **other == passed[at]).count();
    let all = passed.iter().enumerate().map(|(at, point)| (point, pass(at)));
    all.filter(|(point, pass)| wanted(point) && (is_long() || *pass == 1))
        .map(|(point, pass)| At::Point(point.clone(), pass))
        .collect()
}

/// Those at which a disk is struck in this way.
fn disk_points(passed: &[String], how: How) -> Vec<At> {
    // Nobody waits for pruning: it is on record with the next deployment, if the agent lives so long; and not each has something
    // to discard.
    let mut points = points(passed, |point| !["prune.recorded", "prune.discarded"].contains(&point));
    if how == How::PowerCut {
        let moments = if is_long() { 100 } else { 5 };
        let longest: u64 = 1500;
        points.extend((1..=moments).map(|n| At::Moment(Duration::from_millis(longest * n / moments))));
    }
    points
}
