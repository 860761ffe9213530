//! A connection, with TLS or without, and where it comes from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::Door;
use crate::auth::Peer;

/// A connection that was accepted.
pub(crate) struct Connection {
    stream: Stream,
    origin: Origin,
    patience: Option<Patience>,
    /// What the door has of sockets and of places for clients.
    held: Held,
}

struct Held {
    _socket: OwnedSemaphorePermit,
    _place: Option<OwnedSemaphorePermit>,
}

/// How long is waited for what the client says.
struct Patience {
    until: Pin<Box<Sleep>>,
    /// After so many bytes there is no hurry any more.
    missing: usize,
}

enum Stream {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

/// Where a connection comes from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    address: IpAddr,
    certificate: Option<CertificateDer<'static>>,
    place: Place,
}

/// Whether there was a place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Taken,
    Beyond,
}

impl Origin {
    /// Whether the door had as many connections as it may when this one came.
    pub(crate) fn is_beyond(&self) -> bool {
        self.place == Place::Beyond
    }

    /// The origin of a request that came through a door.
    pub(crate) fn peer(&self, door: Door) -> Peer {
        Peer { address: self.address, door: door.name(), certificate: self.certificate.clone() }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), certificate: None, place: Place::Taken }
    }
}

impl Connection {
    pub(crate) fn plain(
        stream: TcpStream,
        address: SocketAddr,
        socket: OwnedSemaphorePermit,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let is_taken = if place.is_some() { Place::Taken } else { Place::Beyond };
        let origin = Origin { address: address.ip(), certificate: None, place: is_taken };
        let held = Held { _socket: socket, _place: place };
        Self { stream: Stream::Plain(stream), origin, patience: None, held }
    }

    /// Ends the connection after this time, whatever is said on it.
    pub(crate) fn ends_in(&mut self, time: Duration) {
        self.says_within(usize::MAX, time);
    }

    /// Ends the connection where the client has not said so many bytes after this time. What was asked before holds on.
    pub(crate) fn says_within(&mut self, bytes: usize, time: Duration) {
        if self.patience.is_none() {
            self.patience = Some(Patience { until: Box::pin(tokio::time::sleep(time)), missing: bytes });
        }
    }

    pub(crate) fn is_secured(&self) -> bool {
        matches!(self.stream, Stream::Secured(_))
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Takes the plain connection out, to begin TLS on it; `None` where it has begun already.
    pub(crate) fn into_plain(self) -> Option<(TcpStream, impl FnOnce(TlsStream<TcpStream>) -> Self)> {
        let Self { stream, origin, patience, held } = self;
        match stream {
            Stream::Plain(stream) => {
                let again = move |secured: TlsStream<TcpStream>| {
                    let certificate = secured.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    let certificate = certificate.map(|certificate| certificate.clone().into_owned());
                    let origin = Origin { certificate, ..origin };
                    Self { stream: Stream::Secured(Box::new(secured)), origin, patience, held }
                };
                Some((stream, again))
            }
            Stream::Secured(_) => None,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        self.origin.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.patience.as_mut().is_some_and(|patience| patience.until.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Secured(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        };
        let came = buffer.filled().len() - before;
        if let Some(patience) = &mut self.patience {
            patience.missing = patience.missing.saturating_sub(came);
        }
        self.patience.take_if(|patience| patience.missing == 0);
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Secured(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Secured(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Secured(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Secured(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Secured(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
