//! Where a server is, and the socket to it. A connection and the request that cancels its statement go to the same address.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpStream, lookup_host};
use tokio_postgres::config::{Config, Host, LoadBalanceHosts};

/// One of a source's servers.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// The name that a certificate must bear; empty where none is known.
    pub(super) name: String,
    reached: Reached,
    port: u16,
}

#[derive(Debug, Clone)]
enum Reached {
    /// A name or an address.
    Tcp(String),
    /// The directory of a unix socket.
    Unix(PathBuf),
}

/// One address of a server.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
}

/// The servers of a configuration, in the order in which they are tried.
pub(super) fn servers(config: &Config) -> Vec<Server> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let server = |index: usize| {
        let (name, named) = match hosts.get(index) {
            Some(Host::Tcp(name)) => (name.clone(), Some(Reached::Tcp(name.clone()))),
            Some(Host::Unix(path)) => (String::new(), Some(Reached::Unix(path.clone()))),
            None => (String::new(), None),
        };
        let reached = addresses.get(index).map(|address| Reached::Tcp(address.to_string())).or(named)?;
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        Some(Server { name, reached, port })
    };
    let mut servers: Vec<Server> = (0..count).filter_map(server).collect();
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random && !servers.is_empty() {
        // In turn spreads connections as well as chance does.
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let first = TURN.fetch_add(1, Ordering::Relaxed) % servers.len();
        servers.rotate_left(first);
    }
    servers
}

impl Server {
    /// Its addresses, looked up now.
    pub(super) async fn addresses(&self) -> io::Result<Vec<Address>> {
        Ok(match &self.reached {
            Reached::Tcp(host) => lookup_host((host.as_str(), self.port)).await?.map(Address::Tcp).collect(),
            Reached::Unix(directory) => vec![Address::Unix(directory.join(format!(".s.PGSQL.{}", self.port)))],
        })
    }
}

/// A connection to a server, before any byte was sent.
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    /// Connects.
    pub(super) async fn connect(address: &Address, config: &Config) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                watch(&stream, config)?;
                Ok(Self::Tcp(stream))
            }
            #[cfg(unix)]
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "there are no unix sockets here")),
        }
    }
}

/// Has the operating system find out that a silent server is gone.
fn watch(stream: &TcpStream, config: &Config) -> io::Result<()> {
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    if let Some(limit) = config.get_tcp_user_timeout() {
        socket.set_tcp_user_timeout(Some(*limit))?;
    }
    if !config.get_keepalives() {
        return Ok(());
    }
    let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        keepalive = keepalive.with_interval(interval);
    }
    #[cfg(unix)]
    if let Some(retries) = config.get_keepalives_retries() {
        keepalive = keepalive.with_retries(retries);
    }
    socket.set_tcp_keepalive(&keepalive)
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
