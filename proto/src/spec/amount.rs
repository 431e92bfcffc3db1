//! Counts, percentages and sizes as a spec writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text that is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {text:?}: {rule}")]
pub struct InvalidAmount {
    what: &'static str,
    text: String,
    rule: &'static str,
}

/// A share of a whole, in hundredths of a percent: `12.5%` is 1250.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(pub u32);

/// A number of hosts, or a percentage of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Amount {
    /// So many hosts.
    Count(u32),
    /// Such a share of the hosts.
    Percent(Ratio),
}

impl Amount {
    /// Hosts out of `total`, rounded down: what may be unavailable.
    pub const fn floor(self, total: u32) -> u32 {
        match self {
            Self::Count(n) => n,
            Self::Percent(Ratio(r)) => (total as u64 * r as u64 / 10_000) as u32,
        }
    }

    /// Hosts out of `total`, rounded up: how far a ramp reaches.
    pub const fn ceil(self, total: u32) -> u32 {
        match self {
            Self::Count(n) => n,
            Self::Percent(Ratio(r)) => (total as u64 * r as u64).div_ceil(10_000) as u32,
        }
    }
}

impl FromStr for Amount {
    type Err = InvalidAmount;
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let invalid = || InvalidAmount {
            what: "amount",
            text: text.chars().take(40).collect(),
            rule: "use a number of hosts, as 2, or a percentage from 0% to 100%, as 12.5%",
        };
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Count).map_err(|_| invalid());
        };
        let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 2 || whole.len() > 3 {
            return Err(invalid());
        }
        let fraction: u32 = format!("{fraction:0<2}").parse().map_err(|_| invalid())?;
        let ratio = whole.parse::<u32>().map_err(|_| invalid())? * 100 + fraction;
        if ratio > 10_000 { Err(invalid()) } else { Ok(Self::Percent(Ratio(ratio))) }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => write!(f, "{n}"),
            Self::Percent(Ratio(r)) if r % 100 == 0 => write!(f, "{}%", r / 100),
            Self::Percent(Ratio(r)) => write!(f, "{}.{:02}%", r / 100, r % 100),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(n) => serializer.serialize_u32(*n),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Amount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of hosts (2) or a percentage (10%)")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Amount, E> {
                u32::try_from(n).map(Amount::Count).map_err(|_| E::custom("more hosts than fit"))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Amount, E> {
                u32::try_from(n)
                    .map(Amount::Count)
                    .map_err(|_| E::custom("a number of hosts cannot be negative"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]{1,3}(\\.[0-9]{1,2})?%$" }
            ]
        })
    }
}

/// A number of bytes, written with a binary unit: `512MiB`, `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for ByteSize {
    type Err = InvalidAmount;
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let invalid = || InvalidAmount {
            what: "size",
            text: text.chars().take(40).collect(),
            rule: "use a whole number with a unit, as 512MiB or 2GiB",
        };
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let number: u64 = text[..split].parse().map_err(|_| invalid())?;
        let unit = SIZES.iter().find(|(name, _)| *name == &text[split..]).ok_or_else(invalid)?.1;
        number.checked_mul(unit).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, size) =
            SIZES.iter().find(|(_, s)| self.0 >= *s && self.0.is_multiple_of(*s)).unwrap_or(&SIZES[4]);
        write!(f, "{}{name}", self.0 / size)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)$" })
    }
}

/// Processor time as a share of one processor, in percent: `50%`, `200%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuQuota(pub u32);

impl FromStr for CpuQuota {
    type Err = InvalidAmount;
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
        percent.filter(|percent| (1..=1_000_000).contains(percent)).map(Self).ok_or_else(|| InvalidAmount {
            what: "share of a processor",
            text: text.chars().take(40).collect(),
            rule: "use a whole percentage, as 50% or 200% for two processors",
        })
    }
}

impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Serialize for CpuQuota {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuQuota {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for CpuQuota {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CpuQuota".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[1-9][0-9]{0,6}%$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_round_as_the_field_does() {
        let ten: Amount = "10%".parse().unwrap();
        assert_eq!((ten.floor(5), ten.ceil(5)), (0, 1));
        assert_eq!("12.5%".parse(), Ok(Amount::Percent(Ratio(1250))));
        assert_eq!(Amount::Percent(Ratio(1250)).to_string(), "12.50%");
        for bad in ["101%", "%", "1.234%", "-1", "x", "1e3%"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!("2GiB".parse(), Ok(ByteSize(2 << 30)));
        assert_eq!(ByteSize(1536 << 20).to_string(), "1536MiB");
        for bad in ["2", "2G", "GiB", "99999999999TiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn quotas_are_whole_percentages() {
        assert_eq!("200%".parse(), Ok(CpuQuota(200)));
        assert_eq!(CpuQuota(50).to_string(), "50%");
        for bad in ["0%", "2", "1.5%", "%", "9999999%"] {
            assert!(bad.parse::<CpuQuota>().is_err(), "{bad}");
        }
    }
}
