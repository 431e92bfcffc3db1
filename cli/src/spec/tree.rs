//! YAML as a tree in which everything knows its line and column. The YAML crate is used in this file only.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{MergeKeyPolicy, Spanned};

use super::problem::Problem;

/// Where something was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1; 0 for what a `--set` flag said.
    pub line: u64,
    /// Column, from 1; for a `--set` flag its index.
    pub column: u64,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub node: Node,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Nothing.
    Null,
    /// true or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// Members in the order of the file.
    Map(Vec<Member>),
}

/// A member of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub key: String,
    /// Where the name stands.
    pub at: Place,
    /// Its value.
    pub value: Tree,
}

/// Parses one document; duplicate keys are problems, and the first of them wins.
pub fn parse(text: &str) -> Result<(Tree, Vec<Problem>), Problem> {
    let options = serde_saphyr::options! {
        // Duplicates reach our visitor, which reports each of them instead of stopping at the first.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        no_schema: false,
        with_snippet: false,
    };
    let mut tree: Tree = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error
            .location()
            .map_or(Place { line: 1, column: 1 }, |l| Place { line: l.line(), column: l.column() });
        Problem::error(at, "", syntax_message(&error.render()))
    })?;
    let mut problems = Vec::new();
    drop_duplicates(&mut tree, "", &mut problems);
    Ok((tree, problems))
}

/// Parses the value of a `--set`: a YAML scalar or flow collection, all of it at `at`.
pub fn parse_value(text: &str, at: Place) -> Result<Tree, Problem> {
    let (mut tree, mut problems) = parse(text).map_err(|problem| Problem { at, ..problem })?;
    if let Some(problem) = problems.pop() {
        return Err(Problem { at, ..problem });
    }
    set_place(&mut tree, at);
    Ok(tree)
}

/// The parser's own words without the place, which stands before the message already.
fn syntax_message(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let cut = first.rfind(" at line ").or_else(|| first.rfind(" at byte ")).unwrap_or(first.len());
    let without = match first.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, message)) => message,
        None => &first[..cut],
    };
    format!("not valid YAML: {}", without.trim_end_matches('.'))
}

fn set_place(tree: &mut Tree, at: Place) {
    tree.at = at;
    match &mut tree.node {
        Node::List(items) => items.iter_mut().for_each(|item| set_place(item, at)),
        Node::Map(members) => members.iter_mut().for_each(|member| {
            member.at = at;
            set_place(&mut member.value, at);
        }),
        _ => {}
    }
}

fn drop_duplicates(tree: &mut Tree, path: &str, problems: &mut Vec<Problem>) {
    match &mut tree.node {
        Node::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                drop_duplicates(item, &join(path, &i.to_string()), problems);
            }
        }
        Node::Map(members) => {
            let mut kept: Vec<Member> = Vec::with_capacity(members.len());
            for mut member in members.drain(..) {
                let at = join(path, &member.key);
                if let Some(first) = kept.iter().find(|k| k.key == member.key) {
                    let message = format!(
                        "duplicate key {:?}: it stands on line {} already",
                        member.key, first.at.line
                    );
                    problems.push(Problem::error(member.at, &at, message));
                    continue;
                }
                drop_duplicates(&mut member.value, &at, problems);
                kept.push(member);
            }
            *members = kept;
        }
        _ => {}
    }
}

/// Appends a key to a path.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Tree {
    /// The member of this name.
    pub fn get(&self, key: &str) -> Option<&Member> {
        match &self.node {
            Node::Map(members) => members.iter().find(|member| member.key == key),
            _ => None,
        }
    }

    /// The value of this name, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.node {
            Node::Map(members) => members.iter_mut().find(|member| member.key == key).map(|m| &mut m.value),
            _ => None,
        }
    }

    /// The value at a path, or the innermost value on the way to it that exists: what a message should point at.
    pub fn locate(&self, path: &str) -> Place {
        if path.is_empty() {
            return self.at;
        }
        match &self.node {
            // Keys may hold dots themselves, so each key is tried as a prefix.
            Node::Map(members) => members
                .iter()
                .find_map(|member| {
                    let rest = path.strip_prefix(member.key.as_str())?;
                    if rest.is_empty() {
                        return Some(if matches!(member.value.node, Node::Map(_) | Node::List(_)) {
                            member.at
                        } else {
                            member.value.at
                        });
                    }
                    let deeper = rest.strip_prefix('.')?;
                    let at = member.value.locate(deeper);
                    let missed = at == member.value.at && matches!(member.value.node, Node::Map(_));
                    Some(if missed { member.at } else { at })
                })
                .unwrap_or(self.at),
            Node::List(items) => {
                let (index, rest) = path.split_once('.').unwrap_or((path, ""));
                match index.parse::<usize>().ok().and_then(|i| items.get(i)) {
                    Some(item) => item.locate(rest),
                    None => self.at,
                }
            }
            _ => self.at,
        }
    }

    /// The same as JSON.
    pub fn to_json(&self) -> Value {
        match &self.node {
            Node::Null => Value::Null,
            Node::Bool(b) => Value::Bool(*b),
            Node::Number(n) => Value::Number(n.clone()),
            Node::Text(text) => Value::String(text.clone()),
            Node::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Node::Map(members) => {
                Value::Object(members.iter().map(|m| (m.key.clone(), m.value.to_json())).collect())
            }
        }
    }

    /// What kind of value this is, for people.
    pub fn what(&self) -> String {
        let cut = |text: &str| text.chars().take(40).collect::<String>();
        match &self.node {
            Node::Null => "nothing".into(),
            Node::Bool(b) => b.to_string(),
            Node::Number(n) => format!("the number {n}"),
            Node::Text(text) => format!("{:?}", cut(text)),
            Node::List(_) => "a list".into(),
            Node::Map(_) => "a mapping".into(),
        }
    }

    /// Removes the value at a path.
    pub fn remove(&mut self, path: &str) {
        match &mut self.node {
            Node::Map(members) => {
                members.retain(|member| member.key != path);
                for member in members {
                    if let Some(rest) =
                        path.strip_prefix(member.key.as_str()).and_then(|rest| rest.strip_prefix('.'))
                    {
                        member.value.remove(rest);
                    }
                }
            }
            Node::List(items) => {
                let (index, rest) = path.split_once('.').unwrap_or((path, ""));
                if let Some(item) = index.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                    // An entry itself is blanked, not taken out, so that the others keep their numbers.
                    if rest.is_empty() { item.node = Node::Null } else { item.remove(rest) }
                }
            }
            _ => {}
        }
    }

    /// Lays `over` upon this tree: maps are merged member by member, everything else is replaced; a member without a
    /// value takes away what was there, so that `batches: null` makes room for `max_parallel`.
    pub fn overlay(&mut self, over: Self) {
        match (&mut self.node, over) {
            (Node::Map(members), Self { node: Node::Map(others), .. }) => {
                for other in others {
                    if other.value.node == Node::Null {
                        members.retain(|member| member.key != other.key);
                        continue;
                    }
                    match members.iter_mut().find(|member| member.key == other.key) {
                        Some(member) => member.value.overlay(other.value),
                        None => members.push(other),
                    }
                }
            }
            (_, over) => *self = over,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned: Spanned<Node> = Spanned::deserialize(deserializer)?;
        Ok(Self { at: place(&spanned), node: spanned.value })
    }
}

fn place<T>(spanned: &Spanned<T>) -> Place {
    Place { line: spanned.referenced.line(), column: spanned.referenced.column() }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;
        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a YAML value")
            }
            fn visit_bool<E>(self, b: bool) -> Result<Node, E> {
                Ok(Node::Bool(b))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Node, E> {
                Ok(Node::Number(n.into()))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Node, E> {
                Ok(Node::Number(n.into()))
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Node, E> {
                Number::from_f64(n).map(Node::Number).ok_or_else(|| E::custom("not a finite number"))
            }
            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Node, E> {
                Ok(Node::Text(text))
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<Tree>()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let at = place(&key);
                    members.push(Member { key: key.value, at, value: map.next_value()? });
                }
                Ok(Node::Map(members))
            }
        }
        deserializer.deserialize_any(NodeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive() {
        let (tree, problems) = parse("a: 1\nb:\n  - x\n  - {c: true}\n'd.e': ~\nf: [1, 2.5]\n").unwrap();
        assert_eq!(problems, vec![]);
        let json = serde_json::json!({"a": 1, "b": ["x", {"c": true}], "d.e": null, "f": [1, 2.5]});
        assert_eq!(tree.to_json(), json);
        let at = |path: &str| (tree.locate(path).line, tree.locate(path).column);
        assert_eq!(
            (at("a"), at("b.0"), at("b.1.c"), at("b"), at("d.e")),
            ((1, 4), (3, 5), (4, 9), (2, 1), (5, 8))
        );
        assert_eq!(at("b.7"), (3, 3));
    }

    #[test]
    fn all_duplicates_are_found() {
        let (tree, problems) = parse("a: 1\nb: {x: 1, x: 2}\na: 2\n").unwrap();
        let found: Vec<_> = problems.iter().map(|p| (p.path.as_str(), p.at.line)).collect();
        assert_eq!(found, [("b.x", 2), ("a", 3)]);
        assert_eq!(tree.to_json(), serde_json::json!({"a": 1, "b": {"x": 1}}));
    }

    #[test]
    fn broken_yaml_says_where() {
        for (text, line) in [("a: [1\nb: 2\n", 2), ("a: b: c\n", 1), ("a:\n  b: [1, 2\n  c: 3\n", 3)] {
            let problem = parse(text).unwrap_err();
            assert_eq!(problem.at.line, line, "{problem:?}");
        }
    }

    #[test]
    fn overlays_merge_maps() {
        let (mut tree, _) = parse("a: {x: 1, y: [1, 2]}\n").unwrap();
        tree.overlay(parse("a: {y: [3], z: 4, x: null}\n").unwrap().0);
        assert_eq!(tree.to_json(), serde_json::json!({"a": {"y": [3], "z": 4}}));
    }
}
