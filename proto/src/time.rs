//! Time as data: points on the wall clock and spans, both in milliseconds. Nothing here reads a clock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This point moved into the future by `span`, saturating.
    pub fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.0).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this point; zero when that is in the future.
    pub fn since(self, earlier: Self) -> Span {
        Span(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A length of time in milliseconds, written with units: `500ms`, `30s`, `5m`, `1h30m`, `2d`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    /// A span of whole seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// As the standard library's type.
    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// The same without its milliseconds.
    pub const fn whole_secs(self) -> Self {
        Self::secs(self.0 / 1000)
    }

    /// Whole seconds, rounded up.
    pub const fn ceil_secs(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

impl std::ops::Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::Mul<u64> for Span {
    type Output = Self;
    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

/// A text that is not a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {0:?}: use a number with a unit, as in 500ms, 30s, 5m, 1h30m or 2d")]
pub struct InvalidSpan(pub String);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl FromStr for Span {
    type Err = InvalidSpan;
    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let invalid = || InvalidSpan(text.chars().take(80).collect());
        let mut rest = text;
        let mut total: u64 = 0;
        let mut smallest = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
            let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let unit = UNITS.iter().find(|(name, _)| *name == &rest[..letters]);
            let unit = unit.map(|(_, ms)| *ms).filter(|ms| *ms < smallest).ok_or_else(invalid)?;
            smallest = unit;
            let part = number.checked_mul(unit).ok_or_else(invalid)?;
            total = total.checked_add(part).ok_or_else(invalid)?;
            rest = &rest[letters..];
        }
        if smallest == u64::MAX { Err(invalid()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        let mut text = String::new();
        for (name, size) in UNITS {
            if left >= size {
                text.push_str(&format!("{}{name}", left / size));
                left %= size;
            }
        }
        f.pad(if text.is_empty() { "0s" } else { &text })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^([0-9]+(d|h|m|s|ms))+$", "examples": ["500ms", "30s", "5m", "1h30m"]
        })
    }
}

/// A correction of one second takes ten.
const SLEW: i64 = 10;

/// The time `elapsed` after `last` for a clock that never jumps: drawn towards `wall` by at most a tenth of what has elapsed.
pub fn slew(last: Timestamp, wall: Timestamp, elapsed: Span) -> Timestamp {
    let elapsed = i64::try_from(elapsed.0).unwrap_or(i64::MAX / 2);
    let straight = last.0.saturating_add(elapsed);
    let most = elapsed / SLEW;
    Timestamp(straight.saturating_add(wall.0.saturating_sub(straight).clamp(-most, most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_of_the_wall_clock_are_followed_slowly() {
        let after = |wall, elapsed| slew(Timestamp(10_000), Timestamp(wall), Span(elapsed)).0;
        assert_eq!(after(11_000, 1000), 11_000);
        assert_eq!(after(3_600_000, 1000), 11_100, "an hour ahead");
        assert_eq!(after(0, 1000), 10_900, "back to 1970");
        assert_eq!(after(11_050, 1000), 11_050, "a small correction is taken whole");
        assert_eq!(after(0, 0), 10_000);
    }

    #[test]
    fn spans_read_and_write_units() {
        for (text, ms) in
            [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("0s", 0), ("2d", 172_800_000)]
        {
            assert_eq!(text.parse(), Ok(Span(ms)), "{text}");
            assert_eq!(Span(ms).to_string(), text);
        }
        for bad in ["", "5", "s", "5 s", "-1s", "1m1h", "1s1s", "99999999999999999999s", "1.5s", "5min"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
