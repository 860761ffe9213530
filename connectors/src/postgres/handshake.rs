//! From an address to a connection that is ready for statements.
//!
//! The driver (tokio-postgres) negotiates TLS, authenticates and makes the cancel token. Then the stream is taken back from it: its
//! own reader splits what comes into messages of their own and passes them between tasks, which costs more than decoding them.
//! The stream is lent and not given, because the driver does not return it. Nothing is lost in its buffers: it stops reading at the
//! server's first ReadyForQuery, after which a server speaks only when it is asked.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::CancelToken;
use tokio_postgres::config::{Config, TargetSessionAttrs};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::answer::Fault;
use super::host::{Address, Server, Socket, servers};
use super::tls::Attempt;
use super::wire::{Duplex, Wire};

type Rustls = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotConnected {
    /// The address cannot be reached.
    #[error("error connecting to server")]
    Unreachable(#[source] io::Error),
    /// TLS or authentication failed.
    #[error(transparent)]
    Refused(tokio_postgres::Error),
    /// The session cannot be set up.
    #[error(transparent)]
    Unfit(#[from] Fault),
}

/// What a connection is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Statements.
    Statements,
    /// Commands of replication, and statements of the simple protocol only.
    Replication,
}

/// Asks the server to stop what a connection runs.
#[derive(Clone)]
pub(super) struct Canceller {
    token: CancelToken,
    config: Arc<Config>,
    server: Server,
    address: Address,
    tls: MakeRustlsConnect,
}

/// Connects to the first server that takes us and runs `session` there. `waits` bounds each address.
pub(super) async fn connect(
    config: &Config,
    attempt: &Attempt,
    session: &str,
    waits: Duration,
    protocol: Protocol,
) -> Result<Wire, NotConnected> {
    let mut config = config.clone();
    config.ssl_mode(attempt.mode);
    let config = Arc::new(config);
    let mut last = NotConnected::Unreachable(io::Error::new(io::ErrorKind::NotFound, "no address"));
    for server in servers(&config) {
        let addresses = match server.addresses().await {
            Ok(addresses) => addresses,
            Err(error) => {
                last = NotConnected::Unreachable(error);
                continue;
            }
        };
        for address in addresses {
            let reaching = reach(&config, &server, address, &attempt.tls, session, protocol);
            match tokio::time::timeout(waits, reaching).await {
                Ok(Ok(wire)) => return Ok(wire),
                Ok(Err(error)) => last = error,
                Err(_) => last = NotConnected::Unreachable(io::ErrorKind::TimedOut.into()),
            }
        }
    }
    Err(last)
}

async fn reach(
    config: &Arc<Config>,
    server: &Server,
    address: Address,
    tls: &MakeRustlsConnect,
    session: &str,
    protocol: Protocol,
) -> Result<Wire, NotConnected> {
    let socket = Socket::connect(&address, config).await.map_err(NotConnected::Unreachable)?;
    let socket = Lent::new(Some(socket), protocol);
    let encrypted = Lent::new(None, protocol);
    let connector = Keeping { rustls: connector(tls, server), stream: encrypted.clone() };
    let (client, connection) = config.connect_raw(socket.clone(), connector).await.map_err(NotConnected::Refused)?;
    let token = client.cancel_token();
    drop((client, connection));
    let stream: Box<dyn Duplex> = match encrypted.take() {
        Some(stream) => Box::new(stream),
        None => Box::new(socket.take().expect("Invariant: without TLS the driver leaves the socket where it was")),
    };
    let (config, server, tls) = (Arc::clone(config), server.clone(), tls.clone());
    let wanted = config.get_target_session_attrs();
    let mut wire = Wire::new(stream, Canceller { token, config, server, address, tls });
    if protocol == Protocol::Statements {
        check_target(&mut wire, wanted).await?;
    }
    wire.simple(session).await?;
    Ok(wire)
}

/// The url's `target_session_attrs`, asked before our own default of read-only counts.
async fn check_target(wire: &mut Wire, wanted: TargetSessionAttrs) -> Result<(), NotConnected> {
    let (read_only, complaint) = match wanted {
        TargetSessionAttrs::ReadWrite => ("off", "database does not allow writes"),
        TargetSessionAttrs::ReadOnly => ("on", "database is not read only"),
        _ => return Ok(()),
    };
    let rows = wire.query("SHOW transaction_read_only", &[]).await?;
    let shown = rows.first().map(|row| row.get::<String>(0)).transpose()?;
    match shown.as_deref() == Some(read_only) {
        true => Ok(()),
        false => Err(NotConnected::Unreachable(io::Error::new(io::ErrorKind::PermissionDenied, complaint))),
    }
}

fn connector(tls: &MakeRustlsConnect, server: &Server) -> Rustls {
    let made: Result<Rustls, _> = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls.clone(), &server.name);
    made.expect("Invariant: rustls looks at the name when it connects")
}

impl Canceller {
    /// Sends the request on a connection of its own. The server says nothing of its success.
    pub(super) async fn cancel(self) -> Result<(), NotConnected> {
        let socket = Socket::connect(&self.address, &self.config).await.map_err(NotConnected::Unreachable)?;
        let tls = connector(&self.tls, &self.server);
        self.token.cancel_query_raw(socket, tls).await.map_err(NotConnected::Refused)
    }
}

/// A stream that can be taken back from whom it was lent to.
///
/// The driver cannot ask for replication; what it says when it greets the server is amended on its way.
struct Lent<S> {
    stream: Arc<Mutex<Option<S>>>,
    greeting: Arc<Mutex<Greeting>>,
}

/// How far the greeting of a connection is, where it must be amended.
enum Greeting {
    /// Nothing is to be amended, or nothing any more.
    Plain,
    /// It was not sent yet.
    Awaited,
    /// It is being sent: the bytes, and how many are written.
    Sending(Vec<u8>, usize),
}

/// The parameter that opens a connection for replication of its database.
const REPLICATION: &[u8] = b"replication\0database\0";
/// The version in a greeting, by which it is told from a request for TLS.
const VERSION: [u8; 4] = [0, 3, 0, 0];

/// The greeting with one more parameter, where `sent` is one: its length, the version, pairs of texts and a zero.
fn amended(sent: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = sent.split_first_chunk::<4>()?;
    let whole = usize::try_from(u32::from_be_bytes(*length)).ok()? == sent.len();
    let (last, body) = rest.split_last()?;
    if !whole || !body.starts_with(&VERSION) || *last != 0 {
        return None;
    }
    let length = u32::try_from(sent.len() + REPLICATION.len()).ok()?;
    Some([&length.to_be_bytes()[..], body, REPLICATION, &[0]].concat())
}

impl<S> Lent<S> {
    fn new(stream: Option<S>, protocol: Protocol) -> Self {
        let greeting = match protocol {
            Protocol::Statements => Greeting::Plain,
            Protocol::Replication => Greeting::Awaited,
        };
        Self { stream: Arc::new(Mutex::new(stream)), greeting: Arc::new(Mutex::new(greeting)) }
    }

    fn take(&self) -> Option<S> {
        self.stream.lock().take()
    }
}

impl<S> Clone for Lent<S> {
    fn clone(&self) -> Self {
        Self { stream: Arc::clone(&self.stream), greeting: Arc::clone(&self.greeting) }
    }
}

impl<S: Unpin> Lent<S> {
    fn poll<T>(&self, poll: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.stream.lock().as_mut() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buf))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut greeting = self.greeting.lock();
        if let (Greeting::Awaited, Some(bytes)) = (&*greeting, amended(buf)) {
            *greeting = Greeting::Sending(bytes, 0);
        }
        let Greeting::Sending(bytes, written) = &mut *greeting else {
            return self.poll(|stream| stream.poll_write(cx, buf));
        };
        while *written < bytes.len() {
            match self.poll(|stream| stream.poll_write(cx, &bytes[*written..])) {
                Poll::Ready(Ok(count)) if count > 0 => *written += count,
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                waiting_or_failed => return waiting_or_failed,
            }
        }
        *greeting = Greeting::Plain;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}

impl<S: TlsStream + Unpin> TlsStream for Lent<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.lock().as_ref().map_or_else(ChannelBinding::none, TlsStream::channel_binding)
    }
}

/// Encrypts a lent socket, and lends the encrypted stream.
struct Keeping {
    rustls: Rustls,
    stream: Lent<Encrypted>,
}

type Encrypting = Pin<Box<dyn Future<Output = Result<Lent<Encrypted>, Box<dyn Error + Send + Sync>>> + Send>>;

impl TlsConnect<Lent<Socket>> for Keeping {
    type Stream = Lent<Encrypted>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Encrypting;

    fn connect(self, socket: Lent<Socket>) -> Encrypting {
        Box::pin(async move {
            let socket = socket.take().ok_or(io::ErrorKind::NotConnected).map_err(io::Error::from)?;
            let encrypted = self.rustls.connect(socket).await?;
            *self.stream.stream.lock() = Some(encrypted);
            Ok(self.stream)
        })
    }
}
