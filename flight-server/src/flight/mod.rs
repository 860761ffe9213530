//! The Flight SQL server: gRPC in, record batches out.
//!
//! A statement is planned when its [`FlightInfo`](arrow_flight::FlightInfo) is asked for and runs when its ticket is fetched, as fast as the
//! client reads, on threads that serve no connection; a client that leaves stops it at the sources. A ticket is good for one fetch; a large answer in no order has several, which share its rows. Everything that the server keeps for
//! a client (tickets, prepared statements, sessions) has a random name of 122 bits, a bound on how many there may be, and an end:
//! see [`Limits`].
//!
//! # Sessions
//! gRPC has no connection that a server could hang settings on, so a session is what a cookie names: every answer to a client
//! that sent none offers the cookie `arrow_flight_session_id`, and `SET` holds for the requests that carry it. A client that keeps no
//! cookies gets an error for its `SET`, not a setting that is forgotten. (In ADBC the cookies are switched on by the
//! database option `adbc.flight.sql.rpc.with_cookie_middleware`; the JDBC driver always keeps them.)
//!
//! # Who asks
//! The gate ([`crate::auth`]) is asked with every call, by the header `authorization` (Basic or Bearer) or the client's certificate. Handshake answers a
//! password with a token that stands for it. Tickets, prepared statements and sessions are of the principal that made them, and are not there for any other.
//!
//! # Refused
//! Writes, transactions and Substrait plans, by name. A panic in a request is that request's INTERNAL error and the server goes on.
//!
//! Rejected: arrow-flight's own dispatch alone (it leaves GetSchema out and advertises actions that we do not have), and executing
//! at planning time (the rows of a client that never fetches would fill the memory).

mod actions;
mod answers;
mod error;
mod info;
mod metadata;
mod options;
pub(crate) mod parameters;
mod polled;
mod prepared;
mod queries;
mod rpc;
mod running;
mod service;
pub(crate) mod session;
mod spread;
mod statements;
mod store;
mod stream;

use std::future::Future;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::FlightServiceServer;
use headwater::Engine;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tracing::info;

use crate::Security;
use crate::detached::Queries;
use crate::tls::{Door, secured};
use rpc::Rpc;
use service::Service;

/// What the server keeps and for how long.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long running statements may go on once the server is to stop. Default 10 s.
    pub drain: Duration,
    /// Connections at a time, at most; requests on one more are refused with RESOURCE_EXHAUSTED. Default 5,000.
    pub connections: usize,
    /// Tickets that wait to be fetched, at most. Default 10,000.
    pub tickets: usize,
    /// How long a ticket waits to be fetched. Default 5 minutes.
    pub ticket_life: Duration,
    /// Prepared statements, at most. Default 10,000.
    pub prepared: usize,
    /// How long a prepared statement lives unused. Default 1 hour.
    pub prepared_idle: Duration,
    /// Sessions with settings, at most. Default 10,000.
    pub sessions: usize,
    /// How long a session lives unused. Default 1 hour.
    pub session_idle: Duration,
    /// Rows of parameters that may be bound to a prepared statement, at most. Default 10,000.
    pub parameter_rows: usize,
    /// Bytes of one message of a client, at most. Default 16 MiB.
    pub message_bytes: usize,
    /// From how many rows, as the planner estimates them, GetFlightInfo gives several endpoints where they are in no order. Default 1,000,000.
    pub spread_rows: usize,
    /// Statements that are polled, at most. Default 1,000.
    pub polled: usize,
    /// Rows of an endpoint of a statement that is polled, at most. Default 1,000,000.
    pub endpoint_rows: usize,
    /// Bytes of such an endpoint, more or less. Default 16 MiB.
    pub endpoint_bytes: usize,
    /// Bytes of endpoints of one polled statement that wait to be fetched, at most. Default 64 MiB.
    pub polled_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(10),
            connections: 5_000,
            tickets: 10_000,
            ticket_life: Duration::from_secs(5 * 60),
            prepared: 10_000,
            prepared_idle: Duration::from_secs(60 * 60),
            sessions: 10_000,
            session_idle: Duration::from_secs(60 * 60),
            parameter_rows: 10_000,
            message_bytes: 16 << 20,
            spread_rows: 1_000_000,
            polled: 1_000,
            endpoint_rows: 1_000_000,
            endpoint_bytes: 16 << 20,
            polled_bytes: 64 << 20,
        }
    }
}

/// Why serving ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The threads that queries run on can't be started.
    #[error("the threads for queries can't be started")]
    Threads(#[source] std::io::Error),
    /// The listener or the HTTP/2 layer failed.
    #[error("the transport failed")]
    Transport(#[source] tonic::transport::Error),
}

/// How often a silent connection is asked whether it still lives.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long a connection may take to answer that.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How often what has expired is let go.
const SWEEP: Duration = Duration::from_secs(30);

/// How long connections may take to close once their statements have been cut off.
const CLOSE: Duration = Duration::from_secs(1);

/// Serves an engine on a listener until `shutdown` completes, with the default [`Limits`].
///
/// Then no more connections are taken, running statements may finish within [`Limits::drain`], and those that do not end with
/// UNAVAILABLE; subscriptions, which have no end, at once.
///
/// # Errors
/// When the threads can't be started or the transport fails.
pub async fn serve(
    engine: Engine,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    serve_with(engine, listener, shutdown, Limits::default()).await
}

/// Serves an engine as [`serve`] does, with other limits.
///
/// # Errors
/// When the threads can't be started or the transport fails.
pub async fn serve_with(
    engine: Engine,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
    limits: Limits,
) -> Result<(), ServeError> {
    serve_secured(engine, listener, shutdown, limits, Security::default()).await
}

/// Serves an engine as [`serve_with`] does, to those whom its gate lets in, and over TLS where there is a certificate.
///
/// # Errors
/// When the threads can't be started or the transport fails.
pub async fn serve_secured(
    engine: Engine,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
    limits: Limits,
    security: Security,
) -> Result<(), ServeError> {
    let Limits { drain, message_bytes, connections, .. } = limits;
    let queries = Queries::start().map_err(ServeError::Threads)?;
    let (cut, cut_off) = watch::channel(false);
    let (stopping, is_stopping) = watch::channel(false);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = Service::new(engine, &limits, queries.threads().clone(), is_stopping, cut_off);
    let flight = FlightServiceServer::new(Rpc::new(service.clone(), security.gate, connections))
        .max_decoding_message_size(message_bytes)
        .max_encoding_message_size(usize::MAX);
    let incoming = secured(listener, Door::Flight, security.tls, connections);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(flight)
        .serve_with_incoming_shutdown(incoming, async {
            // An error says that the sender is gone: that is a stop as well.
            let _gone = stopped.await;
        });
    tokio::pin!(server, shutdown);
    tokio::select! {
        result = &mut server => return result.map_err(ServeError::Transport),
        () = sweep(&service) => {}
        () = &mut shutdown => {}
    }
    info!(drain_ms = drain.as_millis(), "stopping: running statements may finish");
    stopping.send_replace(true);
    drop(stop);
    tokio::select! {
        result = &mut server => {
            // A client may have left just now.
            queries.farewell(None).await;
            return result.map_err(ServeError::Transport);
        }
        () = tokio::time::sleep(drain) => {}
    }
    cut.send_replace(true);
    let closed = match tokio::time::timeout(CLOSE, &mut server).await {
        Ok(result) => result.map_err(ServeError::Transport),
        // A client holds its connection open; there is nothing left to send on it.
        Err(_) => Ok(()),
    };
    // The threads end with this function, and with them the requests that stop what was cut off at its sources.
    queries.farewell(Some(tokio::time::Instant::now())).await;
    closed
}

/// Lets go of what has expired, for ever.
async fn sweep(service: &Service) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        service.sweep(Instant::now());
    }
}
