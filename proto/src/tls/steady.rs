//! The time that certificates are judged and issued by: the wall clock's, without its jumps while there is contact.
//!
//! A wall clock that is set, by hand, by a broken time server or by the host's firmware, must not end a deployment: every
//! certificate of the fleet would be expired or not valid yet at once. So while the other side has lately proven that the
//! time at hand is good enough, by speaking over TLS, time goes on with the boot clock and follows the wall clock's
//! corrections slowly. Where nothing has been proven, as at the start of a host whose clock was wrong, the wall clock is
//! believed at once, for it may have just been mended.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::UnixTime;

use crate::time::{Span, Timestamp, slew};

/// How long a proof holds.
const HOLD: Span = Span::secs(3600);

/// A clock that does not jump while there is contact. Shared by all that judge certificates in one process.
#[derive(Debug)]
pub struct SteadyTime {
    boot: fn() -> u64,
    wall: fn() -> Timestamp,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    read_at: u64,
    read: Timestamp,
    proven_at: Option<u64>,
}

impl SteadyTime {
    /// `boot` gives milliseconds that go on in suspend and never jump, `wall` the wall clock.
    pub fn new(boot: fn() -> u64, wall: fn() -> Timestamp) -> Self {
        let state = State { read_at: boot(), read: wall(), proven_at: None };
        Self { boot, wall, state: Mutex::new(state) }
    }

    /// The same client, which judges certificates by this time.
    pub fn judge(self: &Arc<Self>, config: Arc<ClientConfig>) -> Arc<ClientConfig> {
        let mut config = Arc::unwrap_or_clone(config);
        config.time_provider = self.clone();
        Arc::new(config)
    }

    /// The same listener, which judges certificates by this time.
    pub fn judge_clients(self: &Arc<Self>, config: Arc<ServerConfig>) -> Arc<ServerConfig> {
        let mut config = Arc::unwrap_or_clone(config);
        config.time_provider = self.clone();
        Arc::new(config)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.read(false)
    }

    /// The other side has just spoken: the time at hand holds from now on.
    pub fn prove(&self) {
        self.read(true);
    }

    fn read(&self, proven: bool) -> Timestamp {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.read((self.boot)(), (self.wall)());
        if proven {
            state.proven_at = Some(state.read_at);
        }
        state.read
    }
}

impl State {
    fn read(self, boot: u64, wall: Timestamp) -> Self {
        let holds = self.proven_at.is_some_and(|at| boot.saturating_sub(at) < HOLD.0);
        let elapsed = Span(boot.saturating_sub(self.read_at));
        let read = if holds { slew(self.read, wall, elapsed) } else { wall };
        Self { read_at: boot, read, ..self }
    }
}

impl TimeProvider for SteadyTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.now().0 / 1000).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const YEARS: i64 = 10 * 365 * 24 * 3_600_000;

    fn at(proven_at: Option<u64>) -> State {
        State { read_at: 0, read: Timestamp(1_000_000_000_000), proven_at }
    }

    #[test]
    fn no_jump_is_followed_while_there_is_contact() {
        for jump in [1, -1, 60_000, -60_000, YEARS, -YEARS] {
            let wall = |boot: u64| Timestamp(1_000_000_000_000 + boot as i64 + jump);
            let proven = at(Some(0)).read(60_000, wall(60_000));
            let off = (proven.read.0 - 1_000_000_000_000 - 60_000).abs();
            assert!(off <= 6000, "{jump}: {off} ms off after a minute");
            assert_eq!(at(None).read(60_000, wall(60_000)).read, wall(60_000), "unproven: believed");
            let lapsed = at(Some(0)).read(HOUR, wall(HOUR));
            assert_eq!(lapsed.read, wall(HOUR), "long without contact: believed again");
        }
    }

    #[test]
    fn time_never_goes_back_while_there_is_contact() {
        let mut state = at(Some(0));
        for second in 1..100 {
            let next = state.read(second * 1000, Timestamp(0));
            assert!(next.read > state.read);
            state = next;
        }
    }
}
