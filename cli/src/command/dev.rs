//! `windlass dev`: a fleet on this machine.

use crate::args::{Dev, DevDir, DevUp};
use crate::dev::interrupt::Interrupt;
use crate::dev::place::Place;
use crate::dev::programs::Programs;
use crate::dev::{down, status, stay, up};
use crate::error::Result;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::table;

/// Runs the verb.
pub async fn run(invocation: &Invocation, args: Dev) -> Result {
    match args {
        Dev::Up(args) => start(invocation, &args).await,
        Dev::Down(DevDir { dir }) => {
            down(&Place::new(&dir)?, &Programs::find()?, &invocation.out).await.map(|()| Exit::Done)
        }
        Dev::Status(DevDir { dir }) => show(invocation, &Place::new(&dir)?).await,
    }
}

async fn start(invocation: &Invocation, args: &DevUp) -> Result {
    let out = &invocation.out;
    let place = Place::new(&args.dir)?;
    let programs = Programs::find()?;
    if args.detach {
        up(&place, args.hosts, &programs, out).await?;
        let dir = place.dir().display();
        out.talk(&format!("export WINDLASS_CONFIG={}", place.config().display()));
        out.talk(&format!("windlass host list; windlass dev down --dir {dir}"));
        return Ok(Exit::Done);
    }
    let mut interrupt = Interrupt::catch()?;
    let begun = tokio::select! {
        begun = up(&place, args.hosts, &programs, out) => Some(begun),
        () = interrupt.came() => None,
    };
    let shown = match begun {
        // What has been started stays, for a look; `dev down` is named in the error's hint.
        Some(Err(error)) => return Err(error),
        Some(Ok(_)) => stay(&place, &mut interrupt, out).await,
        None => Ok(()),
    };
    if place.record().exists() {
        out.talk("stopping the fleet");
        down(&place, &programs, out).await?;
    }
    shown.map(|()| Exit::Done)
}

async fn show(invocation: &Invocation, place: &Place) -> Result {
    let status = status::look(place).await?;
    if invocation.out.format.is_structured() {
        invocation.out.object(&status.json())?;
    } else {
        let (header, rows) = status.rows();
        invocation.out.data(&table::render(&header, &rows))?;
    }
    Ok(Exit::Done)
}
