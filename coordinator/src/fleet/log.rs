//! The fleet's events: a bounded log that people read and follow.

use tokio::sync::watch;

use super::record::EventRecord;
use super::{EVENTS, Fleet, persist};

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
