//! The Postgres protocol, version 3: psql, JDBC, ODBC, psycopg, asyncpg and whatever speaks it.
//!
//! A connection is a session: what it SETs holds until it ends. A query is planned when it is parsed or bound, runs on threads that serve no
//! connection, and its rows leave as they are computed and as fast as the client reads. A client that leaves, or cancels, stops its statements at the sources.
//!
//! - `wire` reads and writes messages; `startup` is TLS and who it is; `session` answers messages; `run` is a running query.
//! - `types`, `encode` and `decode` are values in both formats; `copy` those of COPY.
//! - `command` is what is answered here and not asked of the engine: transactions, settings, COPY.
//! - `catalog` is `pg_catalog` and `information_schema` over what the engine knows of its tables.
//!
//! # Promised
//! Binary and text results, portals that give so many rows at a time, cancelling, errors with SQLSTATE, hint and position. The gate is asked with every
//! message that runs or describes something.
//!
//! # Refused
//! Writes, by the engine; transactions that promise one state for several statements, which there is not; functions (the message), LISTEN, cursors in SQL.
//!
//! Rejected: the crate `pgwire`, whose messages have no bound of their size before a user is known, and `datafusion-pg-catalog`, which rewrites every statement and
//! answers some with canned rows. Here a statement that asks the catalog is answered by an evaluator of its own, and no other is touched.

mod cancel;
mod catalog;
mod command;
mod copy;
mod decode;
mod encode;
mod error;
mod numeric;
mod run;
mod session;
mod settings;
mod startup;
mod time;
mod types;
mod wire;
mod written;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use headwater::Engine;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tracing::{debug, info};

use crate::Security;
use crate::auth::Gate;
use crate::detached::{FAREWELL, Queries, Threads};
use crate::tls::{CONNECTIONS_MAX, Connection, Door, Tls, accept};
use cancel::Cancels;
use session::Session;
use wire::Wire;

/// What the server takes of its clients.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long running statements may go on once the server is to stop. Default 10 s.
    pub drain: Duration,
    /// Connections at a time, at most. Default 1,000.
    pub connections: usize,
    /// How long a client may take until it is known. Default 20 s.
    pub startup: Duration,
    /// Bytes of one message of a client that is known, at most. Default 16 MiB.
    pub message_bytes: usize,
    /// Prepared statements of a connection, at most; and portals. Default 1,000.
    pub statements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(10),
            connections: 1_000,
            startup: Duration::from_secs(20),
            message_bytes: 16 << 20,
            statements: 1_000,
        }
    }
}

/// What the connections of a server share.
struct Server {
    engine: Engine,
    gate: Gate,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    cancels: Cancels,
    threads: Threads,
}

/// Serves an engine on a listener until `shutdown` completes. Then running statements may finish within [`Limits::drain`].
///
/// # Errors
/// When the threads that queries run on can't be started.
pub async fn serve(
    engine: Engine,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    limits: Limits,
    security: Security,
) -> std::io::Result<()> {
    let queries = Queries::start()?;
    let places = Arc::new(Semaphore::new(limits.connections));
    let (drain, connections) = (limits.drain, u32::try_from(limits.connections).unwrap_or(u32::MAX));
    let server = Arc::new(Server {
        engine,
        gate: security.gate,
        tls: security.tls,
        limits,
        cancels: Cancels::default(),
        threads: queries.threads().clone(),
    });
    let (stop, stopped) = watch::channel(Stage::Serving);
    let mut accepted = accept(listener, Door::Postgres, CONNECTIONS_MAX);
    tokio::pin!(shutdown);
    loop {
        let connection = tokio::select! {
            connection = accepted.recv() => connection,
            () = &mut shutdown => break,
        };
        let Some(connection) = connection else { break };
        let (server, stopped) = (Arc::clone(&server), stopped.clone());
        // Without a place the client is told so, once it is known what it wants: a request to cancel needs none.
        let place = Arc::clone(&places).try_acquire_owned().ok();
        tokio::spawn(async move {
            let has_place = place.is_some();
            serve_connection(&server, connection, has_place, stopped).await;
            drop(place);
        });
    }
    drop(accepted);
    stop.send_replace(Stage::Draining);
    info!(drain_ms = drain.as_millis(), "stopping: running statements may finish");
    // All places are free once every connection has ended.
    let mut cut_off = None;
    if tokio::time::timeout(drain, places.acquire_many(connections)).await.is_err() {
        stop.send_replace(Stage::CutOff);
        let _ended = tokio::time::timeout(FAREWELL, places.acquire_many(connections)).await;
        cut_off = Some(tokio::time::Instant::now());
    }
    // The process may end with this function, and with it the requests that stop what was cut off at its sources.
    queries.farewell(cut_off).await;
    Ok(())
}

/// What the server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// Idle connections end, and the others with the statement that they run.
    Draining,
    /// Statements end too.
    CutOff,
}

async fn serve_connection(
    server: &Arc<Server>,
    connection: Connection,
    has_place: bool,
    stopped: watch::Receiver<Stage>,
) {
    let wire = Wire::new(connection);
    let known = tokio::time::timeout(server.limits.startup, startup::start(server, wire, has_place)).await;
    let started = match known {
        Ok(Ok(Some(started))) => started,
        // A request to cancel, or a client that was told why it may not come in.
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return debug!(%error, "a Postgres client left before it was known"),
        Err(_) => return debug!("a Postgres client did not say in time who it is"),
    };
    if let Err(error) = Session::new(server, started).serve(stopped).await {
        debug!(%error, "a Postgres connection ended early");
    }
}
