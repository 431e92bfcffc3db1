//! What is rolled out, to whom, and how the releases behave.

use std::collections::BTreeMap;

use windlass_proto::digest::Digest;
use windlass_proto::id::{AppName, HostName, ReleaseVersion};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::{ReleaseSpec, RolloutSpec};

use windlass_tests::dice::Dice;

pub(crate) fn app() -> AppName {
    AppName::new("shop").unwrap()
}

pub(crate) fn release(n: u8) -> ReleaseRef {
    ReleaseRef {
        app: app(),
        version: ReleaseVersion::new(format!("{n}.0")).unwrap(),
        digest: Digest::from_bytes([n; 32]),
        counter: u64::from(n),
    }
}

pub(crate) fn name(n: u64) -> HostName {
    HostName::new(format!("host-{n}")).unwrap()
}

/// How a release does on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    Good,
    NotStageable,
    DoesNotStart,
    NeverReady,
    SmokeFails,
    DiesInTrial,
    DiesInWatch,
    DrainsTooLong,
    /// Its hook `application_start` fails, with the process there.
    HookFails,
    /// Serves, but from something else than its directory.
    Impostor,
}

pub(crate) fn nature(dice: &mut Dice) -> Nature {
    match dice.below(30) {
        0 => Nature::NotStageable,
        1 => Nature::DoesNotStart,
        2 => Nature::NeverReady,
        3 => Nature::SmokeFails,
        4 => Nature::DiesInTrial,
        5 => Nature::DiesInWatch,
        6 => Nature::DrainsTooLong,
        7 => Nature::Impostor,
        8 => Nature::HookFails,
        _ => Nature::Good,
    }
}

pub(crate) fn release_spec() -> ReleaseSpec {
    serde_json::from_str(
        r#"{"runtime": {"kind": "process", "command": ["bin/shop"]}, "drain": {"timeout": "5s"}, "stop": {"grace": "5s"},
            "probes": {"startup": {"tcp": {"port": 1}, "period": "1s", "failure_threshold": 10}}}"#,
    )
    .unwrap()
}

pub(crate) fn spec(dice: &mut Dice) -> RolloutSpec {
    let strategy = dice.pick(&[
        r#", "max_parallel": 1"#,
        r#", "max_parallel": 2, "max_unavailable": 2"#,
        r#", "max_parallel": 3, "max_unavailable": 1, "pause_between": "5s""#,
        r#", "batches": [1, "50%", "100%"], "max_unavailable": "40%""#,
        r#", "type": "all_at_once""#,
    ]);
    let targets = dice.pick(&[
        "",
        "",
        r#", "failure_domain": "rack""#,
        r#", "absent": "wait""#,
        r#", "absent": "count_as_failed""#,
    ]);
    let failure = dice.pick(&["", "", r#", "error_threshold": 1"#, r#", "on_failure": "pause""#]);
    let contact = dice.pick(&["revert", "revert", "revert", "hold_if_healthy", "stop"]);
    let json = format!(
        r#"{{"targets": {{"selector": "role=app"{targets}}},
            "strategy": {{"min_healthy_time": "2s", "healthy_deadline": "60s", "progress_deadline": "4m"{strategy}}},
            "host": {{"confirm_timeout": "30s", "on_contact_lost": "{contact}", "watch": {{"window": "1m"}}}},
            "failure": {{"rollback": {{"max_parallel": 2, "deadline": "10m"}}{failure}}}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

pub(crate) fn labels(n: u64) -> BTreeMap<String, String> {
    BTreeMap::from([("role".into(), "app".into()), ("rack".into(), format!("r{}", n % 3))])
}
