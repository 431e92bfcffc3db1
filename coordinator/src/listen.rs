//! The accept loop: TCP, then TLS 1.3 under a deadline, then a connection whose peer is known.
//!
//! tonic's own loop fixes its certificates at start and has no bound on half-open handshakes; this one has both in hand.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use windlass_proto::tls::{Peer, serial_number};

/// A handshake that takes longer is cut: slow senders hold no slot for long.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way at once, per listener; further connections wait in the kernel's queue.
const HALF_OPEN: usize = 256;
/// Connections without a certificate, which may only enrol: so many at once,
const ANONYMOUS: usize = 256;
/// and each for so long.
const ANONYMOUS_FOR: Duration = Duration::from_secs(30);
/// Accepted connections that tonic has not taken yet.
const ACCEPTED: usize = 64;

/// Which of the two doors a connection came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The agents' listener.
    Agents,
    /// The operators' listener.
    Operators,
}

/// Who is at the other end, as its certificate says; an extension of every request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The certificate's subject.
    pub peer: Peer,
    /// The certificate's serial number, in hex; empty without one.
    pub certificate: String,
    /// The listener.
    pub door: Door,
    /// The other end's address, for the log.
    pub address: SocketAddr,
}

/// A TLS connection with its caller.
#[derive(Debug)]
pub struct Connection {
    stream: Box<TlsStream<TcpStream>>,
    caller: Caller,
    guest: Option<Guest>,
}

/// What bounds a connection without a certificate.
#[derive(Debug)]
struct Guest {
    _place: OwnedSemaphorePermit,
    leaves: Pin<Box<Sleep>>,
}

impl Connected for Connection {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(guest) = &mut this.guest
            && guest.leaves.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, data)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Accepts until `stop`; the stream ends then.
pub fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    door: Door,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(ACCEPTED);
    tokio::spawn(accept_loop(listener, TlsAcceptor::from(tls), door, stop, sender));
    ReceiverStream::new(receiver)
}

async fn accept_loop(
    listener: TcpListener,
    tls: TlsAcceptor,
    door: Door,
    stop: CancellationToken,
    sender: mpsc::Sender<io::Result<Connection>>,
) {
    let slots = Arc::new(Semaphore::new(HALF_OPEN));
    let guests = Arc::new(Semaphore::new(ANONYMOUS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (tcp, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the other end gave up: neither is a reason to stop serving.
                tracing::warn!(?door, %error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, sender, guests) = (tls.clone(), sender.clone(), guests.clone());
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, handshake(tcp, tls, door, address, guests)).await;
            drop(slot);
            match shaken {
                Ok(Ok(connection)) => {
                    // The receiver is gone only when the process stops.
                    let _ = sender.send(Ok(connection)).await;
                }
                Ok(Err(error)) => tracing::debug!(?door, %address, %error, "handshake failed"),
                Err(_) => tracing::debug!(?door, %address, "handshake timed out"),
            }
        });
    }
}

async fn handshake(
    tcp: TcpStream,
    tls: TlsAcceptor,
    door: Door,
    address: SocketAddr,
    guests: Arc<Semaphore>,
) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
    tcp.set_nodelay(true)?;
    let stream = tls.accept(tcp).await?;
    let (peer, certificate) = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        Some(certificate) => (Peer::from_der(certificate)?, serial_number(certificate)?),
        None => (Peer::Anonymous, String::new()),
    };
    let guest = match peer {
        Peer::Anonymous => Some(Guest {
            _place: guests.try_acquire_owned().map_err(|_| "too many connections without a certificate")?,
            leaves: Box::pin(tokio::time::sleep(ANONYMOUS_FOR)),
        }),
        _ => None,
    };
    Ok(Connection { stream: Box::new(stream), guest, caller: Caller { peer, certificate, door, address } })
}
