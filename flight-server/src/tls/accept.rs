//! Accepts connections.
//!
//! A client that opens a connection and says nothing costs a place among those of its door and no more: handshakes run beside one another, each with an end, and so does what
//! a client says first. Beyond the places that a door has, a few more clients come in for a moment to be told so: nobody waits for a place without a word.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{Connection, Door, Tls};

/// How many connections a door has at a time that counts none itself. The next waits in the system's queue.
pub(crate) const CONNECTIONS_MAX: usize = 10_000;

/// How many more there are for a moment, to be told that there is no place.
const BEYOND_MAX: usize = 1_000;

/// How long a handshake may take, and what a client says first.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection without a place may last.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client of HTTP/2 says first, in bytes.
const PREFACE_BYTES: usize = 24;

/// How many connections whose handshake is done wait to be served.
const WAITING_MAX: usize = 16;

/// How long to pause when the system takes no more connections, for lack of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// After how long the system asks a silent connection whether it still lives.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Accepts connections as they come, without TLS; those beyond the limit are marked, and end by themselves. Ends when its reader does.
pub(crate) fn accept(listener: TcpListener, door: Door, connections_max: usize) -> mpsc::Receiver<Connection> {
    let (sender, connections) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let sockets = connections_max.saturating_add(BEYOND_MAX).min(Semaphore::MAX_PERMITS);
        let sockets = Arc::new(Semaphore::new(sockets));
        let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        loop {
            let Ok(socket) = Arc::clone(&sockets).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    prepare(&stream);
                    let place = Arc::clone(&places).try_acquire_owned().ok();
                    let mut connection = Connection::plain(stream, address, socket, place);
                    if connection.origin().is_beyond() {
                        connection.ends_in(BEYOND_TIMEOUT);
                    }
                    if sender.send(connection).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    warn!(door = door.name(), %error, "a connection can't be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
    connections
}

/// Accepts connections, with TLS where there is a certificate. What does not finish its handshake never comes out.
pub(crate) fn secured(
    listener: TcpListener,
    door: Door,
    tls: Option<Arc<Tls>>,
    connections_max: usize,
) -> impl Stream<Item = io::Result<Connection>> + Send + 'static {
    let mut plain = accept(listener, door, connections_max);
    let (sender, mut connections) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = plain.recv() => next,
                () = sender.closed() => None,
            };
            let Some(mut connection) = next else { return };
            if door == Door::Flight {
                connection.says_within(PREFACE_BYTES, HANDSHAKE_TIMEOUT);
            }
            let Some(tls) = &tls else {
                if sender.send(connection).await.is_err() {
                    return;
                }
                continue;
            };
            let (sender, tls) = (sender.clone(), Arc::clone(tls));
            tokio::spawn(async move {
                match handshake(connection, door, &tls).await {
                    Ok(connection) => {
                        let _reader_is_gone = sender.send(connection).await;
                    }
                    Err(error) => debug!(door = door.name(), %error, "a handshake failed"),
                }
            });
        }
    });
    futures::stream::poll_fn(move |cx| connections.poll_recv(cx).map(|connection| connection.map(Ok)))
}

/// Begins TLS on a connection, with the certificate that is in force now.
pub(crate) async fn handshake(connection: Connection, door: Door, tls: &Tls) -> io::Result<Connection> {
    let Some((stream, again)) = connection.into_plain() else {
        return Err(io::Error::other("the connection speaks TLS already"));
    };
    let acceptor = TlsAcceptor::from(tls.config(door));
    let secured = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    Ok(again(secured.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??))
}

fn prepare(stream: &TcpStream) {
    // Neither is worth refusing a connection for.
    let _delayed = stream.set_nodelay(true);
    let _unasked = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
}
