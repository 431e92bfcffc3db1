//! How often somebody may do something, by a clock that the caller reads.

use std::time::Instant;

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

    /// Whether nothing of it is taken: it need not be remembered.
    pub fn is_whole(&self, now: Timestamp) -> bool {
        self.whole <= now
    }
}

/// For whoever is not refused but waits: what he says next stays on his own side until then.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    meter: Meter,
    began: Instant,
}

impl Pace {
    /// A pace that begins now.
    pub fn new(rate: Rate) -> Self {
        Self { rate, meter: Meter::default(), began: Instant::now() }
    }

    /// Counts one more, as soon as it is time for it.
    pub async fn turn(&mut self) {
        loop {
            let now = Timestamp(i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX));
            match self.meter.take(self.rate, now) {
                Ok(()) => return,
                Err(wait) => tokio::time::sleep(wait.std()).await,
            }
        }
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
}
