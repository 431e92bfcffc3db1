//! The way below the highest counter that a host has seen: what a host remembers, what authors can grant, and the one
//! decision about it, which hosts take and coordinators foresee.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{AppName, FleetName};
use crate::release::ReleaseRef;
use crate::time::{Span, Timestamp};

/// The format of grants that this version writes and reads.
pub const GRANT_FORMAT: u32 = 1;

/// Leave of an app's authors to use an earlier release on hosts that have seen later ones and have not confirmed it
/// themselves. It counts when as many authors signed it as have to sign a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// [`GRANT_FORMAT`].
    pub format: u32,
    /// Only hosts of this fleet may use it.
    pub fleet: FleetName,
    /// For this app.
    pub app: AppName,
    /// For this release.
    pub digest: Digest,
    /// Only where no higher counter of the app was seen.
    pub up_to: u64,
    /// Not from then on.
    pub until: Timestamp,
}

/// Bytes that are not a grant.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Not JSON of a grant.
    #[error("malformed grant")]
    Malformed(#[source] serde_json::Error),
    /// Valid JSON in another spelling.
    #[error("the grant is not in canonical form")]
    NotCanonical,
    /// Written by another version.
    #[error("the grant has format {0}, this program reads {GRANT_FORMAT}; install a newer version")]
    Format(u32),
}

impl Grant {
    /// The canonical bytes: what is signed.
    pub fn encode(&self) -> Vec<u8> {
        // Writing a plain struct to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads canonical bytes. What it returns is well-formed, not trusted.
    pub fn decode(bytes: &[u8]) -> Result<Self, GrantError> {
        let grant: Self = serde_json::from_slice(bytes).map_err(GrantError::Malformed)?;
        if grant.format != GRANT_FORMAT {
            return Err(GrantError::Format(grant.format));
        }
        if grant.encode() != bytes {
            return Err(GrantError::NotCanonical);
        }
        Ok(grant)
    }

    /// Why the grant does not allow `to` on a host that has seen `seen`; `None` where it does.
    fn flaw(&self, to: &ReleaseRef, seen: u64, fleet: &FleetName, at: Timestamp) -> Option<Flaw> {
        if self.fleet != *fleet {
            return Some(Flaw::Fleet(self.fleet.clone()));
        }
        if self.app != to.app {
            return Some(Flaw::App(self.app.clone()));
        }
        if self.digest != to.digest {
            return Some(Flaw::Release(self.digest));
        }
        if seen > self.up_to {
            return Some(Flaw::SeenLater { up_to: self.up_to, seen });
        }
        (at >= self.until).then(|| Flaw::Over { ago: Span(at.since(self.until).0 / 1000 * 1000) })
    }
}

/// A grant that came with an order, as one host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// The host's fleet.
    pub fleet: FleetName,
    /// When it is looked at.
    pub at: Timestamp,
    /// The grant, if enough of the host's authors signed it; else why it is not believed.
    pub grant: Result<Grant, String>,
}

/// What a host remembers of an app, as far as counters care.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The highest counter of a release whose signature was verified on the host.
    pub seen: u64,
    /// Releases that were confirmed on the host and are remembered.
    pub confirmed: Vec<Digest>,
}

/// Why a host may take a release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    /// Its counter is not below what the host has seen.
    #[default]
    Newest,
    /// Below, and back to what was confirmed on the host.
    Confirmed,
    /// Below, and its authors granted it.
    Granted,
}

/// A host does not take a release, because of its counter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {flaw}", self.below())]
pub struct Denied {
    /// The release.
    pub to: ReleaseRef,
    /// The highest counter that the host has seen.
    pub seen: u64,
    /// Whether it was to be a way back.
    pub rollback: bool,
    /// What is wrong with the grant, or that there is none.
    pub flaw: Flaw,
}

impl Denied {
    fn below(&self) -> String {
        let Self { to, seen, .. } = self;
        let counter = to.counter;
        if self.rollback {
            format!(
                "{to} was not confirmed on this host lately, and its counter {counter} is below {seen}, the highest seen"
            )
        } else {
            format!("counter {counter} of {to} is below {seen}, the highest seen on this host")
        }
    }
}

/// What is wrong with a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// There is none.
    #[error("no grant of its authors came with the order")]
    Missing,
    /// Too few of the authors that the host trusts signed it, or it is no grant.
    #[error("the grant is not believed: {0}")]
    Untrusted(String),
    /// For another fleet.
    #[error("the grant is for fleet {0}")]
    Fleet(FleetName),
    /// For another app.
    #[error("the grant is for app {0}")]
    App(AppName),
    /// For another release.
    #[error("the grant is for release {}", .0.short())]
    Release(Digest),
    /// A later release was seen than it allows for.
    #[error("the grant is good up to counter {up_to}, and {seen} was seen")]
    SeenLater {
        /// Up to which counter it is good.
        up_to: u64,
        /// What was seen.
        seen: u64,
    },
    /// Its time has passed.
    #[error("the grant ended {ago} ago, by this host's clock")]
    Over {
        /// How long ago, in whole seconds.
        ago: Span,
    },
}

impl Past {
    /// Whether a host with this past takes a release, and why. `rollback`: the order says that it leads back.
    pub fn may_take(
        &self,
        to: &ReleaseRef,
        rollback: bool,
        presented: Option<&Presented>,
    ) -> Result<Leave, Box<Denied>> {
        if to.counter >= self.seen {
            return Ok(Leave::Newest);
        }
        if rollback && self.confirmed.contains(&to.digest) {
            return Ok(Leave::Confirmed);
        }
        let flaw = match presented {
            None => Some(Flaw::Missing),
            Some(Presented { grant: Err(why), .. }) => Some(Flaw::Untrusted(why.clone())),
            Some(Presented { grant: Ok(grant), fleet, at }) => grant.flaw(to, self.seen, fleet, *at),
        };
        match flaw {
            None => Ok(Leave::Granted),
            Some(flaw) => Err(Box::new(Denied { to: to.clone(), seen: self.seen, rollback, flaw })),
        }
    }

    /// Which of several grants has to go along, so that a host with this past takes a release: `None` where it needs none.
    pub fn choose(
        &self,
        to: &ReleaseRef,
        rollback: bool,
        offered: &[Presented],
    ) -> Result<Option<usize>, Box<Denied>> {
        let mut denied = match self.may_take(to, rollback, None) {
            Ok(_) => return Ok(None),
            Err(denied) => denied,
        };
        for (at, presented) in offered.iter().enumerate() {
            match self.may_take(to, rollback, Some(presented)) {
                Ok(_) => return Ok(Some(at)),
                Err(why) => denied = why,
            }
        }
        Err(denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn release(n: u8) -> ReleaseRef {
        ReleaseRef {
            app: AppName::new("shop").unwrap(),
            version: format!("1.{n}").parse().unwrap(),
            digest: Digest::from_bytes([n; 32]),
            counter: n.into(),
        }
    }

    fn fleet(name: &str) -> FleetName {
        FleetName::new(name).unwrap()
    }

    fn grant() -> Grant {
        Grant {
            format: GRANT_FORMAT,
            fleet: fleet("prod"),
            app: AppName::new("shop").unwrap(),
            digest: release(2).digest,
            up_to: 3,
            until: Timestamp(NOW.0 + 1),
        }
    }

    fn presented(grant: Grant) -> Presented {
        Presented { fleet: fleet("prod"), at: NOW, grant: Ok(grant) }
    }

    /// Every history × counter × grant. A host that has seen 3 is to take 2.
    #[test]
    fn counters_go_down_only_to_what_was_confirmed_or_granted() {
        let good = || presented(grant());
        let flawed = |change: &dyn Fn(&mut Grant)| {
            let mut grant = grant();
            change(&mut grant);
            presented(grant)
        };
        let grants: [(Option<Presented>, Option<Flaw>); 9] = [
            (None, Some(Flaw::Missing)),
            (Some(good()), None),
            (Some(Presented { grant: Err("no".into()), ..good() }), Some(Flaw::Untrusted("no".into()))),
            (Some(flawed(&|g| g.fleet = fleet("test"))), Some(Flaw::Fleet(fleet("test")))),
            (
                Some(flawed(&|g| g.app = AppName::new("news").unwrap())),
                Some(Flaw::App("news".parse().unwrap())),
            ),
            (Some(flawed(&|g| g.digest = release(1).digest)), Some(Flaw::Release(release(1).digest))),
            (Some(flawed(&|g| g.up_to = 2)), Some(Flaw::SeenLater { up_to: 2, seen: 3 })),
            (Some(flawed(&|g| g.until = NOW)), Some(Flaw::Over { ago: Span(0) })),
            (Some(flawed(&|g| g.until = Timestamp(1))), Some(Flaw::Over { ago: Span::secs(999) })),
        ];
        for (presented, flaw) in grants {
            for confirmed in [vec![], vec![release(1).digest], vec![release(3).digest, release(2).digest]] {
                for rollback in [false, true] {
                    let past = |seen| Past { seen, confirmed: confirmed.clone() };
                    let said = |seen| past(seen).may_take(&release(2), rollback, presented.as_ref());
                    for seen in 0..=2 {
                        assert_eq!(said(seen), Ok(Leave::Newest), "{seen}");
                    }
                    let own = rollback && confirmed.contains(&release(2).digest);
                    let expected = match (own, &flaw) {
                        (true, _) => Ok(Leave::Confirmed),
                        (false, None) => Ok(Leave::Granted),
                        (false, Some(flaw)) => {
                            Err(Box::new(Denied { to: release(2), seen: 3, rollback, flaw: flaw.clone() }))
                        }
                    };
                    assert_eq!(said(3), expected, "{confirmed:?} {rollback} {presented:?}");
                }
            }
        }
        let later = Past { seen: 4, confirmed: vec![] }.may_take(&release(2), true, Some(&good()));
        assert_eq!(
            later.unwrap_err().to_string(),
            format!(
                "{} was not confirmed on this host lately, and its counter 2 is below 4, the highest seen: \
                 the grant is good up to counter 3, and 4 was seen",
                release(2)
            )
        );
    }

    #[test]
    fn of_several_grants_the_one_that_helps_goes_along() {
        let past = |seen| Past { seen, confirmed: vec![] };
        let over = presented(Grant { until: NOW, ..grant() });
        let wide = presented(Grant { up_to: 9, ..grant() });
        let offered = [over, presented(grant()), wide];
        assert_eq!(past(2).choose(&release(2), true, &offered), Ok(None));
        assert_eq!(past(3).choose(&release(2), true, &offered), Ok(Some(1)));
        assert_eq!(past(4).choose(&release(2), true, &offered), Ok(Some(2)));
        let denied = past(10).choose(&release(2), true, &offered).unwrap_err();
        assert_eq!(denied.flaw, Flaw::SeenLater { up_to: 9, seen: 10 });
        assert_eq!(past(3).choose(&release(2), true, &[]).unwrap_err().flaw, Flaw::Missing);
    }

    #[test]
    fn a_grant_has_one_spelling() {
        let bytes = grant().encode();
        assert_eq!(Grant::decode(&bytes).unwrap(), grant());
        let text = String::from_utf8(bytes).unwrap();
        let bad = |text: String| Grant::decode(text.as_bytes()).unwrap_err();
        assert!(matches!(bad(text.replace(',', ", ")), GrantError::NotCanonical));
        assert!(matches!(bad(text.replace("\"format\":1", "\"format\":2")), GrantError::Format(2)));
        assert!(matches!(bad(text.replace("\"up_to\"", "\"upto\"")), GrantError::Malformed(_)));
        assert!(matches!(bad(text.replace('}', ",\"more\":1}")), GrantError::Malformed(_)));
        assert!(matches!(bad(format!("{text} ")), GrantError::NotCanonical));
    }
}
