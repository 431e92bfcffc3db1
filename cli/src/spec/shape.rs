//! A tree against the schema: unknown and missing keys, wrong types, wrong words; every one of them, each with its place.

use serde_json::Value;
use windlass_proto::id::AppName;
use windlass_proto::spec::{Amount, ByteSize, EnvName};
use windlass_proto::time::Span;

use super::problem::{MISSING, Problem};
use super::tree::{Member, Node, Place, Tree, join};
use super::{near, unsupported};

/// Checks `tree`, which stands at `path`, against `schema`; `root` holds the definitions.
pub fn check(tree: &Tree, schema: &Value, root: &Value, path: &str) -> Vec<Problem> {
    let mut walk = Walk { root, problems: Vec::new() };
    walk.value(tree, schema, path, tree.at);
    walk.problems
}

struct Walk<'a> {
    root: &'a Value,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn error(&mut self, at: Place, path: &str, message: impl Into<String>) {
        self.problems.push(Problem::error(at, path, message));
    }

    /// `key_at` is where the value's key stands: what a message about an absent value points at.
    fn value(&mut self, tree: &Tree, schema: &Value, path: &str, key_at: Place) {
        if let Some(inner) = schema["allOf"].get(0) {
            return self.value(tree, inner, path, key_at);
        }
        if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
            return self.named(tree, name, path, key_at);
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            let present = choices.iter().find(|choice| choice["type"] != "null");
            let optional = choices.iter().any(|choice| choice["type"] == "null");
            match present {
                Some(_) if optional && tree.node == Node::Null => self.empty(path, key_at),
                Some(inner) => self.value(tree, inner, path, key_at),
                None => {}
            }
            return;
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            return self.one_of(tree, choices, path, key_at);
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        if tree.node == Node::Null {
            return self.empty(path, key_at);
        }
        let wanted = types.iter().find(|t| **t != "null").copied().unwrap_or_default();
        match (wanted, &tree.node) {
            ("object", Node::Map(members)) => self.map(tree, members, schema, path, key_at),
            ("array", Node::List(items)) => {
                for (i, item) in items.iter().enumerate() {
                    self.value(item, &schema["items"], &join(path, &i.to_string()), item.at);
                }
            }
            ("integer", Node::Number(number)) => self.integer(tree, number, schema, path),
            ("string", Node::Text(_)) | ("boolean", Node::Bool(_)) => {}
            ("string", Node::Number(_) | Node::Bool(_)) => {
                let text = tree.to_json();
                self.error(
                    tree.at,
                    path,
                    format!("expected a text, found {}: write \"{text}\"", tree.what()),
                );
            }
            _ => {
                let expected = match wanted {
                    "object" => "a mapping",
                    "array" => "a list, as in [a, b]",
                    "integer" => "a whole number",
                    "string" => "a text",
                    _ => "true or false",
                };
                self.error(tree.at, path, format!("expected {expected}, found {}", tree.what()));
            }
        }
    }

    fn empty(&mut self, path: &str, at: Place) {
        // In an environment that takes the member away.
        if !path.starts_with("environments.") {
            self.error(at, path, "has no value; give one or remove the key");
        }
    }

    fn integer(&mut self, tree: &Tree, number: &serde_json::Number, schema: &Value, path: &str) {
        let least = schema["minimum"].as_u64().unwrap_or(0);
        let most = schema["maximum"].as_u64().unwrap_or(match schema["format"].as_str() {
            Some("uint32") => u64::from(u32::MAX),
            Some("uint16") => u64::from(u16::MAX),
            _ => u64::MAX,
        });
        match number.as_u64() {
            Some(n) if (least..=most).contains(&n) => {}
            _ if number.is_f64() => {
                self.error(tree.at, path, format!("expected a whole number, found {number}"))
            }
            _ => self.error(tree.at, path, format!("{number} is not between {least} and {most}")),
        }
    }

    /// Types with a grammar of their own: their own parser says what is wrong.
    fn named(&mut self, tree: &Tree, name: &str, path: &str, key_at: Place) {
        let root = self.root;
        let parsed = match (name, &tree.node) {
            ("Duration" | "ByteSize" | "Amount" | "PortRef", Node::Null) => return self.empty(path, key_at),
            ("Duration", Node::Text(text)) => text.parse::<Span>().map(drop).map_err(|e| e.to_string()),
            ("Duration", Node::Number(n)) => Err(format!("{n} has no unit: write {n}s or {n}ms")),
            ("Duration", _) => Err(format!("expected a duration, as in 30s, found {}", tree.what())),
            ("ByteSize", Node::Text(text)) => text.parse::<ByteSize>().map(drop).map_err(|e| e.to_string()),
            ("ByteSize", Node::Number(n)) => Err(format!("{n} has no unit: write {n}MiB")),
            ("ByteSize", _) => Err(format!("expected a size, as in 512MiB, found {}", tree.what())),
            ("Amount", Node::Text(text)) => text.parse::<Amount>().map(drop).map_err(|e| e.to_string()),
            ("Amount", Node::Number(_)) => {
                serde_json::from_value::<Amount>(tree.to_json()).map(drop).map_err(|e| e.to_string())
            }
            ("Amount", _) => {
                Err(format!("expected a number of hosts or a percentage, found {}", tree.what()))
            }
            ("PortRef", Node::Text(_)) => Ok(()),
            ("PortRef", Node::Number(n)) if n.as_u64().is_some_and(|n| u16::try_from(n).is_ok()) => Ok(()),
            ("PortRef", _) => Err(format!("expected a port's name or number, found {}", tree.what())),
            ("AppName", Node::Text(text)) => AppName::new(text.as_str()).map(drop).map_err(|e| e.to_string()),
            _ => return self.value(tree, &root["definitions"][name], path, key_at),
        };
        if let Err(message) = parsed {
            self.error(tree.at, path, message);
        }
    }

    fn one_of(&mut self, tree: &Tree, choices: &[Value], path: &str, key_at: Place) {
        let words: Vec<&str> = choices.iter().filter_map(|choice| choice["const"].as_str()).collect();
        if !words.is_empty() {
            match &tree.node {
                Node::Null => self.empty(path, key_at),
                Node::Text(text) => self.word(tree, text, &words, path),
                _ => {
                    let words = words.join(", ");
                    self.error(tree.at, path, format!("expected one of {words}, found {}", tree.what()));
                }
            }
            return;
        }
        // A mapping whose `kind` says which members it has.
        let kinds: Vec<&str> =
            choices.iter().filter_map(|choice| choice["properties"]["kind"]["const"].as_str()).collect();
        let Node::Map(members) = &tree.node else {
            return self.error(tree.at, path, format!("expected a mapping, found {}", tree.what()));
        };
        let Some(kind) = tree.get("kind") else {
            let kinds = kinds.join(" or ");
            return self.error(key_at, path, format!("kind is missing: give {kinds}"));
        };
        let kind_path = join(path, "kind");
        let Node::Text(word) = &kind.value.node else {
            let message = format!("expected one of {}, found {}", kinds.join(", "), kind.value.what());
            return self.error(kind.value.at, &kind_path, message);
        };
        match choices.iter().find(|choice| choice["properties"]["kind"]["const"] == word.as_str()) {
            Some(choice) => self.map(tree, members, choice, path, key_at),
            None => self.word(&kind.value, word, &kinds, &kind_path),
        }
    }

    fn word(&mut self, tree: &Tree, word: &str, words: &[&str], path: &str) {
        if words.contains(&word) {
            return;
        }
        let known = words.join(", ");
        let message = if unsupported::is_later_value(path, word) {
            format!("{word} is not supported yet; this version has {known}")
        } else if let Some(meant) = near(word, words.iter().copied()) {
            format!("unknown word {word:?}, did you mean {meant:?}? Known: {known}")
        } else {
            format!("unknown word {word:?}. Known: {known}")
        };
        self.error(tree.at, path, message);
    }

    fn map(&mut self, tree: &Tree, members: &[Member], schema: &Value, path: &str, key_at: Place) {
        let properties = schema["properties"].as_object();
        for member in members {
            let at = join(path, &member.key);
            match properties.and_then(|p| p.get(&member.key)) {
                // The tag of a mapping with kinds.
                Some(known) if known.get("const").is_some() => {}
                Some(known) => self.value(&member.value, known, &at, member.at),
                None if schema["additionalProperties"].is_object() => {
                    if path.ends_with(".runtime.env")
                        && let Err(invalid) = EnvName::new(member.key.as_str())
                    {
                        self.error(member.at, &at, invalid.to_string());
                    }
                    self.value(&member.value, &schema["additionalProperties"], &at, member.at);
                }
                None => self.unknown(member, properties, &at),
            }
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if tree.get(required).is_none() {
                let place = if path.is_empty() { tree.at } else { key_at };
                self.error(place, &join(path, required), MISSING);
            }
        }
    }

    fn unknown(&mut self, member: &Member, known: Option<&serde_json::Map<String, Value>>, path: &str) {
        let names: Vec<&str> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let message = if unsupported::is_later_key(path) {
            "is not supported yet; remove it".to_owned()
        } else if let Some(meant) = near(&member.key, names.iter().copied()) {
            format!("unknown key, did you mean {meant:?}?")
        } else {
            format!("unknown key; known here: {}", names.join(", "))
        };
        self.error(member.at, path, message);
    }
}
