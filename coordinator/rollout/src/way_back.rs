//! Where a rollback leads that names no release: to the stable release before the one that the fleet provably is on, and
//! to nowhere without a word of the operator where it is not certain which one is meant.

use std::collections::BTreeMap;
use std::fmt;

use windlass_proto::digest::Digest;
use windlass_proto::id::RolloutId;
use windlass_proto::release::ReleaseRef;

use crate::releases::Releases;
use crate::state::{Kind, Rollout, State};

/// Where a rollback without a target leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayBack {
    /// There.
    To(ReleaseRef),
    /// It has to be named.
    Ask(Question),
    /// The current release is the only one that was stable.
    OnlyOne(ReleaseRef),
    /// No release was ever stable.
    NoneYet,
}

/// Why the target has to be named, and what can be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Why.
    pub doubt: Doubt,
    /// One or two stable releases, the newest first.
    pub candidates: Vec<Candidate>,
}

/// Why it is not certain which release is to be left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// The last rollout did not succeed.
    Failed {
        /// Which.
        rollout: RolloutId,
        /// To what.
        to: ReleaseRef,
        /// How it ended.
        state: State,
    },
    /// The last rollout went back already.
    WentBack {
        /// Which.
        rollout: RolloutId,
        /// To what.
        to: ReleaseRef,
    },
    /// More hosts attest another release than the one that succeeded last.
    Elsewhere {
        /// The one that succeeded last.
        current: ReleaseRef,
    },
}

/// A release that can be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The release.
    pub release: ReleaseRef,
    /// Hosts that attest it.
    pub hosts: u32,
    /// Hosts that attest any release of the app.
    pub of: u32,
}

impl Releases {
    /// Where a rollback without a target leads. `last` is the environment's newest rollout, `attested` how many hosts attest each
    /// release, and `stored` says which releases can still be rolled out.
    pub fn way_back(
        &self,
        last: Option<&Rollout>,
        attested: &BTreeMap<Digest, u32>,
        stored: impl Fn(&Digest) -> bool,
    ) -> WayBack {
        let of = attested.values().sum();
        let hosts = |digest: &Digest| attested.get(digest).copied().unwrap_or(0);
        let Some(current) = self.current() else { return WayBack::NoneYet };
        let most = attested.values().copied().max().unwrap_or(0);
        // What is under way holds the environment, and the plan says so; it decides nothing here.
        let doubt = match last.filter(|last| last.ended()) {
            Some(last) if last.state != State::Succeeded => {
                Some(Doubt::Failed { rollout: last.id.clone(), to: last.to.clone(), state: last.state })
            }
            Some(last) if last.went_back() => {
                Some(Doubt::WentBack { rollout: last.id.clone(), to: last.to.clone() })
            }
            _ if hosts(&current.digest) < most => Some(Doubt::Elsewhere { current: current.clone() }),
            _ => None,
        };
        let mut stable = self.good.iter().rev().filter(|good| stored(&good.digest));
        let Some(doubt) = doubt else {
            let earlier = stable.find(|good| good.digest != current.digest);
            return earlier
                .map_or_else(|| WayBack::OnlyOne(current.clone()), |good| WayBack::To(good.clone()));
        };
        let candidates: Vec<Candidate> = stable
            .take(2)
            .map(|release| Candidate { release: release.clone(), hosts: hosts(&release.digest), of })
            .collect();
        if candidates.is_empty() { WayBack::NoneYet } else { WayBack::Ask(Question { doubt, candidates }) }
    }
}

impl Rollout {
    /// Whether it led away from a newer release: a rollback, the retry of one, or a deploy of what was stable earlier.
    pub fn went_back(&self) -> bool {
        let moved = self.from.as_ref().is_none_or(|from| from.digest != self.to.digest);
        self.kind == Kind::Rollback || self.rollback && moved
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { release, hosts, of } = self;
        match hosts {
            0 => write!(f, "{} (no host runs it)", release.version),
            hosts if hosts == of => write!(f, "{} (all {of} hosts run it)", release.version),
            hosts => write!(f, "{} ({hosts} of {of} hosts run it)", release.version),
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.doubt {
            Doubt::Failed { rollout, to, state } => {
                write!(f, "rollout {rollout} to {} did not succeed ({})", to.version, state.word())?;
            }
            Doubt::WentBack { rollout, to } => {
                write!(f, "rollout {rollout} went back to {} already", to.version)?;
            }
            Doubt::Elsewhere { current } => write!(f, "most hosts do not run {}", current.version)?,
        }
        match self.candidates.as_slice() {
            [one] => write!(f, ", so the target has to be named; the only stable release is {one}"),
            all => {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                write!(f, ", so the target has to be named: {}", all.join(" or "))
            }
        }
    }
}
