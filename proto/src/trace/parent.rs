//! Which trace something belongs to, and under which span.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A span of a trace, as others name it whose own spans lie under it.
///
/// As text it is the `traceparent` of <https://www.w3.org/TR/trace-context/>, version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    trace: NonZeroU128,
    span: NonZeroU64,
    sampled: bool,
}

/// A text is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no traceparent: 00-TRACE-SPAN-FLAGS is expected, with 32, 16 and 2 hexadecimal digits")]
pub struct NotTraceParent(String);

impl TraceParent {
    /// In metadata of gRPC, and of HTTP.
    pub const HEADER: &'static str = "traceparent";

    /// The root of a trace that is told to collectors; both ids should be random.
    pub const fn root(trace: NonZeroU128, span: NonZeroU64) -> Self {
        Self { trace, span, sampled: true }
    }

    /// The trace.
    pub const fn trace(self) -> NonZeroU128 {
        self.trace
    }

    /// The span.
    pub const fn span(self) -> NonZeroU64 {
        self.span
    }

    /// Whether the trace is told to collectors.
    pub const fn is_sampled(self) -> bool {
        self.sampled
    }

    /// The span under this one that is about this, whoever asks.
    #[cfg(feature = "bundle")]
    #[must_use]
    pub fn about(self, what: &str) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.trace.get().to_be_bytes()).update(&self.span.get().to_be_bytes());
        hash.update(what.as_bytes());
        let first = hash.finalize().as_bytes().first_chunk().copied().unwrap_or_default();
        let span = NonZeroU64::new(u64::from_be_bytes(first)).unwrap_or(NonZeroU64::MIN);
        Self { span, ..self }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, sampled } = self;
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(*sampled))
    }
}

impl FromStr for TraceParent {
    type Err = NotTraceParent;

    fn from_str(text: &str) -> Result<Self, NotTraceParent> {
        parse(text).ok_or_else(|| NotTraceParent(text.chars().take(100).collect()))
    }
}

fn parse(text: &str) -> Option<TraceParent> {
    let mut parts = text.split('-');
    let mut next = |digits: usize| {
        let part = parts.next()?;
        let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (part.len() == digits && is_hex).then_some(part)
    };
    let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    // Later versions may say more after that; this one has no more.
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    Some(TraceParent {
        trace: u128::from_str_radix(trace, 16).ok().and_then(NonZeroU128::new)?,
        span: u64::from_str_radix(span, 16).ok().and_then(NonZeroU64::new)?,
        sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
    })
}

impl TryFrom<String> for TraceParent {
    type Error = NotTraceParent;

    fn try_from(text: String) -> Result<Self, NotTraceParent> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn it_is_written_as_it_was_read() {
        for text in [TEXT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"] {
            let parent: TraceParent = text.parse().unwrap();
            assert_eq!(parent.to_string(), text);
            assert_eq!(serde_json::to_string(&parent).unwrap(), format!("{text:?}"));
            assert_eq!(serde_json::from_str::<TraceParent>(&format!("{text:?}")).unwrap(), parent);
        }
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more";
        assert_eq!(later.parse::<TraceParent>().unwrap().to_string(), TEXT);
    }

    #[test]
    fn what_the_standard_refuses_is_refused() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let refused = text.parse::<TraceParent>().unwrap_err().to_string();
            assert_eq!(
                refused,
                format!(
                    "{text:?} is no traceparent: 00-TRACE-SPAN-FLAGS is expected, with 32, 16 and 2 hexadecimal digits"
                )
            );
        }
    }

    #[cfg(feature = "bundle")]
    #[test]
    fn a_span_has_the_same_id_whoever_asks() {
        let parent: TraceParent = TEXT.parse().unwrap();
        let rollout = parent.about("r-1");
        assert_eq!(rollout, parent.about("r-1"));
        assert_eq!(rollout.trace(), parent.trace());
        let other: TraceParent = TEXT.replace("4bf9", "4bf8").parse().unwrap();
        let spans = [parent, rollout, parent.about("r-2"), rollout.about("r-1"), other.about("r-1")];
        let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| span.span()).collect();
        assert_eq!(ids.len(), spans.len());
    }
}
