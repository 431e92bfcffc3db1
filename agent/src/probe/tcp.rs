//! TCP connect.

use tokio::net::TcpStream;
use windlass_proto::spec::TcpProbe;

use super::{Found, Target};

pub(super) async fn connect(target: &Target, probe: &TcpProbe) -> Found {
    let address = target.address(&probe.port)?;
    match TcpStream::connect(address).await {
        Ok(_) => Ok(format!("connected to {address}")),
        Err(error) => Err(format!("cannot connect to {address}: {error}")),
    }
}
