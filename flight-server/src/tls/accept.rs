//! Accepts connections.
//!
//! A client that opens a connection and says nothing costs a place among those of its door and no more: handshakes run beside one another, each with an end.

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

/// How many connections a door has at a time, at most. The next waits in the system's queue.
const CONNECTIONS_MAX: usize = 10_000;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many connections whose handshake is done wait to be served.
const WAITING_MAX: usize = 16;

/// How long to pause when the system takes no more connections, for lack of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// After how long the system asks a silent connection whether it still lives.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Accepts connections as they come, without TLS. Ends when its reader does.
pub(crate) fn accept(listener: TcpListener, door: Door) -> mpsc::Receiver<Connection> {
    let (sender, connections) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    prepare(&stream);
                    if sender.send(Connection::plain(stream, address, place)).await.is_err() {
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
) -> impl Stream<Item = io::Result<Connection>> + Send + 'static {
    let mut plain = accept(listener, door);
    let (sender, mut connections) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = plain.recv() => next,
                () = sender.closed() => None,
            };
            let Some(connection) = next else { return };
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
    let Ok((stream, again)) = connection.into_plain() else {
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
