//! Ctrl-C and SIGTERM while something is followed.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{ExpectedError, Result};

/// Listens from its making on; until then the signals end the program as usual.
#[derive(Debug)]
pub struct Interrupt {
    int: Signal,
    term: Signal,
}

impl Interrupt {
    /// Starts to listen.
    pub fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| ExpectedError::failed("cannot listen for signals").because(error))
        };
        Ok(Self { int: listen(SignalKind::interrupt())?, term: listen(SignalKind::terminate())? })
    }

    /// Completes at the next signal.
    pub async fn first(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}
