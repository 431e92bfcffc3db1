//! How a rollout is cut into batches is one decision said in several keys: an environment that says it otherwise
//! replaces what the base said of it.

use super::tree::{Node, Tree};

/// Takes from `rollout` what it says of batches, where `over`, an environment's `rollout`, says something that excludes
/// it. What `over` itself says is never touched, so that a contradiction within it is still found, at its own line.
pub fn make_room(rollout: &mut Tree, over: &Tree) {
    let Some(over) = over.get("strategy").map(|member| &member.value) else { return };
    let says = |key: &str| over.get(key).map(|member| &member.value.node).filter(|node| **node != Node::Null);
    let all_at_once = matches!(says("type"), Some(Node::Text(word)) if word == "all_at_once");
    if all_at_once || says("max_parallel").is_some() {
        rollout.remove("strategy.batches");
    }
    if all_at_once || says("batches").is_some() {
        rollout.remove("strategy.max_parallel");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tree::parse;

    #[test]
    fn an_override_displaces_only_what_it_excludes() {
        for (base, over, left) in [
            ("batches: [1]", "type: all_at_once", "{}"),
            ("max_parallel: 2", "type: all_at_once", "{}"),
            ("batches: [1]", "max_parallel: 2", "{}"),
            ("max_parallel: 2", "batches: [1]", "{}"),
            ("batches: [1]", "batches: [2]", "{batches: [1]}"),
            ("batches: [1]", "type: rolling", "{batches: [1]}"),
            ("batches: [1]", "max_parallel: null", "{batches: [1]}"),
            ("batches: [1]", "pause_between: 5s", "{batches: [1]}"),
            ("type: all_at_once", "batches: [1]", "{type: all_at_once}"),
        ] {
            let (mut rollout, _) = parse(&format!("strategy: {{{base}}}")).unwrap();
            make_room(&mut rollout, &parse(&format!("strategy: {{{over}}}")).unwrap().0);
            let expected = parse(&format!("strategy: {left}")).unwrap().0.to_json();
            assert_eq!(rollout.to_json(), expected, "{over} over {base}");
        }
    }
}
