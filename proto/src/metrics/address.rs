//! Where metrics are served.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Address and port; a port alone is one of loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "SocketAddr")]
pub struct MetricsAddress(pub SocketAddr);

/// Not such an address.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not where metrics can be served: write a port of loopback, as in 9464, or an address, as in \"10.0.0.7:9464\""
)]
pub struct NoMetricsAddress(String);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Port(u16),
    Number(i64),
    Text(String),
}

impl TryFrom<Written> for MetricsAddress {
    type Error = NoMetricsAddress;

    fn try_from(written: Written) -> Result<Self, NoMetricsAddress> {
        match written {
            Written::Port(port) => Ok(Self((Ipv4Addr::LOCALHOST, port).into())),
            Written::Number(number) => Err(NoMetricsAddress(number.to_string())),
            Written::Text(text) => text.parse(),
        }
    }
}

impl FromStr for MetricsAddress {
    type Err = NoMetricsAddress;

    fn from_str(text: &str) -> Result<Self, NoMetricsAddress> {
        let port = text.parse().ok().map(|port: u16| (Ipv4Addr::LOCALHOST, port).into());
        let address = port.or_else(|| text.parse().ok());
        address.map(Self).ok_or_else(|| NoMetricsAddress(text.to_owned()))
    }
}

impl From<MetricsAddress> for SocketAddr {
    fn from(address: MetricsAddress) -> Self {
        address.0
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_loopback() {
        for (text, address) in [
            ("9464", Some("127.0.0.1:9464")),
            ("0", Some("127.0.0.1:0")),
            ("10.0.0.7:9464", Some("10.0.0.7:9464")),
            ("[::1]:9464", Some("[::1]:9464")),
            ("", None),
            (":9464", None),
            ("65536", None),
            ("localhost:9464", None),
            ("10.0.0.7", None),
        ] {
            let parsed = text.parse::<MetricsAddress>().map(|address| address.to_string());
            assert_eq!(parsed.as_deref().ok(), address, "{text:?}");
            let json = serde_json::to_string(text).unwrap();
            let read = serde_json::from_str::<MetricsAddress>(&json).map(|address| address.to_string());
            assert_eq!(read.as_deref().ok(), address, "{text:?}");
        }
        let read = |json: &str| serde_json::from_str::<MetricsAddress>(json);
        assert_eq!(read("9464").unwrap().to_string(), "127.0.0.1:9464");
        for wrong in ["70000", "-1"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("as in 9464"), "{error}");
        }
    }
}
