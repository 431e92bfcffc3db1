//! What was under way when the agent ended: the journal's last word of each app, or what the links say where it has none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windlass_proto::fence::{Fence, Obeyed};
use windlass_proto::id::AppName;
use windlass_release::{HISTORY, State};

use crate::journal::{Change, Damage, Journal, JournalError, Recovered};
use crate::layout::Layout;
use crate::{clock, held, link};

/// The journal's record of an app: the state, and the boot whose clock its times are of.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot: String,
    state: State,
    /// What the host had obeyed by then, whichever app it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    obeyed: Option<Obeyed>,
}

/// The states of all apps, and the journal behind them.
#[derive(Debug)]
pub struct Ledger {
    journal: Journal,
    boot: String,
    obeyed: Option<Obeyed>,
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
    /// The journal, and what [`left`] says of it.
    pub fn open(journal: Journal, recovered: &Recovered, layout: &Layout, boot: String) -> (Self, Vec<Left>) {
        let left = left(recovered, layout, &boot);
        (Self { journal, boot, obeyed: obeyed(recovered) }, left)
    }

    /// Makes a state durable. Blocks until it is on the disk.
    pub fn keep(&mut self, state: &State) -> Result<(), JournalError> {
        self.keep_under(state, None, None)
    }

    /// The same for a state in which a signed release was accepted under this fence, and whose app takes the place of another
    /// one, which is forgotten. They are one record.
    pub fn keep_under(
        &mut self,
        state: &State,
        accepted: Option<Obeyed>,
        forgotten: Option<&AppName>,
    ) -> Result<(), JournalError> {
        let is_newer = |new: &Obeyed| {
            self.obeyed.as_ref().is_none_or(|old| {
                let (old, new) = (old.led(), new.led());
                new.fence.epoch > old.fence.epoch || (new.fence == old.fence && new.mark > old.mark)
            })
        };
        let obeyed = accepted.filter(is_newer).or_else(|| self.obeyed.clone());
        let record = Record { boot: self.boot.clone(), state: state.clone(), obeyed };
        let mut changes: Vec<Change> =
            forgotten.map(|app| Change::Gone { app: app.clone() }).into_iter().collect();
        changes.push(Change::State { app: state.app.clone(), payload: self.journal.payload(&record)? });
        // Apart from the state, so that it outlives a record that cannot be read.
        if self.journal.latest().floors.get(&state.app).copied().unwrap_or(0) < state.counter {
            changes.push(Change::Floor { app: state.app.clone(), counter: state.counter });
        }
        self.journal.append_all(changes)?;
        self.obeyed = record.obeyed;
        Ok(())
    }

    /// What this host has obeyed.
    pub const fn obeyed(&self) -> Option<&Obeyed> {
        self.obeyed.as_ref()
    }
}

/// What the host has obeyed last, by the journal.
fn obeyed(recovered: &Recovered) -> Option<Obeyed> {
    let records = recovered.latest.states.values();
    let all = records.filter_map(|payload| serde_json::from_slice::<Record>(payload).ok()?.obeyed);
    all.max_by_key(|obeyed| (obeyed.signed.fence.epoch, obeyed.mark))
}

/// Has a host that obeyed somebody obey anybody of its fleet again. Returns whom it had obeyed.
pub fn reset_fence(journal: &mut Journal) -> Result<Option<Fence>, JournalError> {
    let mut last = None;
    let mut changes = Vec::new();
    for (app, payload) in &journal.latest().states {
        // What is not understood is not obeyed either.
        let Ok(mut record) = serde_json::from_slice::<Record>(payload) else { continue };
        last = last.max(record.obeyed.take().map(|obeyed| obeyed.signed.fence));
        record.state.epoch = 0;
        let payload = journal.payload(&record)?;
        changes.push(Change::State { app: app.clone(), payload });
    }
    if !changes.is_empty() {
        journal.append_all(changes)?;
    }
    Ok(last)
}

/// Takes what the journal says, and completes it from the links: an app with a confirmed release that the journal does not
/// know (it was damaged, or is new) is as good as confirmed.
pub fn left(recovered: &Recovered, layout: &Layout, boot: &str) -> Vec<Left> {
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
    if let Some(damage) = &recovered.damage {
        for left in apps.values_mut() {
            believe_link(layout, left, damage);
        }
    }
    for app in held::apps(layout) {
        if let Some(state) = from_links(layout, &app).filter(|_| !apps.contains_key(&app)) {
            tracing::warn!(%app, "app is known by its links only");
            apps.insert(app, Left { state, same_boot: false });
        }
    }
    let damaged = matches!(recovered.damage, Some(Damage::Middle { .. }));
    let held = if damaged { held::scan(layout) } else { Vec::new() };
    for left in apps.values_mut() {
        let app = &left.state.app;
        let floor = recovered.latest.floors.get(app).copied().unwrap_or(0);
        // A lost record may have had a higher one, and what is here was taken.
        let here = held.iter().filter(|row| row.release.app == *app).map(|row| row.release.counter).max();
        left.state.counter = left.state.counter.max(floor).max(here.unwrap_or(0));
    }
    apps.into_values().collect()
}

/// Of a damaged journal the newest records may be missing. The `confirmed` link moves after its record, so where the two
/// differ the link is newer: what was under way then is over. A torn tail is nothing that was acknowledged, and the link may
/// be behind; unless it names what the journal does not know as confirmed, for then what is torn there was damaged later.
fn believe_link(layout: &Layout, left: &mut Left, damage: &Damage) {
    let state = &left.state;
    let Some(linked) = from_links(layout, &state.app) else { return };
    let named = linked.confirmed.as_ref().map(|release| release.digest);
    let may_be_behind = *damage == Damage::TornTail;
    let known = state.confirmed.iter().chain(state.history.iter().filter(|_| may_be_behind));
    if known.map(|release| Some(release.digest)).any(|known| known == named) {
        return;
    }
    tracing::error!(app = %state.app, "confirmed link is newer than the journal and is believed");
    let history = state.confirmed.iter().chain(&state.history).take(HISTORY).cloned().collect();
    let state = State {
        seq: linked.seq.max(state.seq),
        epoch: state.epoch,
        counter: linked.counter.max(state.counter),
        history,
        ..linked
    };
    // The process may be any: it is put right as after a boot.
    *left = Left { state, same_boot: false };
}

fn from_links(layout: &Layout, app: &AppName) -> Option<State> {
    let digest = link::confirmed(layout, app).ok().flatten()?;
    let manifest = held::manifest(&layout.release(app, &digest), &digest).ok()?;
    let release = manifest.release_ref();
    let mut state = State::new(app.clone());
    state.counter = release.counter;
    // The coordinator knows higher numbers than 0. No host changes its state more often than once a millisecond.
    state.seq = clock::wall().0.unsigned_abs();
    state.current = Some(release.clone());
    state.confirmed = Some(release);
    Some(state)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use windlass_proto::bundle::{AuthorKey, Entry, EntryKind, EntryPath, Envelope, Manifest};
    use windlass_proto::digest::Digest;
    use windlass_proto::fence::{LeaderId, SignedFence};
    use windlass_proto::phase::Phase;
    use windlass_proto::release::ReleaseRef;
    use windlass_proto::time::Timestamp;

    use super::*;
    use crate::journal::Latest;

    pub(crate) fn app() -> AppName {
        AppName::new("shop").unwrap()
    }

    pub(crate) fn release(layout: &Layout, counter: u64) -> ReleaseRef {
        let entry = Entry { path: EntryPath::new("empty").unwrap(), kind: EntryKind::Directory {} };
        let manifest = Manifest {
            format: 1,
            app: app(),
            version: format!("1.{counter}").parse().unwrap(),
            counter,
            release: serde_json::from_str(r#"{"runtime":{"kind":"static"}}"#).unwrap(),
            entries: vec![entry],
        };
        let mut envelope = Envelope::new(&manifest);
        envelope.sign(&AuthorKey::generate().unwrap());
        let digest: Digest = manifest.digest();
        std::fs::create_dir_all(layout.tree(&app(), &digest)).unwrap();
        std::fs::write(layout.envelope(&app(), &digest), envelope.encode()).unwrap();
        manifest.release_ref()
    }

    pub(crate) fn host(dir: &Path) -> Layout {
        let layout = Layout::new(dir.join("state"), dir.join("run")).unwrap();
        layout.create().unwrap();
        layout.create_app(&app()).unwrap();
        layout
    }

    fn open(layout: &Layout, latest: Latest, damage: Option<Damage>) -> Left {
        let (journal, _) = Journal::open(layout.state()).unwrap();
        let (_, mut left) = Ledger::open(journal, &Recovered { latest, damage }, layout, "boot-2".into());
        left.remove(0)
    }

    fn recorded(state: &State, boot: &str) -> Latest {
        let record = Record { boot: boot.into(), state: state.clone(), obeyed: None };
        let states = [(app(), serde_json::to_vec(&record).unwrap())].into();
        Latest { states, floors: [(app(), 9)].into() }
    }

    #[test]
    fn what_was_kept_comes_back_with_its_boot_and_its_floor() {
        let dir = tempfile::tempdir().unwrap();
        let layout = host(dir.path());
        let state = State { seq: 5, ..State::new(app()) };
        let left = open(&layout, recorded(&state, "boot-2"), None);
        assert_eq!(left, Left { state: State { counter: 9, ..state.clone() }, same_boot: true });
        let left = open(&layout, recorded(&state, "boot-1"), Some(Damage::TornTail));
        assert!(!left.same_boot);
    }

    #[test]
    fn kept_states_are_what_the_journal_gives_back() {
        let dir = tempfile::tempdir().unwrap();
        let layout = host(dir.path());
        let (journal, recovered) = Journal::open(layout.state()).unwrap();
        let (mut ledger, left) = Ledger::open(journal, &recovered, &layout, "boot-1".into());
        assert_eq!(left, []);
        let state = State { seq: 7, counter: 3, ..State::new(app()) };
        ledger.keep(&state).unwrap();
        drop(ledger);
        let (journal, recovered) = Journal::open(layout.state()).unwrap();
        assert_eq!(recovered.latest.floors[&app()], 3);
        let (_, left) = Ledger::open(journal, &recovered, &layout, "boot-1".into());
        assert_eq!(left, [Left { state, same_boot: true }]);
    }

    #[test]
    fn what_was_obeyed_is_kept_with_the_state_and_goes_up_only_until_it_is_reset() {
        let dir = tempfile::tempdir().unwrap();
        let layout = host(dir.path());
        let open = || {
            let (journal, recovered) = Journal::open(layout.state()).unwrap();
            Ledger::open(journal, &recovered, &layout, "boot-1".into()).0
        };
        let obeyed = |epoch, leader, mark| {
            let fence = Fence { epoch, leader: LeaderId([leader; 16]) };
            Obeyed { signed: SignedFence { fence, signature: vec![leader] }, mark }
        };
        let mut ledger = open();
        assert_eq!(ledger.obeyed(), None);
        let state = State { epoch: 5, ..State::new(app()) };
        ledger.keep(&state).unwrap();
        drop(ledger);
        let mut ledger = open();
        assert_eq!(ledger.obeyed(), None, "a record of before there were fences");
        for (given, is) in [
            (obeyed(5, 1, 2), obeyed(5, 1, 2)),
            (obeyed(5, 1, 1), obeyed(5, 1, 2)),
            (obeyed(5, 2, 9), obeyed(5, 1, 2)),
            (obeyed(4, 2, 9), obeyed(5, 1, 2)),
            (obeyed(5, 1, 3), obeyed(5, 1, 3)),
            (obeyed(6, 2, 0), obeyed(6, 2, 0)),
        ] {
            ledger.keep_under(&state, Some(given), None).unwrap();
            assert_eq!(ledger.obeyed(), Some(&is));
        }
        // Another app's record carries it, too, also where it takes the place of the first.
        let news = State::new(AppName::new("news").unwrap());
        ledger.keep(&news).unwrap();
        let blog = State::new(AppName::new("blog").unwrap());
        ledger.keep_under(&blog, None, Some(&news.app)).unwrap();
        drop(ledger);
        assert_eq!(open().obeyed(), Some(&obeyed(6, 2, 0)));

        let (mut journal, _) = Journal::open(layout.state()).unwrap();
        assert_eq!(reset_fence(&mut journal).unwrap(), Some(obeyed(6, 2, 0).signed.fence));
        drop(journal);
        let (journal, recovered) = Journal::open(layout.state()).unwrap();
        let (ledger, left) = Ledger::open(journal, &recovered, &layout, "boot-1".into());
        assert_eq!(ledger.obeyed(), None);
        assert_eq!(left.iter().map(|left| left.state.epoch).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn without_a_record_the_confirmed_link_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = host(dir.path());
        let one = release(&layout, 1);
        link::set_confirmed(&layout, &app(), &one.digest, Timestamp(1)).unwrap();
        let unreadable = Latest { states: [(app(), b"{".to_vec())].into(), ..Latest::default() };
        for latest in [Latest::default(), unreadable] {
            let left = open(&layout, latest, None);
            assert_eq!((left.state.confirmed, left.same_boot), (Some(one.clone()), false));
            assert!(left.state.seq > 1_000_000);
        }
    }

    #[test]
    fn a_damaged_journal_gives_way_to_a_newer_link() {
        let dir = tempfile::tempdir().unwrap();
        let layout = host(dir.path());
        let (one, two) = (release(&layout, 1), release(&layout, 2));
        link::set_confirmed(&layout, &app(), &two.digest, Timestamp(1)).unwrap();
        let state =
            State { epoch: 4, current: Some(one.clone()), confirmed: Some(one.clone()), ..State::new(app()) };
        let damage = Damage::Middle { path: "journal.0".into(), offset: 4096 };
        let left = open(&layout, recorded(&state, "boot-2"), Some(damage));
        assert_eq!(
            (left.state.confirmed.clone(), left.state.history.clone()),
            (Some(two.clone()), vec![one.clone()])
        );
        assert_eq!((left.state.epoch, left.state.counter, left.state.phase()), (4, 9, Phase::Idle));
        // The last record was that of its confirmation, and was damaged since.
        let left = open(&layout, recorded(&state, "boot-2"), Some(Damage::TornTail));
        assert_eq!(left.state.confirmed, Some(two.clone()));
        // Torn before it was acknowledged: the link is only behind, as it is with a whole journal.
        let newer = State { confirmed: Some(one.clone()), history: vec![two.clone()], ..state.clone() };
        let left = open(&layout, recorded(&newer, "boot-2"), Some(Damage::TornTail));
        assert_eq!(left.state.confirmed, newer.confirmed);
        let left = open(&layout, recorded(&state, "boot-2"), None);
        assert_eq!(left.state.confirmed, state.confirmed);
    }
}
