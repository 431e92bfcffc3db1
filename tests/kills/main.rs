//! SIGKILL to the agent at every failpoint × {process, static} × {the deployment succeeds, fails its probes, is aborted},
//! with real processes. The agent is started again each time; then the deployment must end as if nothing had happened, and
//! the host must have all its properties (`windlass_tests::properties`).
//!
//! Which points a deployment passes is seen in one without a kill. The ordinary run kills once at each point there is; the
//! long one (about half an hour) at each pass of each point in each story:
//!
//! ```text
//! WINDLASS_LONG=1 cargo test --locked -p windlass-tests --test kills -- --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "tests")]

mod field;
mod matrix;

use std::collections::BTreeSet;

use field::{Field, Kill, Runtime, Story};
use matrix::{Cell, Matrix};

/// Where the agent of [`Story::Resumes`] is killed first.
const ON_THE_WAY: &str = "smoke.before";

#[test]
fn killed_at_every_failpoint_it_ends_as_if_nothing_had_happened() {
    let long = std::env::var_os("WINDLASS_LONG").is_some();
    let mut matrix = Matrix::default();
    let mut reached = BTreeSet::new();
    for runtime in Runtime::ALL {
        let mut field = Field::new(runtime);
        for story in Story::ALL {
            field.prepare(story);
            let first = (story == Story::Resumes).then(|| Kill::at(ON_THE_WAY));
            let first: Vec<Kill> = first.into_iter().collect();
            let undisturbed = field.deploy(story, &first);
            assert_eq!(undisturbed.violations, [""; 0], "{runtime} {story} without a kill");
            for kill in kills(&undisturbed.passed, long, &reached) {
                reached.insert(kill.point.clone());
                let cell = Cell { point: kill.point.clone(), runtime, story };
                let all: Vec<Kill> = first.iter().cloned().chain([kill]).collect();
                field.prepare(story);
                let seen = field.deploy(story, &all);
                matrix.add(cell, first.len() + 1, seen);
            }
        }
    }
    matrix.show();
    let missing: Vec<String> =
        windlass_agent::failpoint::names().into_iter().filter(|name| !reached.contains(name)).collect();
    assert!(missing.is_empty(), "no deployment passes {missing:?}: an effect without its failpoints?");
    assert!(matrix.violations().is_empty(), "violations:\n  {}", matrix.violations().join("\n  "));
}

/// What to kill at, of the points that were passed.
fn kills(passed: &[String], long: bool, reached: &BTreeSet<String>) -> Vec<Kill> {
    let mut kills = Vec::new();
    for (at, point) in passed.iter().enumerate() {
        let pass = passed[..=at].iter().filter(|other| *other == point).count();
        if long || (pass == 1 && !reached.contains(point)) {
            kills.push(Kill { point: point.clone(), pass });
        }
    }
    kills
}
