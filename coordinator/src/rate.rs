//! How often somebody may do something, by a clock that the caller reads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use windlass_proto::id::HostId;
use windlass_proto::time::{Span, Timestamp};

/// So many times at once, and one more after each such time.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// From one to the next, in the long run.
    pub each: Span,
}

/// What one caller has done of it (generic cell rate algorithm, ITU-T I.371).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meter {
    /// When all of it may be done again.
    whole: Timestamp,
}

impl Meter {
    /// Counts one more, or says how long to wait for it.
    pub fn take(&mut self, rate: Rate, now: Timestamp) -> Result<(), Span> {
        let each = i64::try_from(rate.each.0).unwrap_or(i64::MAX);
        let most = each.saturating_mul(i64::from(rate.burst));
        let whole = self.whole.0.max(now.0).saturating_add(each);
        let over = whole.saturating_sub(now.0).saturating_sub(most);
        if over > 0 {
            return Err(Span(over.unsigned_abs()));
        }
        self.whole = Timestamp(whole);
        Ok(())
    }

    /// Counts so many more that were done without asking.
    pub fn owe(&mut self, rate: Rate, count: usize, now: Timestamp) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let more = i64::try_from(rate.each.0).unwrap_or(i64::MAX).saturating_mul(count);
        self.whole = Timestamp(self.whole.0.max(now.0).saturating_add(more));
    }

    /// Whether nothing of it is taken: it need not be remembered.
    pub fn is_whole(&self, now: Timestamp) -> bool {
        self.whole <= now
    }
}

/// A pace for each host, whatever sessions it opens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Paces(Arc<Table>);

#[derive(Debug)]
struct Table {
    rate: Rate,
    began: Instant,
    meters: Mutex<Meters>,
}

#[derive(Debug)]
struct Meters {
    by_host: HashMap<HostId, Meter>,
    /// So many of them, and those that are whole are forgotten.
    most: usize,
}

/// Meters that are kept before it is looked for whole ones.
const METERS: usize = 1024;

impl Paces {
    /// The same for all hosts.
    pub fn new(rate: Rate) -> Self {
        let meters = Mutex::new(Meters { by_host: HashMap::new(), most: METERS });
        Self(Arc::new(Table { rate, began: Instant::now(), meters }))
    }

    /// Counts one more, or says how long to wait for it.
    pub fn take(&self, host: &HostId) -> Result<(), Span> {
        self.with(host, |meter, now| meter.take(self.0.rate, now))
    }

    /// Counts what has been done already; whatever comes next waits for it.
    pub fn owe(&self, host: &HostId, count: usize) {
        self.with(host, |meter, now| meter.owe(self.0.rate, count, now));
    }

    /// Counts one more, as soon as it is time for it: what the host says next stays on its own side until then.
    pub async fn turn(&self, host: &HostId) {
        while let Err(wait) = self.take(host) {
            tokio::time::sleep(wait.std()).await;
        }
    }

    fn with<T>(&self, host: &HostId, act: impl FnOnce(&mut Meter, Timestamp) -> T) -> T {
        let now = Timestamp(i64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(i64::MAX));
        // A meter is whole after each line: a panic elsewhere leaves nothing half done.
        let mut meters = self.0.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if !meters.by_host.contains_key(host) && meters.by_host.len() >= meters.most {
            meters.by_host.retain(|_, meter| !meter.is_whole(now));
            meters.most = METERS.max(2 * meters.by_host.len());
        }
        act(meters.by_host.entry(host.clone()).or_default(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_after_each_time() {
        let rate = Rate { burst: 3, each: Span::secs(10) };
        let (mut meter, at) = (Meter::default(), |ms: i64| Timestamp(1_000_000 + ms));
        for _ in 0..3 {
            assert_eq!(meter.take(rate, at(0)), Ok(()));
        }
        assert_eq!(meter.take(rate, at(0)), Err(Span::secs(10)));
        assert_eq!(meter.take(rate, at(4_000)), Err(Span::secs(6)), "being refused costs nothing");
        assert_eq!(meter.take(rate, at(10_000)), Ok(()));
        assert_eq!(meter.take(rate, at(10_000)), Err(Span::secs(10)));
        assert!(!meter.is_whole(at(39_999)));
        assert!(meter.is_whole(at(40_000)));
        for _ in 0..3 {
            assert_eq!(meter.take(rate, at(1_000_000)), Ok(()), "what is not taken does not add up");
        }
        assert!(meter.take(rate, at(1_000_000)).is_err());
    }

    #[test]
    fn what_was_done_without_asking_is_waited_for() {
        let rate = Rate { burst: 3, each: Span::secs(10) };
        let (mut meter, at) = (Meter::default(), Timestamp(1_000));
        meter.owe(rate, 5, at);
        assert_eq!(meter.take(rate, at), Err(Span::secs(30)));
        assert_eq!(meter.take(rate, at.after(Span::secs(30))), Ok(()));
    }

    #[test]
    fn each_host_has_a_pace_of_its_own_and_whole_ones_are_forgotten() {
        let host = |n: usize| HostId::new(format!("host-{n}")).unwrap();
        let paces = Paces::new(Rate { burst: 2, each: Span::secs(3600) });
        for _ in 0..2 {
            assert_eq!(paces.take(&host(0)), Ok(()));
        }
        assert!(paces.clone().take(&host(0)).is_err());
        assert_eq!(paces.take(&host(1)), Ok(()));

        let kept = |paces: &Paces| paces.0.meters.lock().unwrap().by_host.len();
        let quick = Paces::new(Rate { burst: 2, each: Span(0) });
        for n in 0..5 * METERS {
            quick.take(&host(n)).unwrap();
        }
        assert!(kept(&quick) <= METERS, "{}", kept(&quick));
        // Nobody gets a new burst because there are many.
        for n in 2..3 * METERS {
            paces.take(&host(n)).unwrap();
        }
        assert!(kept(&paces) > 2 * METERS);
        assert!(paces.take(&host(0)).is_err());
    }
}
