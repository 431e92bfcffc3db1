//! Which apps have a place on this host.
//!
//! An order takes no room before what it orders was shown to be signed: until then the first release of an app is known in
//! memory alone, and only a few at once. An app of which nothing is there is forgotten when another one needs its place.

use windlass_proto::fence::Fence;
use windlass_proto::id::AppName;
use windlass_proto::limits::{APPS, FIRST_RELEASES};
use windlass_proto::phase::Fault;
use windlass_release::{Event, Staging, State};

use super::unwilling::Unwilling;
use super::{App, Driver};
use crate::clock;
use crate::dispatch::Lanes;
use crate::exchange::Under;
use crate::perform::chain;

impl App {
    const fn is_pending(&self) -> bool {
        !self.on_record && !self.state.is_settled()
    }

    fn ordered_under(&self) -> Option<Fence> {
        fence(self.under.as_ref())
    }
}

fn fence(under: Option<&Under>) -> Option<Fence> {
    under.map(|under| under.offer.signed.fence)
}

impl Driver {
    pub(super) fn adopt(&mut self, state: State, on_record: bool) {
        let lanes = Lanes::new(state.app.clone(), self.yard.clone());
        let app = App { state, lanes, detail: String::new(), under: None, on_record };
        self.apps.insert(app.state.app.clone(), app);
    }

    /// Lets an app in that is not here yet, in memory.
    pub(super) fn make_room(&mut self, name: &AppName) -> Result<(), Unwilling> {
        if self.apps.contains_key(name) {
            return Ok(());
        }
        if self.apps.values().filter(|app| app.state.has_place()).count() >= APPS {
            return Err(Unwilling::Full);
        }
        if self.apps.values().filter(|app| app.is_pending()).count() >= FIRST_RELEASES {
            // A coordinator keeps nobody waiting but itself.
            let own = fence(self.ordering.as_ref());
            let foreign = self.oldest(|app| app.is_pending() && app.ordered_under() != own);
            self.give_up(&foreign.ok_or(Unwilling::Crowded)?);
        }
        let failed = |app: &App| !app.on_record && app.state.is_settled();
        if self.apps.values().filter(|app| failed(app)).count() >= FIRST_RELEASES
            && let Some(oldest) = self.oldest(failed)
        {
            self.forget(&oldest);
        }
        // What was forgotten may come back, and must not seem older than what was told of it. No host changes its state more
        // often than once a millisecond.
        let seq = clock::wall().0.unsigned_abs().max(self.newest_forgotten);
        self.adopt(State { seq, ..State::new(name.clone()) }, false);
        Ok(())
    }

    fn oldest(&self, which: impl Fn(&App) -> bool) -> Option<AppName> {
        let oldest = self.apps.values().filter(|app| which(app)).min_by_key(|app| app.state.entered);
        oldest.map(|app| app.state.app.clone())
    }

    /// Ends the fetching of a first release in favour of another one.
    fn give_up(&mut self, name: &AppName) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let Some(op) = app.state.operation.as_ref().map(|operation| operation.op.clone()) else { return };
        app.lanes.cancel_staging();
        let reason = "given up: this host was ordered other first releases by a later coordinator".to_owned();
        let news = Staging::Failed { fault: Fault::Policy, reason };
        if let Err(why) = self.step(name, Event::Staging { op, news }) {
            tracing::debug!(app = %name, %why, "not given up");
        }
    }

    /// Which app of which nothing is here gives its place to one that comes on record now; `None` where there is room.
    pub(super) fn place(&self) -> Result<Option<AppName>, Unwilling> {
        if self.apps.values().filter(|app| app.on_record).count() < APPS {
            return Ok(None);
        }
        let empty = |app: &App| app.on_record && app.state.is_settled() && !app.state.has_place();
        self.oldest(empty).map(Some).ok_or(Unwilling::Full)
    }

    /// What is staged comes on record, if there is room for that.
    pub(super) fn if_it_fits(&self, name: &AppName, event: Event) -> Event {
        let Event::Staging { op, news: Staging::Done } = event else { return event };
        let is_first = self.apps.get(name).is_some_and(|app| !app.on_record);
        let news = match self.place() {
            Err(full) if is_first => Staging::Failed { fault: Fault::Host, reason: full.to_string() },
            _ => Staging::Done,
        };
        Event::Staging { op, news }
    }

    /// Nothing of the app is here, nor on record any more. What it wrote itself stays.
    pub(super) fn forget(&mut self, name: &AppName) {
        let Some(app) = self.apps.remove(name) else { return };
        tracing::info!(app = %name, "app forgotten: nothing of it is here");
        self.newest_forgotten = self.newest_forgotten.max(app.state.seq);
        self.published.send_modify(|published| drop(published.apps.remove(name)));
        self.counted.forget(name);
        tokio::spawn(app.lanes.finish());
        let removed = tokio::task::block_in_place(|| self.yard.host.layout.remove_app(name));
        if let Err(error) = removed {
            tracing::info!(app = %name, error = chain(&error), "directories stay");
        }
    }
}
