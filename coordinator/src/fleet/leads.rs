//! Whom this coordinator leads. What a host shows is judged by `windlass_proto::fence`; what follows from that is done here.
//!
//! A fence joins the lineage with the first order under it, in the same commit, so before any host can have obeyed it. Starts
//! that order nothing leave nothing behind.

use serde::{Deserialize, Serialize};
use windlass_proto::fence::{Fence, Led, Lineage, Restore, Shown, Verdict};
use windlass_proto::id::{HostId, HostName};
use windlass_proto::rpc::ErrorKind;
use windlass_proto::time::Timestamp;

use super::log::event;
use super::record::Foreign;
use super::{Act, Fleet, Refusal, persist};
use crate::store::StateStore;

/// What this state was led as, and what it may lead.
#[derive(Debug, Clone)]
pub(super) struct Leads {
    /// This leadership.
    pub(super) fence: Fence,
    /// All that it knows of.
    pub(super) lineage: Lineage,
    pub(super) restore: Restore,
    /// Assignments made under this fence.
    mark: u64,
    deposed: Option<Deposed>,
    /// It must lead above this epoch before it goes on.
    rise: Option<u64>,
}

impl Leads {
    pub(super) fn new(fence: Fence) -> Self {
        let (lineage, restore) = (Lineage::default(), Restore::default());
        Self { fence, lineage, restore, mark: 0, deposed: None, rise: None }
    }
}

/// The end of a coordinator: another one of this fleet has come as far or further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "this coordinator is deposed: host {host} has obeyed {by}, signed with this fleet's key, while {own} led this state; one of them was started from a copy. If this one is right, and all others are stopped for good, start it once with --after-restore"
)]
pub struct Deposed {
    /// Whom the host obeys.
    pub by: Fence,
    /// What was led here.
    pub own: Fence,
    /// Who showed it.
    pub host: HostName,
    /// When.
    pub at: Timestamp,
}

/// Whether this state may be led at all; read before a campaign, which would only raise the epoch.
pub async fn deposed(store: &dyn StateStore) -> Result<Option<Deposed>, persist::LoadError> {
    persist::one(store).await
}

impl Fleet {
    /// This leadership.
    pub const fn fence(&self) -> Fence {
        self.leads.fence
    }

    /// Leaderships below this epoch are of the time that a restore has ended; 0: there was none.
    pub const fn restored_below(&self) -> u64 {
        self.leads.restore.below
    }

    /// Whether this coordinator's time is over.
    pub const fn deposed(&self) -> Option<&Deposed> {
        self.leads.deposed.as_ref()
    }

    /// What it must lead above, once.
    pub const fn take_rise(&mut self) -> Option<u64> {
        self.leads.rise.take()
    }

    /// Judges what a host shows in its greeting. Gives the entry of the lineage that the host is to see, or the reason why this
    /// coordinator does not lead it.
    pub fn meet(&mut self, id: &HostId, shown: &Shown) -> Result<Option<Led>, Refusal> {
        let host = self.enrolled(id)?.record.name.clone();
        let own = self.leads.fence;
        match self.leads.lineage.judge(own, self.leads.restore, shown) {
            Verdict::Leads { follows } => {
                self.is_led(id);
                Ok(follows)
            }
            Verdict::TakesIn { led, rises } => {
                self.take_in(&host, led);
                if rises {
                    let above = self.leads.rise.unwrap_or(0).max(led.fence.epoch);
                    self.leads.rise = Some(above);
                    let message = format!("this coordinator begins to lead above {}; dial again", led.fence);
                    return Err(Refusal::new(ErrorKind::Unavailable, message));
                }
                self.is_led(id);
                Ok(self.leads.lineage.get(&led.fence))
            }
            Verdict::Foreign => Err(self.is_foreign(id, shown)),
            Verdict::Deposed => {
                let by = shown.led.map_or(own, |led| led.fence);
                let deposed = Deposed { by, own, host, at: self.now };
                self.changes.put(persist::single::<Deposed>(), &deposed);
                let message = deposed.to_string();
                self.log(event("coordinator.deposed", "coordinator", message.clone()));
                self.leads.deposed = Some(deposed);
                Err(Refusal::wrong_state(message))
            }
        }
    }

    fn take_in(&mut self, host: &HostName, led: Led) {
        self.know(led);
        let message = format!(
            "{host} had obeyed {}, which this state did not know; after the restore it leads on",
            led.fence
        );
        let mut record = event("host.taken_in", "coordinator", message);
        record.host = host.to_string();
        self.log(record);
    }

    fn is_led(&mut self, id: &HostId) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        if host.record.foreign.take().is_none() {
            return;
        }
        let name = host.record.name.to_string();
        self.keep(id);
        let mut record = event("host.led", "coordinator", format!("{name} obeys this coordinator again"));
        record.host = name;
        self.log(record);
    }

    fn is_foreign(&mut self, id: &HostId, shown: &Shown) -> Refusal {
        let foreign = Foreign {
            fence: shown.led.map(|led| led.fence),
            epoch: shown.led.map_or(shown.highest, |led| led.fence.epoch.max(shown.highest)),
            signed: shown.signed,
        };
        let words = foreign.words(self.leads.fence);
        let Some(host) = self.hosts.get_mut(id) else { return Refusal::wrong_state(words) };
        let name = host.record.name.to_string();
        let refusal = Refusal::wrong_state(format!("host {name} is not led: {words}"));
        if host.record.foreign.as_ref() == Some(&foreign) {
            return refusal;
        }
        host.record.foreign = Some(foreign);
        // A session from before says nothing any more.
        host.session = None;
        self.keep(id);
        tracing::warn!(host = name, "host is not led: {words}");
        let mut record = event("host.foreign", "coordinator", format!("{name} is not led: {words}"));
        record.host = name;
        self.log(record);
        refusal
    }

    /// Before an order: what hosts may obey from now on is part of the lineage. Gives the order its mark.
    pub(super) fn lead_on(&mut self, is_assignment: bool) -> u64 {
        let is_known = self.leads.lineage.get(&self.leads.fence).is_some();
        self.leads.mark += u64::from(is_assignment);
        if is_assignment || !is_known {
            self.know(Led { fence: self.leads.fence, mark: self.leads.mark });
        }
        self.leads.mark
    }

    fn know(&mut self, led: Led) {
        if let Some(dropped) = self.leads.lineage.add(led) {
            self.changes.delete(persist::fence_key(&dropped));
        }
        if let Some(led) = self.leads.lineage.get(&led.fence) {
            self.changes.put(persist::fence_key(&led.fence), &led);
        }
    }

    /// An operator has said that this state, restored from a backup, is the one that leads.
    pub fn begin_restore(&mut self) {
        self.leads.restore.now = true;
        self.restored();
        self.changes.delete(persist::single::<Deposed>());
        let act = Act {
            who: "coordinator".to_owned(),
            method: "run --after-restore".to_owned(),
            about: self.leads.fence.to_string(),
            ..Act::default()
        };
        self.record(act, None);
        let message = format!("this state leads after a restore, as {}", self.leads.fence);
        tracing::warn!("{message}");
        self.log(event("coordinator.restored", "coordinator", message));
    }

    /// What is below this leadership is of the time that the restore has ended, also at later starts.
    fn restored(&mut self) {
        self.leads.restore.below = self.leads.fence.epoch;
        let below = self.leads.restore.below;
        self.changes.put(persist::single::<Restored>(), &Restored { below });
    }

    /// Leads on under another fence: all hosts dial again and are shown it.
    pub fn lead_anew(&mut self, fence: Fence) {
        tracing::warn!(epoch = fence.epoch, "leading above what a host has obeyed");
        self.leads.fence = fence;
        self.leads.mark = 0;
        self.restored();
        for host in self.hosts.values_mut() {
            host.session = None;
        }
        self.recover();
    }

    pub(super) async fn load_leads(&mut self, store: &dyn StateStore) -> Result<(), persist::LoadError> {
        for (_, led) in persist::rows::<Led>(store).await? {
            self.leads.lineage.add(led);
        }
        let restored = persist::one::<Restored>(store).await?;
        self.leads.restore.below = restored.map_or(0, |restored| restored.below);
        Ok(())
    }
}

/// What is kept of a restore.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Restored {
    below: u64,
}

impl Foreign {
    /// Why the host is not led, for people.
    pub fn words(&self, own: Fence) -> String {
        match self.fence {
            None => format!(
                "it has obeyed epoch {}, and this coordinator leads {own}: this state is older than the fleet",
                self.epoch
            ),
            Some(fence) => {
                let proof = if self.signed { "" } else { ", by its word alone" };
                format!(
                    "it has obeyed {fence}{proof}, further than this coordinator's state knows; one of the two is from an old copy"
                )
            }
        }
    }
}
