//! URLs that a coordinator dials: what a spec may ask for, and what its settings allow.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use http::Uri;
use serde::{Deserialize, Serialize};

/// Longest URL.
const LONGEST: usize = 2000;

/// A URL with scheme `http` or `https`, a host, and no secrets in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DialUrl {
    text: String,
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

/// A text that is no such URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a URL that the coordinator could dial: {why}; write one as in https://shop.example/health"
)]
pub struct NoDialUrl {
    text: String,
    why: &'static str,
}

impl FromStr for DialUrl {
    type Err = NoDialUrl;

    fn from_str(text: &str) -> Result<Self, NoDialUrl> {
        let wrong = |why| NoDialUrl { text: text.chars().take(100).collect(), why };
        if text.len() > LONGEST {
            return Err(wrong("it is longer than 2000 bytes"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it cannot be read"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it does not begin with http:// or https://")),
        };
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        if authority.contains('@') {
            return Err(wrong("it holds a user or a password"));
        }
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        let port = match (uri.port_u16(), authority.rsplit_once(':')) {
            (Some(port), _) => port,
            // A port that is none, as 99999.
            (None, Some((_, rest))) if !rest.ends_with(']') => return Err(wrong("its port is none")),
            (None, _) => {
                if secure {
                    443
                } else {
                    80
                }
            }
        };
        Ok(Self { text: text.to_owned(), secure, host, port, path: uri.path().to_owned() })
    }
}

impl TryFrom<String> for DialUrl {
    type Error = NoDialUrl;

    fn try_from(text: String) -> Result<Self, NoDialUrl> {
        text.parse()
    }
}

impl From<DialUrl> for String {
    fn from(url: DialUrl) -> Self {
        url.text
    }
}

impl fmt::Display for DialUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl schemars::JsonSchema for DialUrl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DialUrl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "uri", "pattern": "^https?://" })
    }
}

/// What a coordinator's settings allow to be dialled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Allowed {
    /// Every URL of this machine's own loopback addresses.
    Loopback,
    /// This URL and all beneath it: the same scheme, host and port, and a path that goes on from this one's.
    Beneath(DialUrl),
}

impl FromStr for Allowed {
    type Err = NoDialUrl;

    fn from_str(text: &str) -> Result<Self, NoDialUrl> {
        if text == "loopback" { Ok(Self::Loopback) } else { text.parse().map(Self::Beneath) }
    }
}

impl TryFrom<String> for Allowed {
    type Error = NoDialUrl;

    fn try_from(text: String) -> Result<Self, NoDialUrl> {
        text.parse()
    }
}

impl Allowed {
    /// Whether this allows a URL.
    pub fn allows(&self, url: &DialUrl) -> bool {
        match self {
            // By number: a name may lead anywhere.
            Self::Loopback => {
                let host = url.host.trim_start_matches('[').trim_end_matches(']');
                host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            Self::Beneath(allowed) => {
                (url.secure, &url.host, url.port) == (allowed.secure, &allowed.host, allowed.port)
                    && url.path.strip_prefix(allowed.path.trim_end_matches('/')).is_some_and(|rest| {
                        // What a server makes of `..` is not seen from here.
                        (rest.is_empty() || rest.starts_with('/')) && !url.path.split('/').any(is_up)
                    })
            }
        }
    }
}

fn is_up(part: &str) -> bool {
    matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> DialUrl {
        text.parse().unwrap()
    }

    #[test]
    fn urls_are_of_the_web_and_hold_no_secrets() {
        for good in
            ["http://a", "https://a.example:8443/x?y=1", "http://127.0.1.1:80/", "http://[::1]:8080/health"]
        {
            assert_eq!(url(good).to_string(), good);
        }
        for (bad, why) in [
            ("", "cannot be read"),
            ("a.example/health", "cannot be read"),
            ("/health", "does not begin"),
            ("ftp://a", "does not begin"),
            ("file:///etc/passwd", "cannot be read"),
            ("http://ana:secret@a", "user or a password"),
            ("http://a:99999/", "its port is none"),
            ("http://a b", "cannot be read"),
        ] {
            let error = bad.parse::<DialUrl>().unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
            assert!(error.contains("as in https://"), "{error}");
        }
        assert!(format!("http://a/{}", "x".repeat(LONGEST)).parse::<DialUrl>().is_err());
    }

    #[test]
    fn only_what_is_beneath_is_allowed() {
        let allowed: Allowed = "https://shop.example/status/".parse().unwrap();
        for (text, is) in [
            ("https://shop.example/status", true),
            ("https://shop.example/status/", true),
            ("https://shop.example/status/deep?x=1", true),
            ("https://SHOP.example:443/status/deep", true),
            ("https://shop.example/statusx", false),
            ("https://shop.example/", false),
            ("http://shop.example/status", false),
            ("https://shop.example:8443/status", false),
            ("https://shop.example.evil/status", false),
            ("https://shop.example/status/../admin", false),
            ("https://shop.example/status/%2e%2E/admin", false),
        ] {
            assert_eq!(allowed.allows(&url(text)), is, "{text}");
        }
        let all: Allowed = "http://shop.example".parse().unwrap();
        assert!(all.allows(&url("http://shop.example/any/thing")));
    }

    #[test]
    fn loopback_is_meant_by_number() {
        for (text, is) in [
            ("http://127.0.1.7:8080/health", true),
            ("http://[::1]/", true),
            ("http://localhost/", false),
            ("http://10.0.0.1/", false),
            ("http://127.0.0.1.evil.example/", false),
        ] {
            assert_eq!(Allowed::Loopback.allows(&url(text)), is, "{text}");
        }
        assert_eq!("loopback".parse(), Ok(Allowed::Loopback));
        assert!("loop".parse::<Allowed>().is_err());
    }
}
