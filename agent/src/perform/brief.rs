//! What an effect is told and what it tells.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use windlass_proto::digest::Digest;
use windlass_proto::id::AppName;
use windlass_proto::release::ReleaseRef;
use windlass_release::{Event, Operation};

use crate::dispatch::{Finding, Found};
use crate::failpoint::Performed;
use crate::hook::Stops;
use crate::probe::Transcripts;
use crate::shim::order::Started;

/// What an effect came to.
#[derive(Debug)]
pub struct Outcome {
    /// For the machine.
    pub event: Event,
    /// The process to watch from now on.
    pub process: Option<Box<Started>>,
    /// What was done on the way.
    pub performed: Performed,
}

impl From<Event> for Outcome {
    fn from(event: Event) -> Self {
        Self { event, process: None, performed: Performed::default() }
    }
}

/// Takes words for people while an effect is at work.
#[derive(Debug, Clone)]
pub struct Teller {
    /// Of this app.
    pub app: AppName,
    /// To the driver.
    pub found: mpsc::Sender<Found>,
}

impl Teller {
    /// Passes the words on; drops them where the driver is busy, for newer ones follow.
    pub(super) fn tell(&self, words: String) {
        let _ = self.found.try_send(Found { app: self.app.clone(), finding: Finding::Detail(words) });
    }
}

/// What the effects of one step have in common.
#[derive(Debug, Clone)]
pub struct Brief {
    /// The app.
    pub app: AppName,
    /// The step's turn.
    pub turn: u64,
    /// The operation at hand.
    pub operation: Option<Operation>,
    /// How hooks are told to end before their time.
    pub stops: Stops,
    /// The contact with the coordinator, in words.
    pub contact: String,
    /// For words about what is being done.
    pub teller: Teller,
    /// The app's last probe checks.
    pub transcripts: Arc<Transcripts>,
    /// What retention must leave, as the newest state has it.
    pub keep: Arc<Mutex<Vec<Digest>>>,
}

impl Brief {
    /// Where the operation at hand goes.
    pub(super) fn to(&self) -> Option<ReleaseRef> {
        self.operation.as_ref().map(|operation| operation.to.clone())
    }
}
