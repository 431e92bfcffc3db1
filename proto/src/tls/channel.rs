//! gRPC channels over the fleet's TLS, and the HTTP/2 settings of both ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Server};

use super::SERVER_NAME;
use crate::limits::{CONNECTION_WINDOW, FRAME_BYTES, STREAM_WINDOW};

/// Longest wait for a connection, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is asked for a sign of life this often ...
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// ... and given up when none comes for so long.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A coordinator that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No TCP connection.
    #[error("cannot connect to {address}")]
    Dial {
        /// The address.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// TLS failed: either side refuses the other's certificate.
    #[error("TLS handshake with {address} failed")]
    Handshake {
        /// The address.
        address: String,
        /// Why; holds a `rustls::Error`.
        #[source]
        source: std::io::Error,
    },
    /// Nothing within [`CONNECT_TIMEOUT`].
    #[error("no answer from {address} within 5 s")]
    Timeout {
        /// The address.
        address: String,
    },
    /// HTTP/2 failed.
    #[error("no gRPC connection to {address}")]
    Transport {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    /// The handshake ended because a certificate was refused, by either side.
    pub fn is_certificate_refused(&self) -> bool {
        let Self::Handshake { source, .. } = self else { return false };
        let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        matches!(
            inner,
            Some(
                rustls::Error::InvalidCertificate(_)
                    | rustls::Error::NoCertificatesPresented
                    | rustls::Error::AlertReceived(_)
            )
        )
    }
}

/// Connects to `address` (`host:port`) and returns a channel that dials again by itself when the connection breaks.
/// The certificate there must be for [`SERVER_NAME`].
pub async fn connect(address: &str, config: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let first = Mutex::new(Some(dial(address, &config).await?));
    let target = address.to_owned();
    let connector = tower::service_fn(move |_| {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (target, config) = (target.clone(), Arc::clone(&config));
        async move {
            match first {
                Some(stream) => Ok(TokioIo::new(stream)),
                None => dial(&target, &config).await.map(TokioIo::new),
            }
        }
    });
    let failed = |source| ConnectError::Transport { address: address.to_owned(), source };
    endpoint().connect_with_connector(connector).await.map_err(failed)
}

/// A TLS connection, verified.
pub async fn dial(address: &str, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, ConnectError> {
    let attempt = async {
        let stream = TcpStream::connect(address)
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| ConnectError::Dial { address: address.to_owned(), source })?;
        TlsConnector::from(Arc::clone(config))
            .connect(server_name(), stream)
            .await
            .map_err(|source| ConnectError::Handshake { address: address.to_owned(), source })
    };
    tokio::time::timeout(CONNECT_TIMEOUT, attempt)
        .await
        .unwrap_or_else(|_| Err(ConnectError::Timeout { address: address.to_owned() }))
}

/// A server with the windows, frames and keepalive that clients of [`connect`] use.
pub fn http2_server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// The scheme is `http` because the connector brings TLS itself; tonic would otherwise ask for its own.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://coordinator.windlass")
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

fn server_name() -> ServerName<'static> {
    ServerName::DnsName(
        rustls_pki_types::DnsName::try_from(SERVER_NAME)
            .unwrap_or_else(|_| unreachable!("a constant DNS name")),
    )
}
