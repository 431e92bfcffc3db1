//! What was under way when the agent ended: the journal's last word of each app, or what the links say where it has none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windlass_proto::id::AppName;
use windlass_release::State;

use crate::journal::{Change, Damage, Journal, JournalError, Recovered};
use crate::layout::Layout;
use crate::{held, link};

/// The journal's record of an app: the state, and the boot whose clock its times are of.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot: String,
    state: State,
}

/// The states of all apps, and the journal behind them.
#[derive(Debug)]
pub struct Ledger {
    journal: Journal,
    boot: String,
}

/// One app as it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The state.
    pub state: State,
    /// Whether its times are of this boot.
    pub same_boot: bool,
}

impl Ledger {
    /// Takes what the journal says, and completes it from the links: an app with a confirmed release that the journal
    /// does not know (it was damaged, or is new) is as good as confirmed.
    pub fn open(journal: Journal, recovered: &Recovered, layout: &Layout, boot: String) -> (Self, Vec<Left>) {
        match &recovered.damage {
            None => {}
            Some(Damage::TornTail) => tracing::info!("journal's last record was half written and is ignored"),
            Some(Damage::Middle { path, offset }) => {
                tracing::error!(path = %path.display(), offset, "journal is damaged; links say what it does not");
            }
        }
        let mut apps = BTreeMap::new();
        for (app, payload) in &recovered.latest.states {
            match serde_json::from_slice::<Record>(payload) {
                Ok(record) => {
                    let same_boot = record.boot == boot;
                    apps.insert(app.clone(), Left { state: record.state, same_boot });
                }
                Err(error) => {
                    tracing::error!(%app, %error, "journal's record is not understood; links are believed")
                }
            }
        }
        for app in held::apps(layout) {
            if let Some(state) = from_links(layout, &app).filter(|_| !apps.contains_key(&app)) {
                tracing::warn!(%app, "app is known by its links only");
                apps.insert(app, Left { state, same_boot: false });
            }
        }
        for left in apps.values_mut() {
            let floor = recovered.latest.floors.get(&left.state.app).copied().unwrap_or(0);
            left.state.counter = left.state.counter.max(floor);
        }
        (Self { journal, boot }, apps.into_values().collect())
    }

    /// Makes a state durable. Blocks until it is on the disk.
    pub fn keep(&mut self, state: &State) -> Result<(), JournalError> {
        let record = Record { boot: self.boot.clone(), state: state.clone() };
        let payload = serde_json::to_vec(&record).unwrap_or_default();
        let mut changes = vec![Change::State { app: state.app.clone(), payload }];
        // Apart from the state, so that it outlives a record that cannot be read.
        if self.journal.latest().floors.get(&state.app).copied().unwrap_or(0) < state.counter {
            changes.push(Change::Floor { app: state.app.clone(), counter: state.counter });
        }
        self.journal.append_all(changes)
    }
}

fn from_links(layout: &Layout, app: &AppName) -> Option<State> {
    let digest = link::confirmed(layout, app).ok().flatten()?;
    let manifest = held::manifest(&layout.release(app, &digest), &digest).ok()?;
    let release = manifest.release_ref();
    let mut state = State::new(app.clone());
    state.counter = release.counter;
    state.current = Some(release.clone());
    state.confirmed = Some(release);
    Some(state)
}
