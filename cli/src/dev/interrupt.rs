//! Ctrl-C and SIGTERM as something to wait for, so that what was started can be taken down.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{ExpectedError, Result};

/// From here on the two signals no longer end the program by themselves.
#[derive(Debug)]
pub struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// Takes over both signals.
    pub fn catch() -> Result<Self> {
        let failed = |error| ExpectedError::failed("cannot wait for signals").because(error);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Returns when one of them comes, or came since the last call.
    pub async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
