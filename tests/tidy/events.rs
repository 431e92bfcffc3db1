//! Each kind of event that the coordinator writes is documented, and no other.

use std::collections::BTreeSet;

use windlass_proto::event::KINDS;

use crate::sources;

#[test]
fn kinds_of_events_are_those_that_are_documented() {
    let documented: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let prefixes: BTreeSet<&str> = documented.iter().filter_map(|name| name.split('.').next()).collect();
    let is_kind = |text: &str| {
        let (prefix, rest) = text.split_once('.')?;
        let word = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        (prefixes.contains(prefix) && word && rest != "toml").then(|| text.to_owned())
    };
    let mut written = BTreeSet::new();
    for source in sources(&["coordinator/src", "coordinator/rollout/src"]) {
        for (_, line) in source.code() {
            written.extend(line.split('"').skip(1).step_by(2).filter_map(is_kind));
        }
    }
    let written: BTreeSet<&str> = written.iter().map(String::as_str).collect();
    assert_eq!(written, documented, "proto/src/event.rs documents all kinds of events, and nothing else");
}
