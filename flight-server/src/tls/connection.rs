//! A connection, with TLS or without, and where it comes from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::Door;
use crate::auth::Peer;

/// A connection that was accepted.
pub(crate) struct Connection {
    stream: Stream,
    origin: Origin,
    /// One of the connections that the door may have.
    _place: Arc<OwnedSemaphorePermit>,
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
}

impl Origin {
    /// The origin of a request that came through a door.
    pub(crate) fn peer(&self, door: Door) -> Peer {
        Peer { address: self.address, door: door.name(), certificate: self.certificate.clone() }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), certificate: None }
    }
}

impl Connection {
    pub(crate) fn plain(stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) -> Self {
        let origin = Origin { address: address.ip(), certificate: None };
        Self { stream: Stream::Plain(stream), origin, _place: Arc::new(place) }
    }

    pub(crate) fn is_secured(&self) -> bool {
        matches!(self.stream, Stream::Secured(_))
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Takes the plain connection out, to begin TLS on it; the connection itself where it has begun already.
    pub(crate) fn into_plain(self) -> Result<(TcpStream, impl FnOnce(TlsStream<TcpStream>) -> Self), Self> {
        let Self { stream, origin, _place: place } = self;
        match stream {
            Stream::Plain(stream) => {
                let again = move |secured: TlsStream<TcpStream>| {
                    let certificate = secured.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    let certificate = certificate.map(|certificate| certificate.clone().into_owned());
                    let origin = Origin { certificate, ..origin };
                    Self { stream: Stream::Secured(Box::new(secured)), origin, _place: place }
                };
                Ok((stream, again))
            }
            stream @ Stream::Secured(_) => Err(Self { stream, origin, _place: place }),
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
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Secured(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
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
