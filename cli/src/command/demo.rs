//! `windlass demo`: the whole story, and the cleaning up after it, whatever happened.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::args::Demo;
use crate::demo::directory;
use crate::demo::narrator::Narrator;
use crate::demo::story::Story;
use crate::dev::interrupt::Interrupt;
use crate::dev::place::Place;
use crate::dev::programs::Programs;
use crate::dev::{kill_all, stop};
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::Output;

/// Runs the verb.
pub async fn run(invocation: &Invocation, args: Demo) -> Result {
    let programs = Programs::find()?;
    let mut interrupt = Interrupt::catch()?;
    let dir = directory::make()?;
    let place = Place::new(&dir.join("fleet"))?;
    let story = Story {
        place: place.clone(),
        programs: programs.clone(),
        app_dir: dir.join("app"),
        narrator: Narrator::new(invocation.out),
        out: invocation.out,
    };
    // Even a defect of the story leaves nothing behind.
    let result = tokio::select! {
        told = AssertUnwindSafe(Box::pin(story.tell())).catch_unwind() => {
            told.unwrap_or_else(|_| Err(ExpectedError::failed("the demo broke")))
        }
        () = interrupt.came() => Err(interrupted()),
    };
    if args.keep && result.as_ref().map_or_else(|error| error.exit(), |()| Exit::Done) != Exit::Interrupted {
        invocation.out.talk(&format!("kept: export WINDLASS_CONFIG={}", place.config().display()));
        invocation.out.talk(&format!("windlass dev down --dir {}", place.dir().display()));
        return result.map(|()| Exit::Done);
    }
    if result.is_err() {
        show_logs(&place, &invocation.out);
    }
    let cleaned = clean(&place, &programs, &dir, invocation.out).await;
    result.and(cleaned).map(|()| Exit::Done)
}

fn interrupted() -> ExpectedError {
    ExpectedError::new(Exit::Interrupted, "interrupted: the fleet is being taken down")
}

/// Where a promise was broken, the logs say more; they are about to be removed.
fn show_logs(place: &Place, out: &Output) {
    for entry in std::fs::read_dir(place.dir().join("logs")).into_iter().flatten().flatten() {
        out.talk(&crate::dev::process::log_tail(&entry.path(), 12));
    }
}

async fn clean(place: &Place, programs: &Programs, dir: &std::path::Path, out: Output) -> Result<()> {
    if place.record().exists()
        && let Err(error) = stop(place, programs).await
    {
        kill_all(place);
        return Err(error.hint(format!("rm -r {}    (left for a look)", dir.display())));
    }
    directory::remove(dir)?;
    out.step("removed", &format!("the fleet and {}", dir.display()));
    Ok(())
}
