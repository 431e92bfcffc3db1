//! Callers without a certificate: what each address may take of what is there for all, and what was refused to them.
//!
//! They may only enrol ([`crate::rpc::auth::TABLE`]). Nothing that they do is on record unless a host joins, so that what one of
//! them does a thousand times costs no more than the connection.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use windlass_proto::time::{Span, Timestamp};

use crate::rate::{Meter, Rate};

/// Connections at once: of all,
const PLACES: usize = 256;
/// and of one address, behind which there may be many hosts.
const PLACES_EACH: usize = PLACES / 2;
/// Calls of one address: a host that enrols makes two.
const CALLS: Rate = Rate { burst: 512, each: Span(50) };
/// Addresses remembered; those beyond it share one place in the book.
const ADDRESSES: usize = 4096;
/// How often the log says what was refused, at most.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The book of all guests; cheap to clone.
#[derive(Debug, Clone)]
pub struct Guests {
    book: Arc<Mutex<Book>>,
    began: Instant,
}

impl Default for Guests {
    fn default() -> Self {
        Self { book: Arc::default(), began: Instant::now() }
    }
}

#[derive(Debug, Default)]
struct Book {
    origins: BTreeMap<Origin, Account>,
    places: usize,
    refused: Refused,
    /// What of it was said already.
    said: Refused,
}

/// Whoever shares an address: an IPv4 address, or the network of an IPv6 one, of which everybody has as many as he likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    V4([u8; 4]),
    V6([u16; 4]),
    /// All for whom the book has no room.
    Others,
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

#[derive(Debug, Default)]
struct Account {
    places: usize,
    calls: Meter,
}

impl Account {
    fn is_idle(&self, now: Timestamp) -> bool {
        self.places == 0 && self.calls.is_whole(now)
    }
}

/// What was refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Connections beyond the bounds.
    pub connections: u64,
    /// Calls that need a certificate, or that came too often.
    pub calls: u64,
}

/// A guest's place; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    guests: Guests,
    origin: Origin,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.with(|book, _| {
            book.places -= 1;
            if let Some(account) = book.origins.get_mut(&self.origin) {
                account.places -= 1;
            }
        });
    }
}

impl Guests {
    /// Lets a guest in, if there is a place for one more from this address.
    pub fn enter(&self, address: IpAddr) -> Option<Place> {
        self.with(|book, now| {
            let (is_full, (origin, account)) = (book.places >= PLACES, book.account(address, now));
            if is_full || account.places >= PLACES_EACH {
                book.refused.connections += 1;
                return None;
            }
            account.places += 1;
            book.places += 1;
            Some(Place { guests: self.clone(), origin })
        })
    }

    /// Counts a call that a guest may make; the error is how long to wait with it.
    pub fn call(&self, address: IpAddr) -> Result<(), Span> {
        self.with(|book, now| {
            let taken = book.account(address, now).1.calls.take(CALLS, now);
            book.refused.calls += u64::from(taken.is_err());
            taken
        })
    }

    /// Counts a call that no guest may make.
    pub fn refuse_call(&self) {
        self.with(|book, _| book.refused.calls += 1);
    }

    /// Says from time to time in the log what was refused, for as long as it is polled.
    pub async fn tell(&self) {
        loop {
            tokio::time::sleep(SAID_EVERY).await;
            let Refused { connections, calls } = self.refused_since_said();
            if connections + calls > 0 {
                tracing::info!(connections, calls, "callers without a certificate were refused");
            }
        }
    }

    /// What was refused since the coordinator started.
    pub fn refused_ever(&self) -> Refused {
        self.with(|book, _| book.refused)
    }

    fn refused_since_said(&self) -> Refused {
        self.with(|book, _| {
            let said = std::mem::replace(&mut book.said, book.refused);
            Refused {
                connections: book.refused.connections - said.connections,
                calls: book.refused.calls - said.calls,
            }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Book, Timestamp) -> T) -> T {
        let now = Timestamp(i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX));
        // What is counted here is whole after each line: a panic elsewhere leaves nothing half done.
        act(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

impl Book {
    fn account(&mut self, address: IpAddr, now: Timestamp) -> (Origin, &mut Account) {
        let mut origin = Origin::from(address);
        if !self.origins.contains_key(&origin) && self.origins.len() >= ADDRESSES {
            self.origins.retain(|_, account| !account.is_idle(now));
            if self.origins.len() >= ADDRESSES {
                origin = Origin::Others;
            }
        }
        (origin, self.origins.entry(origin).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: usize) -> IpAddr {
        IpAddr::from(u32::try_from(0x0a00_0000 + n).unwrap().to_be_bytes())
    }

    #[test]
    fn one_address_gets_half_of_the_places_and_all_get_no_more_than_there_are() {
        let guests = Guests::default();
        let first: Vec<_> = std::iter::from_fn(|| guests.enter(ip(1))).collect();
        assert_eq!(first.len(), PLACES_EACH);
        let others: Vec<_> = (2..).map_while(|n| guests.enter(ip(n))).collect();
        assert_eq!(others.len(), PLACES - PLACES_EACH);
        assert_eq!(guests.refused_since_said(), Refused { connections: 2, calls: 0 });
        drop(first);
        assert!(guests.enter(ip(1)).is_some(), "who leaves makes room");
    }

    #[test]
    fn calls_of_an_address_are_bounded_and_those_of_others_are_not_touched() {
        let guests = Guests::default();
        let calls = (0..2 * CALLS.burst).filter(|_| guests.call(ip(1)).is_ok()).count();
        assert!((512..700).contains(&calls), "{calls}");
        assert!(guests.call(ip(2)).is_ok());
        guests.refuse_call();
        assert_eq!(guests.refused_since_said().calls, 2 * u64::from(CALLS.burst) - calls as u64 + 1);
        assert_eq!(guests.refused_since_said(), Refused::default());
        assert!(guests.refused_ever().calls > u64::from(CALLS.burst) / 2);
    }

    #[test]
    fn the_book_is_bounded_whoever_calls() {
        let guests = Guests::default();
        for n in 0..3 * ADDRESSES {
            // From the burst on, those without a page of their own share one.
            let _ = guests.call(ip(n));
        }
        assert!(guests.with(|book, _| book.origins.len()) <= ADDRESSES + 1);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let origin = |text: &str| Origin::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
    }
}
