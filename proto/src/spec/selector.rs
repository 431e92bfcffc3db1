//! Label selectors in kubectl's grammar.
//!
//! `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k` (exists), `!k` (does not exist); a comma means "and". As with
//! kubectl `!=` and `notin` also match hosts without the label. An empty selector is an error, never "all hosts".

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// A parsed selector. Its `Display` is the canonical form and parses to the same selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Equal(String),
    NotEqual(String),
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
}

/// A text that is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid selector {text:?}: {problem} at character {position}")]
pub struct InvalidSelector {
    /// The text, cut to 200 characters.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
    /// Where, counted in characters from 1.
    pub position: usize,
}

/// A label's key or value that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid label {what} {text:?}: {rule}")]
pub struct InvalidLabel {
    what: &'static str,
    text: String,
    rule: &'static str,
}

const KEY_RULE: &str = "use 1 to 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or a digit, \
                        with a DNS name and '/' before it if need be";
const VALUE_RULE: &str =
    "use at most 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or a digit";

fn is_word(text: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.bytes().next())
        && ends(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn is_prefix(text: &str) -> bool {
    text.len() <= 253
        && text
            .split('.')
            .all(|part| is_word(part) && !part.contains(|c: char| c == '_' || c.is_ascii_uppercase()))
}

fn invalid_label(what: &'static str, text: &str, rule: &'static str) -> InvalidLabel {
    InvalidLabel { what, text: text.chars().take(80).collect(), rule }
}

/// Checks a label's key: a name as Kubernetes defines it, with an optional DNS prefix.
pub fn check_label_key(key: &str) -> Result<(), InvalidLabel> {
    let ok = match key.split_once('/') {
        Some((prefix, name)) => is_prefix(prefix) && is_word(name),
        None => is_word(key),
    };
    if ok { Ok(()) } else { Err(invalid_label("key", key, KEY_RULE)) }
}

/// Checks a label's value; the empty value is valid.
pub fn check_label_value(value: &str) -> Result<(), InvalidLabel> {
    if value.is_empty() || is_word(value) { Ok(()) } else { Err(invalid_label("value", value, VALUE_RULE)) }
}

/// Checks all labels of a host.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), InvalidLabel> {
    labels.iter().try_for_each(|(key, value)| check_label_key(key).and_then(|()| check_label_value(value)))
}

impl Selector {
    /// Whether a host with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.test {
                Test::Equal(wanted) => value == Some(wanted),
                Test::NotEqual(unwanted) => value != Some(unwanted),
                Test::In(set) => value.is_some_and(|value| set.contains(value)),
                Test::NotIn(set) => value.is_none_or(|value| !set.contains(value)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        })
    }

    /// The keys that it looks at, for a hint when nothing matches.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|requirement| requirement.key.as_str())
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;
    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let mut reader = Reader { text, at: 0 };
        reader.space();
        if reader.rest().is_empty() {
            return Err(
                reader.error("it is empty, which never means all hosts; name a label, as in role=app,")
            );
        }
        let mut requirements = vec![reader.requirement()?];
        while reader.eat(",") {
            requirements.push(reader.requirement()?);
        }
        if !reader.rest().is_empty() {
            return Err(reader.error("expected ',' and another requirement"));
        }
        Ok(Self(requirements))
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Skips white space and then `token`, if it is there.
    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
            self.space();
        }
        found
    }

    fn error_at(&self, at: usize, problem: impl Into<String>) -> InvalidSelector {
        InvalidSelector {
            text: self.text.chars().take(200).collect(),
            problem: problem.into(),
            position: self.text[..at].chars().count() + 1,
        }
    }

    fn error(&self, problem: impl Into<String>) -> InvalidSelector {
        self.error_at(self.at, problem)
    }

    /// The next run of characters that may stand in a key or a value.
    fn word(&mut self) -> &'a str {
        self.space();
        let rest = self.rest();
        let end = rest.find(|c: char| c.is_whitespace() || "=!,()".contains(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn key(&mut self) -> Result<String, InvalidSelector> {
        self.space();
        let start = self.at;
        let key = self.word();
        if key.is_empty() {
            return Err(self.error_at(start, "expected a label's key"));
        }
        check_label_key(key).map_err(|error| self.error_at(start, error.to_string()))?;
        Ok(key.to_owned())
    }

    fn value(&mut self) -> Result<String, InvalidSelector> {
        self.space();
        let start = self.at;
        let value = self.word();
        check_label_value(value).map_err(|error| self.error_at(start, error.to_string()))?;
        Ok(value.to_owned())
    }

    fn set(&mut self) -> Result<BTreeSet<String>, InvalidSelector> {
        if !self.eat("(") {
            return Err(self.error("expected '(' and a list of values"));
        }
        let mut set = BTreeSet::new();
        loop {
            let value = self.value()?;
            if value.is_empty() {
                return Err(self.error("expected a value"));
            }
            set.insert(value);
            if self.eat(")") {
                return Ok(set);
            }
            if !self.eat(",") {
                return Err(self.error("expected ',' or ')'"));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, InvalidSelector> {
        if self.eat("!") {
            return Ok(Requirement { key: self.key()?, test: Test::Absent });
        }
        let key = self.key()?;
        let test = if self.eat("!=") {
            Test::NotEqual(self.value()?)
        } else if self.eat("==") || self.eat("=") {
            Test::Equal(self.value()?)
        } else {
            let start = self.at;
            match self.word() {
                "in" => Test::In(self.set()?),
                "notin" => Test::NotIn(self.set()?),
                "" => Test::Exists,
                _ => return Err(self.error_at(start, "expected '=', '!=', 'in', 'notin' or ','")),
            }
        };
        Ok(Requirement { key, test })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        for (index, Requirement { key, test }) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match test {
                Test::Equal(value) => write!(f, "{key}={value}")?,
                Test::NotEqual(value) => write!(f, "{key}!={value}")?,
                Test::In(set) => write!(f, "{key} in ({})", list(set))?,
                Test::NotIn(set) => write!(f, "{key} notin ({})", list(set))?,
                Test::Exists => f.write_str(key)?,
                Test::Absent => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn selects_as_kubectl_does() {
        for (selector, host, selected) in [
            ("role=api", "role=api,env=prod", true),
            ("role==api", "role=db", false),
            ("role = api , env != prod", "role=api,env=prod", false),
            ("env!=prod", "role=api", true),
            ("env in (prod, staging)", "env=staging", true),
            ("env in (prod)", "role=api", false),
            ("env notin (prod,staging)", "env=dev", true),
            ("env notin (prod)", "role=api", true),
            ("env", "env=", true),
            ("!env", "env=x", false),
            ("!env,role", "role=api", true),
            ("windlass.dev/rack=r1", "windlass.dev/rack=r1", true),
            ("role=", "role=", true),
            ("in in (in)", "in=in", true),
        ] {
            let parsed: Selector = selector.parse().unwrap();
            assert_eq!(parsed.matches(&labels(host)), selected, "{selector} on {host}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{selector}");
        }
    }

    #[test]
    fn errors_say_where() {
        for (bad, position) in [
            ("", 1),
            ("  ", 3),
            (",", 1),
            ("a=b,", 5),
            ("a=b,,c=d", 5),
            ("=b", 1),
            ("a=b c=d", 5),
            ("a in b", 6),
            ("a in (", 7),
            ("a in ()", 7),
            ("a in (b", 8),
            ("a in (b c)", 9),
            ("a in (b,)", 9),
            ("a like b", 3),
            ("!", 2),
            ("!a=b", 3),
            ("-a=b", 1),
            ("a=-b", 3),
            ("ä=b", 1),
            ("a=b)", 4),
        ] {
            let error = bad.parse::<Selector>().unwrap_err();
            assert_eq!(error.position, position, "{bad:?}: {error}");
        }
    }

    #[test]
    fn labels_are_checked() {
        assert!(check_labels(&labels("role=app,rack=r1,x.y/z=")).is_ok());
        for bad in ["", "a b", "/a", "a/", "A.b/c", "a/b/c", &"x".repeat(64)] {
            assert!(check_label_key(bad).is_err(), "{bad}");
        }
        for bad in ["a b", "-", "x/y", &"x".repeat(64)] {
            assert!(check_label_value(bad).is_err(), "{bad}");
        }
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let word = "[a-zA-Z0-9]([a-zA-Z0-9._-]{0,8}[a-zA-Z0-9])?";
        let key =
            prop_oneof![word.boxed(), "[a-z]{1,5}(\\.[a-z]{1,5})?/[a-z]{1,5}".boxed(), "(in|notin)".boxed()];
        let set = proptest::collection::btree_set(word, 1..4);
        let test = prop_oneof![
            word.prop_map(Test::Equal),
            Just(Test::Equal(String::new())),
            word.prop_map(Test::NotEqual),
            set.clone().prop_map(Test::In),
            set.prop_map(Test::NotIn),
            Just(Test::Exists),
            Just(Test::Absent),
        ];
        (key, test).prop_map(|(key, test)| Requirement { key, test })
    }

    proptest! {
        #[test]
        fn the_canonical_form_parses_to_the_same(list in proptest::collection::vec(requirement(), 1..5)) {
            let selector = Selector(list);
            prop_assert_eq!(selector.to_string().parse(), Ok(selector));
        }

        #[test]
        fn no_text_panics(text in "[ a-z=!,()./é]{0,20}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse(), Ok(selector));
            }
        }
    }
}
