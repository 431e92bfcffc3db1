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
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use windlass_proto::tls::{Challenge, Peer, serial_number};

use crate::guests::{Guests, Place};

/// A handshake that takes longer is cut: slow senders hold no slot for long.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way at once, per listener; further connections wait in the kernel's queue.
const HALF_OPEN: usize = 256;
/// How long a connection without a certificate, which may only enrol, may stay.
const GUEST_FOR: Duration = Duration::from_secs(30);
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
    /// What a CSR must name to enrol over this connection.
    pub challenge: Challenge,
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
    _place: Place,
    leaves: Pin<Box<Sleep>>,
}

/// The connections of one door.
#[derive(Debug)]
pub struct Accepted {
    /// Those whose peer is known.
    pub members: ReceiverStream<io::Result<Connection>>,
    /// Those without a certificate.
    pub guests: ReceiverStream<io::Result<Connection>>,
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

/// Accepts until `stop`; the streams end then.
pub fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    door: Door,
    guests: Guests,
    stop: CancellationToken,
) -> Accepted {
    let ((to_members, members), (to_guests, guests_in)) = (mpsc::channel(ACCEPTED), mpsc::channel(ACCEPTED));
    let reception = Reception { tls: TlsAcceptor::from(tls), door, guests, to_members, to_guests };
    tokio::spawn(accept_loop(listener, Arc::new(reception), stop));
    Accepted { members: ReceiverStream::new(members), guests: ReceiverStream::new(guests_in) }
}

/// What every new connection goes through.
struct Reception {
    tls: TlsAcceptor,
    door: Door,
    guests: Guests,
    to_members: mpsc::Sender<io::Result<Connection>>,
    to_guests: mpsc::Sender<io::Result<Connection>>,
}

async fn accept_loop(listener: TcpListener, reception: Arc<Reception>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(HALF_OPEN));
    let door = reception.door;
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
        let reception = Arc::clone(&reception);
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, reception.handshake(tcp, address)).await;
            drop(slot);
            match shaken {
                Ok(Ok(connection)) => {
                    let to = match connection.guest {
                        Some(_) => &reception.to_guests,
                        None => &reception.to_members,
                    };
                    // The receiver is gone only when the process stops.
                    let _ = to.send(Ok(connection)).await;
                }
                Ok(Err(error)) => tracing::debug!(?door, %address, %error, "handshake failed"),
                Err(_) => tracing::debug!(?door, %address, "handshake timed out"),
            }
        });
    }
}

impl Reception {
    async fn handshake(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
    ) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
        tcp.set_nodelay(true)?;
        let stream = self.tls.accept(tcp).await?;
        let (peer, certificate) = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) => (Peer::from_der(certificate)?, serial_number(certificate)?),
            None => (Peer::Anonymous, String::new()),
        };
        let guest = match peer {
            Peer::Anonymous => Some(Guest {
                _place: self
                    .guests
                    .enter(address.ip())
                    .ok_or("too many connections without a certificate")?,
                leaves: Box::pin(tokio::time::sleep(GUEST_FOR)),
            }),
            _ => None,
        };
        let caller = Caller { peer, certificate, door: self.door, address, challenge: Challenge::draw()? };
        Ok(Connection { stream: Box::new(stream), guest, caller })
    }
}
