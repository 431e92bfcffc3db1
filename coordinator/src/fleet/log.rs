//! The fleet's events: a bounded log that people read and follow.

use tokio::sync::watch;

use super::record::EventRecord;
use super::{EVENTS, Fleet, Refusal, persist};

/// Which events are wanted; empty fields do not filter.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this app.
    pub app: String,
    /// Of this host.
    pub host: String,
    /// Of this rollout.
    pub rollout: String,
}

impl EventFilter {
    fn takes(&self, event: &EventRecord) -> bool {
        let takes = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
        takes(&self.app, &event.app) && takes(&self.host, &event.host) && takes(&self.rollout, &event.rollout)
    }
}

impl Fleet {
    /// Writes an event; `seq` and `at` are filled in.
    pub(super) fn log(&mut self, event: EventRecord) {
        debug_assert_eq!(documented(&event), Ok(()), "{event:?}");
        let event = EventRecord { seq: self.next_event, at: self.now, ..event };
        self.next_event += 1;
        self.changes.put(persist::event_key(event.seq), &event);
        self.events.push_back(event);
        while self.events.len() > EVENTS {
            if let Some(oldest) = self.events.pop_front() {
                self.changes.delete(persist::event_key(oldest.seq));
            }
        }
    }

    /// Refuses where something that came after a number is missing: it is no longer kept, or the number was never reached.
    pub fn events_from(&self, after: u64) -> Result<(), Refusal> {
        let newest = self.newest_event();
        if after > newest {
            return Err(Refusal::wrong_state(format!(
                "event {after} has not happened here: the newest is {newest}. This coordinator was restored from a backup, or it \
                 is another one; begin with --after {newest}"
            )));
        }
        let oldest = self.events.front().map_or(self.next_event, |event| event.seq);
        if after == 0 || after + 1 >= oldest {
            return Ok(());
        }
        Err(Refusal::wrong_state(format!(
            "events {} to {} are no longer kept, {EVENTS} are; go on with --after {}",
            after + 1,
            oldest - 1,
            oldest - 1
        )))
    }

    /// Events after a number, oldest first: the `limit` newest where `newest`, else the `limit` next.
    pub fn events(&self, after: u64, filter: &EventFilter, limit: usize, newest: bool) -> Vec<EventRecord> {
        let wanted = self.events.iter().filter(|event| event.seq > after && filter.takes(event));
        if newest {
            let mut last: Vec<_> = wanted.rev().take(limit).cloned().collect();
            last.reverse();
            return last;
        }
        wanted.take(limit).cloned().collect()
    }

    /// Changes whenever an event was written.
    pub fn follow_events(&self) -> watch::Receiver<u64> {
        self.event_seen.subscribe()
    }

    /// Number of the newest event.
    pub const fn newest_event(&self) -> u64 {
        self.next_event - 1
    }
}

/// Whether an event is as its kind says.
fn documented(event: &EventRecord) -> Result<(), String> {
    let fields = [("app", &event.app), ("host", &event.host), ("rollout", &event.rollout)];
    let present = fields.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name);
    let kind = windlass_proto::event::by_name(&event.kind);
    kind.ok_or("a kind that is not documented")?.check(&present.collect::<Vec<_>>())
}

/// An event of this kind by this one, about nothing in particular yet.
pub(super) fn event(kind: impl Into<String>, who: &str, message: impl Into<String>) -> EventRecord {
    EventRecord {
        seq: 0,
        at: windlass_proto::time::Timestamp(0),
        kind: kind.into(),
        who: who.to_owned(),
        app: String::new(),
        host: String::new(),
        rollout: String::new(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use windlass_proto::fence::LeaderId;
    use windlass_proto::time::Timestamp;

    use super::*;
    use crate::store::Fence;

    #[test]
    fn whoever_resumes_misses_nothing_or_is_told() {
        let fence = Fence { epoch: 1, leader: LeaderId([1; 16]) };
        let mut fleet = Fleet::new("test".into(), fence, Timestamp(1_000));
        assert_eq!(fleet.events_from(0), Ok(()));
        for n in 0..EVENTS + 5 {
            fleet.log(event("token.revoked", "operator/ana", n.to_string()));
        }
        let newest = (EVENTS + 5) as u64;
        for after in [0, 5, 6, newest] {
            assert_eq!(fleet.events_from(after), Ok(()), "{after}");
        }
        let lost = fleet.events_from(3).unwrap_err().message;
        assert!(
            lost.starts_with("events 4 to 5 are no longer kept") && lost.ends_with("--after 5"),
            "{lost}"
        );
        let never = fleet.events_from(newest + 1).unwrap_err().message;
        assert!(never.contains("the newest is 10005") && never.contains("backup"), "{never}");
    }

    #[test]
    fn what_is_not_documented_is_found() {
        let mut record = event("host.silent", "coordinator", "");
        assert!(documented(&record).unwrap_err().contains("no host"));
        record.host = "web-1".into();
        assert_eq!(documented(&record), Ok(()));
        record.kind = "host.won".into();
        assert!(documented(&record).is_err());
    }
}
