//! Where a rollback without a target leads, by table, and after any history.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fleet;

use std::collections::BTreeMap;

use proptest::prelude::*;
use windlass_proto::digest::Digest;
use windlass_proto::time::Timestamp;
use windlass_rollout::{Kind, Releases, Rollout, State, WayBack};

use fleet::{release, rolling, rollout};

/// An ended rollout that moved from one release to another.
fn ended(kind: Kind, from: u8, to: u8, state: State) -> Rollout {
    let r = rollout(1, rolling("", "", ""));
    let from = (from > 0).then(|| release(from));
    let rollback = kind == Kind::Rollback;
    Rollout { kind, rollback, from, to: release(to), state, ended_at: Some(Timestamp(1)), ..r }
}

fn releases(good: &[u8]) -> Releases {
    Releases {
        good: good.iter().copied().map(release).collect(),
        succeeded: good.iter().map(|n| release(*n).digest).collect(),
    }
}

fn attested(hosts: &[u8]) -> BTreeMap<Digest, u32> {
    let mut all = BTreeMap::new();
    for n in hosts {
        *all.entry(release(*n).digest).or_default() += 1;
    }
    all
}

fn shown(way: &WayBack) -> String {
    match way {
        WayBack::To(to) => format!("to {}", to.version),
        WayBack::Ask(question) => question.to_string(),
        WayBack::OnlyOne(current) => format!("only {}", current.version),
        WayBack::NoneYet => "none yet".into(),
    }
}

#[test]
fn the_target_comes_from_what_was_stable_and_what_hosts_attest() {
    use Kind::{Deploy, Retry, Rollback};
    use State::{Cancelled, Failed, RollbackFailed, RolledBack, Succeeded};
    let named = "so the target has to be named";
    let failed = |state| format!("rollout r-1 to 3.0 did not succeed ({state}), {named}");
    for (good, (kind, from, to, state), hosts, expected) in [
        (&[1, 2][..], (Deploy, 1, 2, Succeeded), &[2, 2, 2][..], "to 1.0".to_owned()),
        (&[1, 2], (Deploy, 1, 2, Succeeded), &[2, 2, 1], "to 1.0".into()),
        (&[1, 2], (Deploy, 1, 2, Succeeded), &[], "to 1.0".into()),
        (&[1, 2, 3], (Retry, 2, 3, Succeeded), &[3, 3, 3], "to 2.0".into()),
        (&[1], (Deploy, 0, 1, Succeeded), &[1], "only 1.0".into()),
        (&[], (Deploy, 0, 3, Failed), &[], "none yet".into()),
        // The two cases of old: failed while staging, failed in a batch. One answer for both, and for any other failure.
        (
            &[1, 2],
            (Deploy, 2, 3, Failed),
            &[2, 2, 2],
            failed("Failed") + ": 2.0 (all 3 hosts run it) or 1.0 (no host runs it)",
        ),
        (
            &[1, 2],
            (Deploy, 2, 3, RolledBack),
            &[2, 2, 2],
            failed("RolledBack") + ": 2.0 (all 3 hosts run it) or 1.0 (no host runs it)",
        ),
        (
            &[1, 2],
            (Deploy, 2, 3, Cancelled),
            &[2, 2, 2],
            failed("Cancelled") + ": 2.0 (all 3 hosts run it) or 1.0 (no host runs it)",
        ),
        (
            &[1, 2],
            (Deploy, 2, 3, RollbackFailed),
            &[3, 2, 2],
            failed("RollbackFailed") + ": 2.0 (2 of 3 hosts run it) or 1.0 (no host runs it)",
        ),
        (
            &[2],
            (Deploy, 2, 3, Failed),
            &[3, 2, 2],
            failed("Failed") + "; the only stable release is 2.0 (2 of 3 hosts run it)",
        ),
        (
            &[1, 2],
            (Rollback, 3, 2, Succeeded),
            &[2, 2],
            format!(
                "rollout r-1 went back to 2.0 already, {named}: 2.0 (all 2 hosts run it) or 1.0 (no host runs it)"
            ),
        ),
        (
            &[1, 2],
            (Deploy, 1, 2, Succeeded),
            &[1, 1, 2],
            format!(
                "most hosts do not run 2.0, {named}: 2.0 (1 of 3 hosts run it) or 1.0 (2 of 3 hosts run it)"
            ),
        ),
    ] {
        let last = ended(kind, from, to, state);
        let way = releases(good).way_back(Some(&last), &attested(hosts), |_| true);
        assert_eq!(shown(&way), expected, "{good:?} {kind} {from} -> {to} {state:?}, hosts on {hosts:?}");
    }
    // What is not stored any more is no target.
    let last = ended(Deploy, 2, 3, Succeeded);
    let way = releases(&[1, 2, 3]).way_back(Some(&last), &attested(&[3]), |d| *d != release(2).digest);
    assert_eq!(shown(&way), "to 1.0");
}

#[test]
fn going_back_is_known_by_whatever_name() {
    let retry = |rollback, from, to| Rollout { rollback, ..ended(Kind::Retry, from, to, State::Succeeded) };
    assert!(ended(Kind::Rollback, 2, 2, State::Succeeded).went_back());
    assert!(retry(true, 3, 1).went_back());
    assert!(!retry(true, 2, 2).went_back(), "the same once more, for hosts that were not reached");
    assert!(!retry(false, 2, 3).went_back());
}

proptest! {
    /// Whatever came before: a target by default is stable, is not where the fleet is, was never taken away, and is given
    /// only after a success that led forwards.
    #[test]
    fn no_history_leads_astray(
        acts in proptest::collection::vec((0..3_u8, 1..6_u8, 0..5_u8, any::<bool>()), 1..12),
    ) {
        let mut releases = Releases::default();
        let mut away: Vec<Digest> = Vec::new();
        for (kind, to, end, left) in acts {
            let kind = [Kind::Deploy, Kind::Rollback, Kind::Retry][usize::from(kind)];
            let state = [State::Succeeded, State::Failed, State::RolledBack, State::RollbackFailed, State::Cancelled]
                [usize::from(end)];
            if kind == Kind::Rollback && !releases.succeeded.contains(&release(to).digest) {
                continue;
            }
            let mut last = ended(kind, 0, to, state);
            last.from = releases.current().cloned();
            last.rollback |= releases.succeeded.contains(&last.to.digest);
            let before = releases.good.clone();
            releases.conclude(&last);
            if state == State::Succeeded {
                away.retain(|digest| *digest != last.to.digest);
                away.extend(before.iter().map(|good| good.digest).filter(|d| !releases.good.iter().any(|g| g.digest == *d)));
            }
            if left && state == State::Succeeded {
                last.state = State::RolledBack;
                last.first_end = Some(windlass_rollout::after::FirstEnd {
                    state,
                    failure: String::new(),
                    left: Default::default(),
                });
                releases.revise(&last);
                away.push(last.to.digest);
            }
            let on = releases.current().map(|current| BTreeMap::from([(current.digest, 3)])).unwrap_or_default();
            match releases.way_back(Some(&last), &on, |_| true) {
                WayBack::To(target) => {
                    prop_assert!(last.state == State::Succeeded && !last.went_back());
                    prop_assert!(releases.succeeded.contains(&target.digest));
                    prop_assert!(!away.contains(&target.digest), "{} was taken away", target.version);
                    prop_assert!(Some(&target) != releases.current());
                }
                WayBack::Ask(question) => {
                    prop_assert!(last.state != State::Succeeded || last.went_back());
                    prop_assert!(!question.candidates.is_empty() && question.candidates.len() <= 2);
                    for candidate in question.candidates {
                        prop_assert!(!away.contains(&candidate.release.digest));
                    }
                }
                WayBack::OnlyOne(_) => prop_assert_eq!(releases.good.len(), 1),
                WayBack::NoneYet => prop_assert!(releases.good.is_empty()),
            }
        }
    }
}
