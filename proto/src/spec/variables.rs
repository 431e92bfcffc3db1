//! Variables in braces: the few names that a spec's texts may hold, parsed the same way by `validate` and by the host.
//!
//! `{{` and `}}` stand for the braces themselves; there is no templating language.

use std::fmt;

/// A name that stands for something only the host knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variable {
    /// `{host.name}`
    HostName,
    /// `{host.address}`
    HostAddress,
    /// `{host.label.X}`
    HostLabel(String),
    /// `{port.X}`
    Port(String),
    /// `{release.version}`
    ReleaseVersion,
    /// `{release.digest}`
    ReleaseDigest,
    /// `{release.dir}`
    ReleaseDir,
    /// `{data.dir}`
    DataDir,
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostName => f.write_str("{host.name}"),
            Self::HostAddress => f.write_str("{host.address}"),
            Self::HostLabel(key) => write!(f, "{{host.label.{key}}}"),
            Self::Port(name) => write!(f, "{{port.{name}}}"),
            Self::ReleaseVersion => f.write_str("{release.version}"),
            Self::ReleaseDigest => f.write_str("{release.digest}"),
            Self::ReleaseDir => f.write_str("{release.dir}"),
            Self::DataDir => f.write_str("{data.dir}"),
        }
    }
}

/// A piece of a text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Stands for itself.
    Text(String),
    /// Is replaced on the host.
    Variable(Variable),
}

/// What is wrong with a text's braces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVariable {
    /// A name that is none of the known ones.
    #[error(
        "unknown variable {{{0}}}: use {{host.name}}, {{host.address}}, {{host.label.X}}, {{port.X}}, \
         {{release.version}}, {{release.digest}}, {{release.dir}} or {{data.dir}}; write {{{{ for a brace itself"
    )]
    Unknown(String),
    /// `{` without `}`.
    #[error("\"{{\" without \"}}\" in {0:?}; write {{{{ for a brace itself")]
    Unclosed(String),
    /// `}` without `{`.
    #[error("\"}}\" without \"{{\" in {0:?}; write }}}} for a brace itself")]
    Unopened(String),
}

impl Variable {
    /// Reads the name between the braces.
    pub fn parse(name: &str) -> Result<Self, InvalidVariable> {
        let unknown = || InvalidVariable::Unknown(name.chars().take(80).collect());
        match name {
            "host.name" => Ok(Self::HostName),
            "host.address" => Ok(Self::HostAddress),
            "release.version" => Ok(Self::ReleaseVersion),
            "release.digest" => Ok(Self::ReleaseDigest),
            "release.dir" => Ok(Self::ReleaseDir),
            "data.dir" => Ok(Self::DataDir),
            _ => match (name.strip_prefix("host.label."), name.strip_prefix("port.")) {
                (Some(key), _) if !key.is_empty() => Ok(Self::HostLabel(key.into())),
                (_, Some(port)) if !port.is_empty() => Ok(Self::Port(port.into())),
                _ => Err(unknown()),
            },
        }
    }
}

/// Takes a text apart.
pub fn parse(text: &str) -> Result<Vec<Piece>, InvalidVariable> {
    let shown = || text.chars().take(80).collect::<String>();
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(doubled) = after.strip_prefix(brace) {
            plain.push_str(brace);
            rest = doubled;
            continue;
        }
        if brace == "}" {
            return Err(InvalidVariable::Unopened(shown()));
        }
        let (name, behind) = after.split_once('}').ok_or_else(|| InvalidVariable::Unclosed(shown()))?;
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Variable(Variable::parse(name)?));
        rest = behind;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_apart() {
        assert_eq!(
            parse("--listen={host.address}:{port.http}"),
            Ok(vec![
                Piece::Text("--listen=".into()),
                Piece::Variable(Variable::HostAddress),
                Piece::Text(":".into()),
                Piece::Variable(Variable::Port("http".into())),
            ])
        );
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse("{{\"a\":{{}}}}"), Ok(vec![Piece::Text("{\"a\":{}}".into())]));
    }

    #[test]
    fn only_the_known_names_exist() {
        for good in ["host.name", "host.label.a.b/c", "port.http", "release.dir", "data.dir"] {
            let variable = Variable::parse(good).unwrap();
            assert_eq!(variable.to_string(), format!("{{{good}}}"));
        }
        for (bad, says) in [
            ("{hots.name}", "unknown variable {hots.name}"),
            ("{port.}", "unknown variable {port.}"),
            ("{}", "unknown variable {}"),
            ("a{b", "\"{\" without \"}\""),
            ("a}b", "\"}\" without \"{\""),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
